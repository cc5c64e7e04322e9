#include "settings.h"
#include "text.h"
#include <stdio.h>

void status_of_dead(SERVICE_STATUS_PROCESS *s)
{
    HANDLE process;

    if (s->dwCurrentState == SERVICE_STOPPED || !s->dwProcessId)
        return;
    process = OpenProcess(SYNCHRONIZE, FALSE, s->dwProcessId);
    if (!process || !WaitForSingleObject(process, 0)) {
        s->dwCurrentState = SERVICE_STOPPED;
        s->dwControlsAccepted = s->dwProcessId = 0;
        s->dwWin32ExitCode = ERROR_PROCESS_ABORTED;
    }
    if (process)
        CloseHandle(process);
}

DWORD control(SC_HANDLE service, DWORD code)
{
    SERVICE_STATUS status;
    DWORD failed = ControlService(service, code, &status) ? 0 : GetLastError();

    /* That is what Wine says of a service whose process has died. */
    return failed == ERROR_NO_DATA ? ERROR_SERVICE_NOT_ACTIVE : failed;
}

void journal(const char *verb, const wchar_t *name)
{
    HANDLE file = CreateFileW(L"C:\\windows\\system32\\LogFiles\\effects.log", FILE_APPEND_DATA,
                              FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, 0, NULL);
    char line[2048], *word = text_encode(name);
    FILETIME now;
    DWORD size;

    GetSystemTimePreciseAsFileTime(&now);
    size = snprintf(line, sizeof line, "%llu sc %s %s\n",
                    ((ULONGLONG)now.dwHighDateTime << 32) | now.dwLowDateTime, verb, word);
    free(word);
    if (file == INVALID_HANDLE_VALUE)
        return;
    WriteFile(file, line, size, &size, NULL);
    CloseHandle(file);
}

static HKEY open_key(const wchar_t *name)
{
    wchar_t path[512];
    HKEY key = NULL;

    swprintf(path, 512, L"SYSTEM\\CurrentControlSet\\Services\\%ls", name);
    return RegOpenKeyExW(HKEY_LOCAL_MACHINE, path, 0, KEY_READ | KEY_WRITE, &key) ? NULL : key;
}

/* choose is the number that stands beside a word, or -1. */
static int choose(const wchar_t *word, const wchar_t *const words[], const int numbers[])
{
    int i;

    for (i = 0; words[i]; i++)
        if (!_wcsicmp(word, words[i]))
            return numbers[i];
    return -1;
}

static int parse_start(struct options *o, const wchar_t *value)
{
    static const wchar_t *const words[] = {L"boot", L"system", L"auto", L"demand", L"disabled", L"delayed-auto", NULL};
    static const int numbers[] = {0, 1, 2, 3, 4, 2};
    int start = choose(value, words, numbers);

    o->start = start;
    o->delayed = !_wcsicmp(value, L"delayed-auto");
    return start >= 0;
}

static int parse_type(struct options *o, const wchar_t *value)
{
    static const wchar_t *const words[] = {L"own", L"share", NULL};
    static const int numbers[] = {SERVICE_WIN32_OWN_PROCESS, SERVICE_WIN32_SHARE_PROCESS};
    int type = choose(value, words, numbers);

    o->type = type;
    return type >= 0;
}

static int parse_error(struct options *o, const wchar_t *value)
{
    static const wchar_t *const words[] = {L"ignore", L"normal", L"severe", L"critical", NULL};
    static const int numbers[] = {0, 1, 2, 3};
    int error = choose(value, words, numbers);

    o->error = error;
    return error >= 0;
}

int options_parse(struct options *o, int argc, wchar_t **argv)
{
    int i, ok = 1;

    memset(o, 0, sizeof *o);
    o->type = o->start = o->error = SERVICE_NO_CHANGE;
    o->delayed = -1;
    for (i = 0; ok && i < argc; i += 2) {
        wchar_t *key = argv[i], *value = argv[i + 1];
        if (i + 1 >= argc)
            return 0;
        if (!_wcsicmp(key, L"start="))
            ok = parse_start(o, value);
        else if (!_wcsicmp(key, L"type="))
            ok = parse_type(o, value);
        else if (!_wcsicmp(key, L"error="))
            ok = parse_error(o, value);
        else if (!_wcsicmp(key, L"binpath="))
            o->path = value;
        else if (!_wcsicmp(key, L"displayname="))
            o->display = value;
        else if (!_wcsicmp(key, L"obj="))
            o->account = value;
        else if (!_wcsicmp(key, L"password="))
            o->password = value;
        else if (!_wcsicmp(key, L"depend="))
            o->depend = value;
        else
            ok = 0;
    }
    return ok;
}

/* set_dependencies stores "A/B/C" as a list of strings; "" and "/" clear it. */
static void set_dependencies(HKEY key, const wchar_t *text)
{
    wchar_t list[2048] = L"";
    size_t i, n = wcslen(text);

    if (n == 0 || !wcscmp(text, L"/") || n + 2 > 2048) {
        RegDeleteValueW(key, L"DependOnService");
        return;
    }
    for (i = 0; i < n; i++)
        list[i] = text[i] == '/' ? 0 : text[i];
    list[n] = list[n + 1] = 0;
    RegSetValueExW(key, L"DependOnService", 0, REG_MULTI_SZ, (BYTE *)list, (n + 2) * sizeof *list);
}

