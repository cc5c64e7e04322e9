/* What the parts of the provider process share. */
#ifndef PROVIDER_H
#define PROVIDER_H

#include "text.h"

/* A request has its number, its verb and its words; argv[0] is the first word. */
struct request {
    char *line;
    const char *id;
    const char *verb;
    int argc;
    const char *argv[24];
};

/* word is the string argument at a position, NULL when absent; freed by the caller. */
wchar_t *word(const struct request *r, int at);
/* number is the numeric argument at a position, 0 when absent. */
unsigned long number(const struct request *r, int at);
/* record sends one record of an answer: ready-made words after the request's number. */
void record(const struct request *r, const char *format, ...);
/* done ends an answer with a Win32 code and further words. */
void done(const struct request *r, unsigned long code, const char *format, ...);

/* Each of these answers the request and returns 1 if the verb is its own. */
int serve_services(const struct request *r);
int serve_processes(const struct request *r);
int serve_registry(const struct request *r);

#endif
