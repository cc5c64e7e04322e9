/* The verbs of the provider that speak with the service control manager. */
#include "provider.h"
#include "settings.h"

/* No answer of the service manager is larger, by its documentation. */
enum { largest = 8192 };

/* describe returns the description of a service as a word. */
static char *describe(SC_HANDLE service)
{
    BYTE buffer[largest] = {0};
    SERVICE_DESCRIPTIONW *d = (SERVICE_DESCRIPTIONW *)buffer;
    DWORD size;

    QueryServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, buffer, sizeof buffer, &size);
    return text_encode(d->lpDescription);
}

/* show sends the record of one service, if it is still there. */
static void show(const struct request *r, SC_HANDLE manager, const wchar_t *name)
{
    SC_HANDLE service = OpenServiceW(manager, name, SERVICE_QUERY_CONFIG | SERVICE_QUERY_STATUS);
    BYTE buffer[largest];
    QUERY_SERVICE_CONFIGW *c = (QUERY_SERVICE_CONFIGW *)buffer;
    SERVICE_STATUS_PROCESS s;
    DWORD size;
    char *words[6];
    int i;

    if (!service)
        return;
    if (!QueryServiceConfigW(service, c, sizeof buffer, &size) ||
        !QueryServiceStatusEx(service, SC_STATUS_PROCESS_INFO, (BYTE *)&s, sizeof s, &size)) {
        CloseServiceHandle(service);
        return;
    }
    words[4] = describe(service);
    CloseServiceHandle(service);
    status_of_dead(&s);
    words[0] = text_encode(name);
    words[1] = text_encode(c->lpDisplayName);
    words[2] = text_encode(c->lpBinaryPathName);
    words[3] = text_encode(c->lpServiceStartName);
    words[5] = text_encode(c->lpLoadOrderGroup);
    record(r, "%s %s %s %s %s %s %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %d", words[0], words[1], words[2], words[3],
           words[4], words[5], c->dwServiceType, c->dwStartType, c->dwErrorControl, s.dwCurrentState,
           s.dwControlsAccepted, s.dwWin32ExitCode, s.dwServiceSpecificExitCode, s.dwCheckPoint, s.dwWaitHint,
           s.dwProcessId, settings_delayed(name));
    for (i = 0; i < 6; i++)
        free(words[i]);
}

/* asked tells whether a service is among those that the request names, if it names any. */
static int asked(const struct request *r, const wchar_t *name)
{
    int i, same = !r->argc;

    for (i = 0; !same && i < r->argc; i++) {
        wchar_t *one = word(r, i);
        same = one && !_wcsicmp(one, name);
        free(one);
    }
    return same;
}

/* list sends a record for every service that is a Win32 process, or for those that
 * are named. */
static DWORD list(const struct request *r, SC_HANDLE manager)
{
    DWORD size = 0, count = 0, resume = 0, i;
    ENUM_SERVICE_STATUS_PROCESSW *all;

    EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_STATE_ALL, NULL, 0, &size, &count,
                          &resume, NULL);
    size += 4096; /* A service that appears in between must fit. */
    all = calloc(1, size);
    resume = 0;
    if (!EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_STATE_ALL, (BYTE *)all, size,
                               &size, &count, &resume, NULL)) {
        DWORD code = GetLastError();
        free(all);
        return code;
    }
    for (i = 0; i < count; i++)
        if (asked(r, all[i].lpServiceName))
            show(r, manager, all[i].lpServiceName);
    free(all);
    return 0;
}

/* show_all lists for one request at a time. A service that is marked for deletion goes
 * when nobody has it open, and lists that overlap would keep it for as long as they do. */
static DWORD show_all(const struct request *r, SC_HANDLE manager)
{
    static SRWLOCK one = SRWLOCK_INIT;
    DWORD code;

    AcquireSRWLockExclusive(&one);
    code = list(r, manager);
    ReleaseSRWLockExclusive(&one);
    return code;
}

/* create: NAME DISPLAY PATH TYPE START ERROR ACCOUNT PASSWORD */
static DWORD create(const struct request *r, SC_HANDLE manager)
{
    wchar_t *name = word(r, 0), *display = word(r, 1), *path = word(r, 2), *account = word(r, 6), *password = word(r, 7);
    SC_HANDLE service = CreateServiceW(manager, name, display, SERVICE_ALL_ACCESS, number(r, 3), number(r, 4),
                                       number(r, 5), path, NULL, NULL, NULL, account, password);
    DWORD code = service ? 0 : GetLastError();

    if (service)
        CloseServiceHandle(service);
    free(name), free(display), free(path), free(account), free(password);
    return code;
}

/* change: NAME DISPLAY PATH TYPE START ERROR ACCOUNT PASSWORD, an absent one is kept */
static DWORD change(const struct request *r, SC_HANDLE service)
{
    wchar_t *display = word(r, 1), *path = word(r, 2), *account = word(r, 6), *password = word(r, 7);
    DWORD type = strcmp(r->argv[3], "~") ? number(r, 3) : SERVICE_NO_CHANGE;
    DWORD start = strcmp(r->argv[4], "~") ? number(r, 4) : SERVICE_NO_CHANGE;
    DWORD error = strcmp(r->argv[5], "~") ? number(r, 5) : SERVICE_NO_CHANGE;
    DWORD code = ChangeServiceConfigW(service, type, start, error, path, NULL, NULL, NULL, account, password, display)
                     ? 0 : GetLastError();

    free(display), free(path), free(account), free(password);
    return code;
}

static DWORD set_description(const struct request *r, SC_HANDLE service)
{
    SERVICE_DESCRIPTIONW d = {word(r, 1)};
    DWORD code = ChangeServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, &d) ? 0 : GetLastError();

    free(d.lpDescription);
    return code;
}

/* on_service performs a verb on the service that the first word names. */
static DWORD on_service(const struct request *r, SC_HANDLE manager)
{
    wchar_t *name = word(r, 0), *dependencies;
    SC_HANDLE service = OpenServiceW(manager, name, SERVICE_ALL_ACCESS);
    DWORD code = 0;
    BOOL ok = TRUE;

    if (!service) {
        code = GetLastError();
        free(name);
        return code;
    }
    dependencies = settings_dependencies(name);
    if (!strcmp(r->verb, "service-change"))
        code = r->argc < 8 ? ERROR_INVALID_PARAMETER : change(r, service);
    else if (!strcmp(r->verb, "service-describe"))
        code = set_description(r, service);
    else if (!strcmp(r->verb, "service-start"))
        ok = StartServiceW(service, 0, NULL);
    else if (!strcmp(r->verb, "service-control"))
        code = control(service, number(r, 1));
    else
        ok = DeleteService(service);
    if (!ok)
        code = GetLastError();
    if (!strcmp(r->verb, "service-change") || !strcmp(r->verb, "service-describe"))
        settings_restore(name, dependencies);
    else
        free(dependencies);
    free(name);
    CloseServiceHandle(service);
    return code;
}

int serve_services(const struct request *r)
{
    SC_HANDLE manager;
    DWORD code;

    if (strncmp(r->verb, "service", 7))
        return 0;
    manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_ALL_ACCESS);
    if (!manager) {
        code = GetLastError();
    } else if (!strcmp(r->verb, "services")) {
        code = show_all(r, manager);
    } else if (!strcmp(r->verb, "service-create")) {
        code = create(r, manager);
    } else {
        code = on_service(r, manager);
    }
    if (manager)
        CloseServiceHandle(manager);
    done(r, code, "");
    return 1;
}
