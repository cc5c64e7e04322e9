/* sc.exe: the service control program, in place of Wine's, with the verbs, the
 * output and the exit codes (Win32 codes) of the one that Windows has.
 *
 * The service control manager behind it is Wine's. Three settings which that cannot
 * keep are kept where Windows itself keeps them, in the service's registry key:
 * DelayedAutostart, DependOnService and FailureActions with FailureCommand. */
#include "settings.h"
#include <fcntl.h>
#include <io.h>
#include <stdio.h>

/* failed prints what Windows prints for a failed call, and returns its code. */
static DWORD failed(const char *call, DWORD code)
{
    wchar_t text[512] = L"";

    FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code, 0, text, 512, NULL);
    printf("[SC] %s FAILED %lu:\r\n\r\n%ls\r\n", call, code, text);
    return code;
}

static DWORD usage(const char *why)
{
    printf("ERROR:  %s\r\n\r\nDESCRIPTION:\r\n        SC is a command line program used for communicating with the\r\n"
           "        Service Control Manager and services.\r\n", why);
    return 1639; /* ERROR_INVALID_COMMAND_LINE */
}

static const char *state_name(DWORD state)
{
    static const char *names[] = {"", "STOPPED", "START_PENDING", "STOP_PENDING", "RUNNING", "CONTINUE_PENDING",
                                  "PAUSE_PENDING", "PAUSED"};
    return state < 8 ? names[state] : "";
}

/* print_status writes the block of query, start and stop; of queryex with the PID. */
static void print_status(const wchar_t *name, const wchar_t *display, const SERVICE_STATUS_PROCESS *s, int extended)
{
    printf("\r\nSERVICE_NAME: %ls\r\n", name);
    if (display)
        printf("DISPLAY_NAME: %ls\r\n", display);
    printf("        TYPE               : %lx  %s\r\n", s->dwServiceType,
           s->dwServiceType & SERVICE_WIN32_SHARE_PROCESS ? "WIN32_SHARE_PROCESS" : "WIN32_OWN_PROCESS");
    printf("        STATE              : %lu  %s \r\n", s->dwCurrentState, state_name(s->dwCurrentState));
    printf("                                (%s, %s, %s)\r\n",
           s->dwControlsAccepted & SERVICE_ACCEPT_STOP ? "STOPPABLE" : "NOT_STOPPABLE",
           s->dwControlsAccepted & SERVICE_ACCEPT_PAUSE_CONTINUE ? "PAUSABLE" : "NOT_PAUSABLE",
           s->dwControlsAccepted & SERVICE_ACCEPT_SHUTDOWN ? "ACCEPTS_SHUTDOWN" : "IGNORES_SHUTDOWN");
    printf("        WIN32_EXIT_CODE    : %lu  (0x%lx)\r\n", s->dwWin32ExitCode, s->dwWin32ExitCode);
    printf("        SERVICE_EXIT_CODE  : %lu  (0x%lx)\r\n", s->dwServiceSpecificExitCode, s->dwServiceSpecificExitCode);
    printf("        CHECKPOINT         : 0x%lx\r\n        WAIT_HINT          : 0x%lx\r\n", s->dwCheckPoint, s->dwWaitHint);
    if (extended)
        printf("        PID                : %lu\r\n        FLAGS              : \r\n", s->dwProcessId);
}

static DWORD query_all(SC_HANDLE manager, int extended)
{
    DWORD size = 0, count = 0, resume = 0, i;
    ENUM_SERVICE_STATUS_PROCESSW *all;

    EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_ACTIVE, NULL, 0, &size, &count, &resume,
                          NULL);
    size += 4096;
    all = calloc(1, size);
    resume = 0;
    if (!EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_ACTIVE, (BYTE *)all, size, &size,
                               &count, &resume, NULL))
        return failed("EnumServicesStatusEx", GetLastError());
    for (i = 0; i < count; i++)
        print_status(all[i].lpServiceName, all[i].lpDisplayName, &all[i].ServiceStatusProcess, extended);
    return 0;
}

static DWORD query(SC_HANDLE service, const wchar_t *name, int extended)
{
    SERVICE_STATUS_PROCESS status;
    DWORD size;

    if (!QueryServiceStatusEx(service, SC_STATUS_PROCESS_INFO, (BYTE *)&status, sizeof status, &size))
        return failed("QueryServiceStatusEx", GetLastError());
    status_of_dead(&status);
    print_status(name, NULL, &status, extended);
    return 0;
}

