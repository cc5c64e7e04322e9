/* The verbs of the provider that list, start and end processes. */
#include "provider.h"
#include <tlhelp32.h>
#include <psapi.h>
#include <winternl.h>

/* command_line reads what a process was started with out of its own memory; Wine 8
 * does not have the information class that Windows answers this with. */
static char *command_line(HANDLE process)
{
    PROCESS_BASIC_INFORMATION basic;
    RTL_USER_PROCESS_PARAMETERS parameters;
    PEB peb;
    wchar_t *line;
    char *encoded = NULL;

    if (NtQueryInformationProcess(process, ProcessBasicInformation, &basic, sizeof basic, NULL) ||
        !ReadProcessMemory(process, basic.PebBaseAddress, &peb, sizeof peb, NULL) ||
        !ReadProcessMemory(process, peb.ProcessParameters, &parameters, sizeof parameters, NULL))
        return text_encode(NULL);
    line = calloc(parameters.CommandLine.Length / 2 + 1, sizeof *line);
    if (ReadProcessMemory(process, parameters.CommandLine.Buffer, line, parameters.CommandLine.Length, NULL))
        encoded = text_encode(line);
    free(line);
    return encoded ? encoded : text_encode(NULL);
}

static void show(const struct request *r, const PROCESSENTRY32W *entry)
{
    HANDLE process = OpenProcess(PROCESS_QUERY_INFORMATION | PROCESS_VM_READ, FALSE, entry->th32ProcessID);
    FILETIME created = {0}, ended, kernel, user;
    wchar_t path[MAX_PATH * 4];
    DWORD size = MAX_PATH * 4;
    PROCESS_MEMORY_COUNTERS memory = {sizeof memory};
    char *name = text_encode(entry->szExeFile), *image, *line;

    if (!process) {
        /* It has ended since the list was made. */
        free(name);
        return;
    }
    GetProcessTimes(process, &created, &ended, &kernel, &user);
    GetProcessMemoryInfo(process, &memory, sizeof memory);
    image = text_encode(QueryFullProcessImageNameW(process, 0, path, &size) ? path : NULL);
    line = command_line(process);
    record(r, "%lu %lu %s %lu %I64u %s %s %I64u", entry->th32ProcessID, entry->th32ParentProcessID, name,
           entry->cntThreads, ((ULONGLONG)created.dwHighDateTime << 32) | created.dwLowDateTime, image, line,
           (ULONGLONG)memory.WorkingSetSize);
    free(name), free(image), free(line);
    CloseHandle(process);
}

static DWORD show_all(const struct request *r)
{
    HANDLE list = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    PROCESSENTRY32W entry = {sizeof entry};
    BOOL more;

    if (list == INVALID_HANDLE_VALUE)
        return GetLastError();
    for (more = Process32FirstW(list, &entry); more; more = Process32NextW(list, &entry))
        show(r, &entry);
    CloseHandle(list);
    return 0;
}

/* spawn: COMMANDLINE DIRECTORY. The process belongs to no shell and has no handle of ours. It has
 * a console that nobody sees, as one that WMI creates on Windows: without one, what a
 * program prints that it starts in its turn would not go where its own output goes. */
static DWORD spawn(const struct request *r, DWORD *pid)
{
    wchar_t *line = word(r, 0), *directory = word(r, 1);
    STARTUPINFOW start = {sizeof start};
    PROCESS_INFORMATION process;
    DWORD code = 0;

    if (CreateProcessW(NULL, line, NULL, NULL, FALSE, CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW, NULL, directory,
                       &start, &process)) {
        *pid = process.dwProcessId;
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    } else {
        code = GetLastError();
    }
    free(line), free(directory);
    return code;
}

static DWORD terminate(const struct request *r)
{
    HANDLE process = OpenProcess(PROCESS_TERMINATE, FALSE, number(r, 0));
    DWORD code;

    if (!process)
        return GetLastError();
    code = TerminateProcess(process, number(r, 1)) ? 0 : GetLastError();
    CloseHandle(process);
    return code;
}

int serve_processes(const struct request *r)
{
    DWORD pid = 0, code;

    if (!strcmp(r->verb, "processes")) {
        done(r, show_all(r), "");
        return 1;
    }
    if (!strcmp(r->verb, "process-create")) {
        code = spawn(r, &pid);
        done(r, code, "%lu", pid);
        return 1;
    }
    if (!strcmp(r->verb, "process-terminate")) {
        done(r, terminate(r), "");
        return 1;
    }
    return 0;
}