void settings_apply(const wchar_t *name, const struct options *o)
{
    HKEY key = open_key(name);
    DWORD delayed = o->delayed;

    if (!key)
        return;
    if (o->delayed >= 0)
        RegSetValueExW(key, L"DelayedAutostart", 0, REG_DWORD, (BYTE *)&delayed, sizeof delayed);
    if (o->depend)
        set_dependencies(key, o->depend);
    RegCloseKey(key);
}

void settings_restore(const wchar_t *name, wchar_t *dependencies)
{
    HKEY key = open_key(name);
    const wchar_t *end = dependencies;

    if (key && dependencies) {
        while (*end)
            end += wcslen(end) + 1;
        RegSetValueExW(key, L"DependOnService", 0, REG_MULTI_SZ, (BYTE *)dependencies,
                       (end - dependencies + 1) * sizeof *end);
    }
    RegCloseKey(key);
    free(dependencies);
}

DWORD settings_change(SC_HANDLE service, const wchar_t *name, const struct options *o)
{
    wchar_t *dependencies = settings_dependencies(name);
    DWORD code = ChangeServiceConfigW(service, o->type, o->start, o->error, o->path, NULL, NULL, NULL, o->account,
                                      o->password, o->display) ? 0 : GetLastError();

    settings_restore(name, dependencies);
    if (!code)
        settings_apply(name, o);
    return code;
}

int settings_delayed(const wchar_t *name)
{
    HKEY key = open_key(name);
    DWORD delayed = 0, size = sizeof delayed;

    RegQueryValueExW(key, L"DelayedAutostart", NULL, NULL, (BYTE *)&delayed, &size);
    RegCloseKey(key);
    return delayed == 1;
}

wchar_t *settings_dependencies(const wchar_t *name)
{
    HKEY key = open_key(name);
    DWORD size = 0;
    wchar_t *list = NULL;

    if (key && !RegQueryValueExW(key, L"DependOnService", NULL, NULL, NULL, &size)) {
        list = calloc(1, size + 2 * sizeof *list);
        RegQueryValueExW(key, L"DependOnService", NULL, NULL, (BYTE *)list, &size);
    }
    RegCloseKey(key);
    return list;
}

/* The layout of the registry value FailureActions, as Windows writes it. */
struct stored {
    DWORD reset, reboot, command, count, offset;
    struct action actions[8];
};

void settings_failure(const wchar_t *name, struct failure *f)
{
    HKEY key = open_key(name);
    struct stored s = {0};
    DWORD size = sizeof s, command = sizeof f->command, reboot = sizeof f->reboot;

    memset(f, 0, sizeof *f);
    if (!key)
        return;
    RegQueryValueExW(key, L"FailureActions", NULL, NULL, (BYTE *)&s, &size);
    RegQueryValueExW(key, L"FailureCommand", NULL, NULL, (BYTE *)f->command, &command);
    RegQueryValueExW(key, L"RebootMessage", NULL, NULL, (BYTE *)f->reboot, &reboot);
    f->reset = s.reset;
    f->count = s.count > 8 ? 8 : s.count;
    memcpy(f->actions, s.actions, sizeof f->actions);
    RegCloseKey(key);
}

/* parse_actions reads "restart/60000/reboot/1000/run/0/""/0". */
static int parse_actions(struct failure *f, wchar_t *text)
{
    static const wchar_t *const words[] = {L"", L"restart", L"reboot", L"run", NULL};
    static const int numbers[] = {0, 1, 2, 3};

    f->count = 0;
    while (*text && f->count < 8) {
        wchar_t *slash = wcschr(text, '/');
        int type;
        if (!slash)
            return 0;
        *slash = 0;
        type = choose(text, words, numbers);
        if (type < 0)
            return 0;
        f->actions[f->count].type = type;
        f->actions[f->count++].delay = wcstoul(slash + 1, &text, 10);
        if (*text == '/')
            text++;
    }
    return 1;
}

static void store_failure(HKEY key, const struct failure *f)
{
    struct stored s = {f->reset, *f->reboot != 0, *f->command != 0, f->count, 0x14};

    memcpy(s.actions, f->actions, sizeof s.actions);
    RegSetValueExW(key, L"FailureActions", 0, REG_BINARY, (BYTE *)&s, s.offset + f->count * sizeof s.actions[0]);
    RegSetValueExW(key, L"FailureCommand", 0, REG_SZ, (BYTE *)f->command, (wcslen(f->command) + 1) * sizeof(wchar_t));
    RegSetValueExW(key, L"RebootMessage", 0, REG_SZ, (BYTE *)f->reboot, (wcslen(f->reboot) + 1) * sizeof(wchar_t));
}

int settings_set_failure(const wchar_t *name, int argc, wchar_t **argv)
{
    struct failure f;
    HKEY key = open_key(name);
    int i, ok = argc > 0;

    settings_failure(name, &f);
    for (i = 0; ok && i < argc; i += 2) {
        if (i + 1 >= argc)
            ok = 0;
        else if (!_wcsicmp(argv[i], L"reset="))
            f.reset = !_wcsicmp(argv[i + 1], L"INFINITE") ? INFINITE : wcstoul(argv[i + 1], NULL, 10);
        else if (!_wcsicmp(argv[i], L"actions="))
            ok = parse_actions(&f, argv[i + 1]);
        else if (!_wcsicmp(argv[i], L"command="))
            swprintf(f.command, 1024, L"%ls", argv[i + 1]);
        else if (!_wcsicmp(argv[i], L"reboot="))
            swprintf(f.reboot, 1024, L"%ls", argv[i + 1]);
        else
            ok = 0;
    }
    if (ok && key)
        store_failure(key, &f);
    RegCloseKey(key);
    return !ok;
}