static DWORD query_config(SC_HANDLE service, const wchar_t *name)
{
    static const char *starts[] = {"BOOT_START", "SYSTEM_START", "AUTO_START", "DEMAND_START", "DISABLED"};
    BYTE buffer[8192];
    QUERY_SERVICE_CONFIGW *c = (QUERY_SERVICE_CONFIGW *)buffer;
    DWORD size;
    wchar_t *depend, *at;

    if (!QueryServiceConfigW(service, c, sizeof buffer, &size))
        return failed("QueryServiceConfig", GetLastError());
    printf("[SC] QueryServiceConfig SUCCESS\r\n\r\nSERVICE_NAME: %ls\r\n", name);
    printf("        TYPE               : %lx  %s\r\n", c->dwServiceType,
           c->dwServiceType & SERVICE_WIN32_SHARE_PROCESS ? "WIN32_SHARE_PROCESS" : "WIN32_OWN_PROCESS");
    printf("        START_TYPE         : %lu   %s%s\r\n", c->dwStartType, c->dwStartType < 5 ? starts[c->dwStartType] : "",
           settings_delayed(name) ? "  (DELAYED)" : "");
    printf("        ERROR_CONTROL      : %lu   NORMAL\r\n        BINARY_PATH_NAME   : %ls\r\n", c->dwErrorControl,
           c->lpBinaryPathName);
    printf("        LOAD_ORDER_GROUP   : %ls\r\n        TAG                : %lu\r\n", c->lpLoadOrderGroup, c->dwTagId);
    printf("        DISPLAY_NAME       : %ls\r\n        DEPENDENCIES       : ", c->lpDisplayName);
    depend = settings_dependencies(name);
    for (at = depend; at && *at; at += wcslen(at) + 1)
        printf("%s%ls\r\n", at == depend ? "" : "                           : ", at);
    if (!depend || !*depend)
        printf("\r\n");
    printf("        SERVICE_START_NAME : %ls\r\n", c->lpServiceStartName);
    free(depend);
    return 0;
}

/* print_failure writes what qfailure shows. */
static DWORD query_failure(const wchar_t *name)
{
    static const char *actions[] = {"NONE", "RESTART", "REBOOT", "RUN PROCESS"};
    struct failure f;
    DWORD i;

    settings_failure(name, &f);
    printf("[SC] QueryServiceConfig2 SUCCESS\r\n\r\nSERVICE_NAME: %ls\r\n", name);
    printf("        RESET_PERIOD (in seconds)    : %lu\r\n        REBOOT_MESSAGE               : %ls\r\n", f.reset, f.reboot);
    printf("        COMMAND_LINE                 : %ls\r\n        FAILURE_ACTIONS              : ", f.command);
    for (i = 0; i < f.count; i++)
        printf("%s%s -- Delay = %lu milliseconds.\r\n", i ? "                                       " : "",
               f.actions[i].type < 4 ? actions[f.actions[i].type] : "", f.actions[i].delay);
    printf("\r\n");
    return 0;
}

static DWORD describe(SC_HANDLE service, const wchar_t *name, wchar_t *text)
{
    SERVICE_DESCRIPTIONW d = {text};
    wchar_t *dependencies = settings_dependencies(name);
    DWORD code = ChangeServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, &d) ? 0 : GetLastError();

    settings_restore(name, dependencies);
    if (code)
        return failed("ChangeServiceConfig2", code);
    journal("change", name);
    printf("[SC] ChangeServiceConfig2 SUCCESS\r\n");
    return 0;
}

static DWORD query_description(SC_HANDLE service, const wchar_t *name)
{
    BYTE buffer[8192] = {0};
    SERVICE_DESCRIPTIONW *d = (SERVICE_DESCRIPTIONW *)buffer;
    DWORD size;

    if (!QueryServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, buffer, sizeof buffer, &size))
        return failed("QueryServiceConfig2", GetLastError());
    printf("[SC] QueryServiceConfig2 SUCCESS\r\n\r\nSERVICE_NAME: %ls\r\nDESCRIPTION:  %ls\r\n", name,
           d->lpDescription ? d->lpDescription : L"");
    return 0;
}

static DWORD start(SC_HANDLE service, const wchar_t *name, int argc, wchar_t **argv)
{
    if (!StartServiceW(service, argc, (const wchar_t **)argv))
        return failed("StartService", GetLastError());
    journal("start", name);
    return query(service, name, 1);
}

static DWORD stop(SC_HANDLE service, const wchar_t *name)
{
    DWORD code = control(service, SERVICE_CONTROL_STOP);

    if (code)
        return failed("ControlService", code);
    journal("stop", name);
    return query(service, name, 0);
}

