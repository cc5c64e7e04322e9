/* orders.exe: a small Windows service for the demonstration.
 *
 *   orders.exe CONFIG
 *
 * It reports to the service control manager under whatever name it was created
 * with, reads the file CONFIG (JSON with the members "port", "region" and
 * "greeting", of which only port is required) once when it starts, and answers
 * GET /healthz and GET /orders on that port. A missing or unreadable file is a
 * failed start with the service-specific exit code 2, a port that is taken one
 * with 3. */
#include <winsock2.h>
#include <windows.h>
#include <shellapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static SERVICE_STATUS_HANDLE handle;
static SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS};
static SOCKET listener = INVALID_SOCKET;
static SYSTEMTIME started;
static wchar_t *config_path = L"C:\\Orders\\orders.json";
static char region[256], greeting[256];
static unsigned long served;

static void report(DWORD state, DWORD specific)
{
    status.dwCurrentState = state;
    status.dwControlsAccepted = state == SERVICE_RUNNING ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN : 0;
    status.dwWin32ExitCode = specific ? ERROR_SERVICE_SPECIFIC_ERROR : 0;
    status.dwServiceSpecificExitCode = specific;
    status.dwWaitHint = state == SERVICE_START_PENDING || state == SERVICE_STOP_PENDING ? 5000 : 0;
    SetServiceStatus(handle, &status);
}

static DWORD WINAPI control(DWORD code, DWORD type, void *data, void *context)
{
    if (code == SERVICE_CONTROL_STOP || code == SERVICE_CONTROL_SHUTDOWN) {
        report(SERVICE_STOP_PENDING, 0);
        closesocket(listener); /* This ends the accept loop, and with it the service. */
        return 0;
    }
    return code == SERVICE_CONTROL_INTERROGATE ? 0 : ERROR_CALL_NOT_IMPLEMENTED;
}

/* member copies the string or number that a JSON text has under a name. Escapes
 * stay as they are: the answer is JSON again. */
static int member(const char *json, const char *name, char *value, size_t size)
{
    char quoted[64];
    const char *at;
    size_t n = 0;
    int string;

    snprintf(quoted, sizeof quoted, "\"%s\"", name);
    at = strstr(json, quoted);
    if (!at || !(at = strchr(at + strlen(quoted), ':')))
        return 0;
    at += 1 + strspn(at + 1, " \t\r\n");
    string = *at == '"';
    for (at += string; *at && n + 2 < size && (string ? *at != '"' : !strchr(",} \t\r\n", *at)); at++) {
        if (*at == '\\' && at[1])
            value[n++] = *at++;
        value[n++] = *at;
    }
    value[n] = 0;
    return 1;
}

static int read_config(unsigned short *port)
{
    static char json[65536];
    char number[16] = "";
    FILE *file = _wfopen(config_path, L"rb");

    if (!file)
        return 0;
    json[fread(json, 1, sizeof json - 1, file)] = 0;
    fclose(file);
    member(json, "region", region, sizeof region);
    member(json, "greeting", greeting, sizeof greeting);
    if (!member(json, "port", number, sizeof number))
        return 0;
    *port = (unsigned short)atoi(number);
    return *port != 0;
}

static int listen_on(unsigned short port)
{
    struct sockaddr_in address = {AF_INET};
    BOOL exclusive = TRUE;

    address.sin_port = htons(port);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener == INVALID_SOCKET)
        return 0;
    setsockopt(listener, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (char *)&exclusive, sizeof exclusive);
    return !bind(listener, (struct sockaddr *)&address, sizeof address) && !listen(listener, 16);
}

static void answer(SOCKET client)
{
    char request[4096], body[2048], head[256];
    int n = recv(client, request, sizeof request - 1, 0), code = 200;

    if (n <= 0)
        return;
    request[n] = 0;
    if (!strncmp(request, "GET /healthz ", 13)) {
        strcpy(body, "ok\n");
    } else if (!strncmp(request, "GET /orders ", 12)) {
        snprintf(body, sizeof body,
                 "{\"service\":\"orders\",\"region\":\"%s\",\"greeting\":\"%s\",\"pid\":%lu,"
                 "\"startTime\":\"%04u-%02u-%02uT%02u:%02u:%02u.%03uZ\",\"served\":%lu,"
                 "\"orders\":[{\"id\":1,\"item\":\"bearing\"},{\"id\":2,\"item\":\"gasket\"}]}\n",
                 region, greeting, GetCurrentProcessId(), started.wYear, started.wMonth, started.wDay, started.wHour,
                 started.wMinute, started.wSecond, started.wMilliseconds, ++served);
    } else {
        code = 404;
        strcpy(body, "not found\n");
    }
    snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %u\r\nConnection: close\r\n\r\n",
             code, code == 200 ? "OK" : "Not Found", *body == '{' ? "application/json" : "text/plain",
             (unsigned)strlen(body));
    send(client, head, strlen(head), 0);
    send(client, body, strlen(body), 0);
    shutdown(client, SD_SEND);
}

static void WINAPI service_main(DWORD argc, wchar_t **argv)
{
    unsigned short port;
    WSADATA data;
    SOCKET client;
    DWORD wait = 5000;

    handle = RegisterServiceCtrlHandlerExW(L"", control, NULL);
    report(SERVICE_START_PENDING, 0);
    GetSystemTime(&started);
    if (!read_config(&port)) {
        report(SERVICE_STOPPED, 2);
        return;
    }
    if (WSAStartup(MAKEWORD(2, 2), &data) || !listen_on(port)) {
        report(SERVICE_STOPPED, 3);
        return;
    }
    report(SERVICE_RUNNING, 0);
    while ((client = accept(listener, NULL, NULL)) != INVALID_SOCKET) {
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, (char *)&wait, sizeof wait);
        answer(client);
        closesocket(client);
    }
    report(SERVICE_STOPPED, 0);
}

int main(void)
{
    SERVICE_TABLE_ENTRYW table[] = {{L"", service_main}, {NULL, NULL}};
    int argc;
    wchar_t **argv = CommandLineToArgvW(GetCommandLineW(), &argc);

    if (argc > 1)
        config_path = argv[1];
    /* 1063 is what Windows gives to a program that the service manager did not start. */
    return StartServiceCtrlDispatcherW(table) ? 0 : (int)GetLastError();
}
