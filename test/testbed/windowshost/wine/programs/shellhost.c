/* winrshost.exe: runs one command of a shell.
 *
 *   winrshost RESULT DIRECTORY COMMANDLINE [NAME VALUE]...
 *
 * (words as in text.h). The command gets this process's standard handles and the
 * environment variables; its 32-bit exit code, or "failed CODE" when it could not be
 * started, is written to the file RESULT, because only 8 bits of an exit code reach
 * a parent on Linux. The file is made before anything else: where it is missing,
 * this program has not begun. All that the command has started ends with this
 * process: that is how the service host of Windows clears up after a shell. */
#include "text.h"

static HANDLE begin(const wchar_t *path)
{
    return CreateFileW(path, GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
}

static void report(HANDLE file, const char *format, DWORD code)
{
    char text[32];
    DWORD written;

    WriteFile(file, text, snprintf(text, sizeof text, format, code), &written, NULL);
    CloseHandle(file);
}

/* job makes the job object that ends all its processes when its last handle closes. */
static HANDLE job(void)
{
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    HANDLE handle = CreateJobObjectW(NULL, NULL);

    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    SetInformationJobObject(handle, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    return handle;
}

/* create begins the command. Wine fails now and then with ERROR_INTERNAL_ERROR on
 * a busy machine, before anything of the command has run; Windows does not. */
static BOOL create(wchar_t *line, const wchar_t *directory, STARTUPINFOW *start, PROCESS_INFORMATION *process)
{
    int attempt;

    for (attempt = 0; attempt < 20; attempt++) {
        if (CreateProcessW(NULL, line, NULL, NULL, TRUE, CREATE_SUSPENDED, NULL, directory, start, process))
            return TRUE;
        if (GetLastError() != ERROR_INTERNAL_ERROR)
            return FALSE;
        Sleep(50);
    }
    return FALSE;
}

int main(int argc, char **argv)
{
    wchar_t *directory, *line;
    STARTUPINFOW start = {sizeof start};
    PROCESS_INFORMATION process;
    HANDLE result, group;
    DWORD code = 0;
    int i;

    if (argc < 4)
        return ERROR_INVALID_PARAMETER;
    result = begin(text_decode(argv[1]));
    if (result == INVALID_HANDLE_VALUE)
        return 1;
    directory = text_decode(argv[2]);
    line = text_decode(argv[3]);
    for (i = 4; i + 1 < argc; i += 2)
        SetEnvironmentVariableW(text_decode(argv[i]), text_decode(argv[i + 1]));
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    start.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    group = job();
    if (!create(line, directory, &start, &process)) {
        report(result, "failed %lu", GetLastError());
        return 1;
    }
    AssignProcessToJobObject(group, process.hProcess);
    ResumeThread(process.hThread);
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &code);
    report(result, "%lu", code);
    return 0;
}