static DWORD drop(SC_HANDLE service, const wchar_t *name)
{
    if (!DeleteService(service))
        return failed("DeleteService", GetLastError());
    journal("delete", name);
    printf("[SC] DeleteService SUCCESS\r\n");
    return 0;
}

/* configure performs create and config, whose options are the same. */
static DWORD configure(SC_HANDLE manager, SC_HANDLE service, const wchar_t *name, int argc, wchar_t **argv)
{
    struct options o;
    DWORD code;

    if (!options_parse(&o, argc, argv))
        return usage("Invalid Option or missing value.");
    if (!service) {
        service = CreateServiceW(manager, name, o.display ? o.display : name, SERVICE_ALL_ACCESS,
                                 o.type == SERVICE_NO_CHANGE ? SERVICE_WIN32_OWN_PROCESS : o.type,
                                 o.start == SERVICE_NO_CHANGE ? SERVICE_DEMAND_START : o.start,
                                 o.error == SERVICE_NO_CHANGE ? SERVICE_ERROR_NORMAL : o.error, o.path, NULL, NULL, NULL,
                                 o.account, o.password);
        if (!service)
            return failed("CreateService", GetLastError());
        settings_apply(name, &o);
        journal("create", name);
        printf("[SC] CreateService SUCCESS\r\n");
        CloseServiceHandle(service);
        return 0;
    }
    code = settings_change(service, name, &o);
    if (code)
        return failed("ChangeServiceConfig", code);
    journal("change", name);
    printf("[SC] ChangeServiceConfig SUCCESS\r\n");
    return 0;
}

/* on_service performs the verbs that need the service to exist. */
static DWORD on_service(SC_HANDLE manager, int argc, wchar_t **argv)
{
    const wchar_t *verb = argv[1], *name = argv[2];
    SC_HANDLE service = OpenServiceW(manager, name, SERVICE_ALL_ACCESS);
    DWORD code;

    if (!service) {
        DWORD why = GetLastError();
        if (!_wcsicmp(verb, L"query") || !_wcsicmp(verb, L"queryex"))
            return failed("EnumQueryServicesStatus:OpenService", why);
        return failed("OpenService", why);
    }
    if (!_wcsicmp(verb, L"query") || !_wcsicmp(verb, L"queryex"))
        code = query(service, name, !_wcsicmp(verb, L"queryex"));
    else if (!_wcsicmp(verb, L"qc"))
        code = query_config(service, name);
    else if (!_wcsicmp(verb, L"qfailure"))
        code = query_failure(name);
    else if (!_wcsicmp(verb, L"qdescription"))
        code = query_description(service, name);
    else if (!_wcsicmp(verb, L"description"))
        code = describe(service, name, argc > 3 ? argv[3] : L"");
    else if (!_wcsicmp(verb, L"config"))
        code = configure(manager, service, name, argc - 3, argv + 3);
    else if (!_wcsicmp(verb, L"failure"))
        code = settings_set_failure(name, argc - 3, argv + 3) ? usage("Invalid Option or missing value.") : 0;
    else if (!_wcsicmp(verb, L"start"))
        code = start(service, name, argc - 3, argv + 3);
    else if (!_wcsicmp(verb, L"stop"))
        code = stop(service, name);
    else if (!_wcsicmp(verb, L"delete"))
        code = drop(service, name);
    else
        code = usage("Unrecognized command");
    if (!code && !_wcsicmp(verb, L"failure")) {
        journal("change", name);
        printf("[SC] ChangeServiceConfig2 SUCCESS\r\n");
    }
    CloseServiceHandle(service);
    return code;
}

int main(void)
{
    int argc;
    wchar_t **argv = CommandLineToArgvW(GetCommandLineW(), &argc);
    SC_HANDLE manager;

    _setmode(_fileno(stdout), _O_BINARY); /* Lines end with CR LF as it is. */
    if (argc < 2)
        return usage("Missing command");
    manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_ALL_ACCESS);
    if (!manager)
        return failed("OpenSCManager", GetLastError());
    if (argc == 2 && (!_wcsicmp(argv[1], L"query") || !_wcsicmp(argv[1], L"queryex")))
        return query_all(manager, !_wcsicmp(argv[1], L"queryex"));
    if (argc < 3)
        return usage("Unrecognized command");
    if (!_wcsicmp(argv[1], L"create"))
        return configure(manager, NULL, argv[2], argc - 3, argv + 3);
    return on_service(manager, argc, argv);
}
