/* The service settings that Wine's service control manager cannot keep, and the
 * options of sc create and sc config. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <windows.h>
#include <shellapi.h>
#include <stdlib.h>
#include <wchar.h>

/* What follows sc create NAME and sc config NAME. An option that is not given is
 * SERVICE_NO_CHANGE or NULL. */
struct options {
    DWORD type, start, error;
    int delayed; /* 1 or 0, or -1 when start= is not given */
    wchar_t *path, *display, *account, *password, *depend;
};

struct action {
    DWORD type, delay;
};

struct failure {
    DWORD reset, count;
    struct action actions[8];
    wchar_t command[1024], reboot[1024];
};

/* options_parse reads pairs "key= value"; 0 if they are not such pairs. */
int options_parse(struct options *o, int argc, wchar_t **argv);

/* settings_apply writes what o says of the registry's own settings. */
void settings_apply(const wchar_t *name, const struct options *o);
/* settings_change does the same, and the rest through the service control manager. */
DWORD settings_change(SC_HANDLE service, const wchar_t *name, const struct options *o);

int settings_delayed(const wchar_t *name);
/* settings_dependencies is a list of strings that ends with an empty one; freed by the caller. */
wchar_t *settings_dependencies(const wchar_t *name);
/* settings_restore writes such a list back, and frees it: whenever Wine saves the
 * configuration of a service, it drops the dependencies. */
void settings_restore(const wchar_t *name, wchar_t *dependencies);

void settings_failure(const wchar_t *name, struct failure *f);
/* status_of_dead sets the status right of a service whose process has died: Wine goes
 * on saying that it runs. */
void status_of_dead(SERVICE_STATUS_PROCESS *s);
/* control sends a control code and returns a Win32 code. */
DWORD control(SC_HANDLE service, DWORD code);

/* journal notes that a service was changed, in the file that the endpoint keeps too. */
void journal(const char *verb, const wchar_t *name);

/* settings_set_failure reads "reset= N actions= a/b/c command= X reboot= Y"; 0 if that is well formed. */
int settings_set_failure(const wchar_t *name, int argc, wchar_t **argv);

#endif
