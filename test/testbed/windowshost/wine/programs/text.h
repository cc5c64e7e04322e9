/* Words of the line protocol between the endpoint and the programs that run under
 * Wine. A word is UTF-8 with every byte outside [A-Za-z0-9._:\-/] as %XX; the empty
 * string is a lone "%", and the absent string (NULL in the Win32 API) is a lone "~". */
#ifndef TEXT_H
#define TEXT_H

#include <windows.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* text_wide is the UTF-16 form of a UTF-8 string, to be freed by the caller. */
static __attribute__((unused)) wchar_t *text_wide(const char *utf8)
{
    int n = MultiByteToWideChar(CP_UTF8, 0, utf8, -1, NULL, 0);
    wchar_t *wide = malloc((n + 1) * sizeof *wide);

    MultiByteToWideChar(CP_UTF8, 0, utf8, -1, wide, n);
    wide[n] = 0;
    return wide;
}

/* text_decode is the string that a word stands for, NULL for an absent one. */
static __attribute__((unused)) wchar_t *text_decode(const char *word)
{
    char *plain, *to;
    wchar_t *wide;

    if (!word || !strcmp(word, "~"))
        return NULL;
    if (!strcmp(word, "%"))
        return text_wide("");
    plain = to = malloc(strlen(word) + 1);
    while (*word) {
        unsigned int byte;
        if (*word == '%' && sscanf(word + 1, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            word += 3;
        } else {
            *to++ = *word++;
        }
    }
    *to = 0;
    wide = text_wide(plain);
    free(plain);
    return wide;
}

/* text_encode is the word for a string, to be freed by the caller. */
static __attribute__((unused)) char *text_encode(const wchar_t *wide)
{
    int n;
    char *utf8, *word, *to;
    const unsigned char *from;

    if (!wide)
        return _strdup("~");
    if (!*wide)
        return _strdup("%");
    n = WideCharToMultiByte(CP_UTF8, 0, wide, -1, NULL, 0, NULL, NULL);
    utf8 = malloc(n);
    WideCharToMultiByte(CP_UTF8, 0, wide, -1, utf8, n, NULL, NULL);
    word = to = malloc(3 * n + 1);
    for (from = (unsigned char *)utf8; *from; from++) {
        if (strchr("._:\\-/", *from) || (*from < 128 && isalnum(*from)))
            *to++ = (char)*from;
        else
            to += sprintf(to, "%%%02X", *from);
    }
    *to = 0;
    free(utf8);
    return word;
}

#endif
