/* WmiPrvSE.exe: the process in which the endpoint's CIM providers touch the Win32
 * API. It reads requests "ID VERB WORD..." on standard input, serves each on a
 * thread of its own (starting a service may take half a minute) and answers
 * "ID + WORD..." for every record and "ID = CODE WORD..." at the end. It ends at the
 * end of its input. */
#include "provider.h"
#include <stdarg.h>

static CRITICAL_SECTION output;

wchar_t *word(const struct request *r, int at)
{
    return at < r->argc ? text_decode(r->argv[at]) : NULL;
}

unsigned long number(const struct request *r, int at)
{
    return at < r->argc ? strtoul(r->argv[at], NULL, 0) : 0;
}

void record(const struct request *r, const char *format, ...)
{
    va_list args;

    EnterCriticalSection(&output);
    printf("%s + ", r->id);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    LeaveCriticalSection(&output);
}

void done(const struct request *r, unsigned long code, const char *format, ...)
{
    va_list args;

    EnterCriticalSection(&output);
    printf("%s = %lu ", r->id, code);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    LeaveCriticalSection(&output);
}

static DWORD WINAPI serve(void *argument)
{
    struct request *r = argument;

    if (!strcmp(r->verb, "ping"))
        done(r, 0, "");
    else if (!serve_services(r) && !serve_processes(r) && !serve_registry(r))
        done(r, ERROR_INVALID_FUNCTION, "");
    free(r->line);
    free(r);
    return 0;
}

/* parse cuts a line into a request; NULL for a line that is none. */
static struct request *parse(const char *line)
{
    struct request *r = calloc(1, sizeof *r);
    char *next;

    r->line = _strdup(line);
    r->id = strtok(r->line, " \r\n");
    r->verb = strtok(NULL, " \r\n");
    while (r->argc < 24 && (next = strtok(NULL, " \r\n")))
        r->argv[r->argc++] = next;
    if (r->id && r->verb)
        return r;
    free(r->line);
    free(r);
    return NULL;
}

int main(void)
{
    static char line[1 << 20];

    InitializeCriticalSection(&output);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    while (fgets(line, sizeof line, stdin)) {
        struct request *r = parse(line);
        HANDLE thread;
        if (!r)
            continue;
        thread = CreateThread(NULL, 0, serve, r, 0, NULL);
        if (thread)
            CloseHandle(thread);
        else
            serve(r);
    }
    return 0;
}
