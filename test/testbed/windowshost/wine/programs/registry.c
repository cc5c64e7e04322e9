/* The verbs of the provider that read and write the registry. */
#include "provider.h"

/* hex writes bytes as hexadecimal digits, "-" for none; freed by the caller. */
static char *hex(const BYTE *data, DWORD size)
{
    char *text = malloc(2 * size + 2);
    DWORD i;

    strcpy(text, "-");
    for (i = 0; i < size; i++)
        sprintf(text + 2 * i, "%02x", data[i]);
    return text;
}

/* bytes reads what hex has written; freed by the caller. */
static BYTE *bytes(const char *text, DWORD *size)
{
    BYTE *data = malloc(strlen(text) / 2 + 1);
    unsigned int byte;

    for (*size = 0; sscanf(text + 2 * *size, "%2x", &byte) == 1 && *text != '-'; ++*size)
        data[*size] = (BYTE)byte;
    return data;
}

static DWORD get(const struct request *r, HKEY root, const wchar_t *key, const wchar_t *name, char **answer)
{
    HKEY open;
    DWORD type = 0, size = 0, code = RegOpenKeyExW(root, key, 0, KEY_READ, &open);
    BYTE *data;
    char *text;

    if (code)
        return code;
    code = RegQueryValueExW(open, name, NULL, &type, NULL, &size);
    if (!code) {
        data = calloc(1, size + 2);
        code = RegQueryValueExW(open, name, NULL, &type, data, &size);
        text = hex(data, code ? 0 : size);
        *answer = malloc(strlen(text) + 32);
        sprintf(*answer, "%lu %s", type, text);
        free(text), free(data);
    }
    RegCloseKey(open);
    return code;
}

/* set: HIVE KEY NAME TYPE HEX. StdRegProv does not create the key. */
static DWORD set(const struct request *r, HKEY root, const wchar_t *key, const wchar_t *name)
{
    HKEY open;
    DWORD size, code = r->argc < 5 ? ERROR_INVALID_PARAMETER : RegOpenKeyExW(root, key, 0, KEY_WRITE, &open);
    BYTE *data;

    if (code)
        return code;
    data = bytes(r->argv[4], &size);
    code = RegSetValueExW(open, name, 0, number(r, 3), data, size);
    free(data);
    RegCloseKey(open);
    return code;
}

static DWORD drop(HKEY root, const wchar_t *key, const wchar_t *name)
{
    HKEY open;
    DWORD code = RegOpenKeyExW(root, key, 0, KEY_WRITE, &open);

    if (code)
        return code;
    code = RegDeleteValueW(open, name);
    RegCloseKey(open);
    return code;
}

static DWORD make_key(HKEY root, const wchar_t *key)
{
    HKEY open;
    DWORD code = RegCreateKeyExW(root, key, 0, NULL, 0, KEY_READ, NULL, &open, NULL);

    if (!code)
        RegCloseKey(open);
    return code;
}

/* list sends a record for every subkey or every value of a key. */
static DWORD list(const struct request *r, HKEY root, const wchar_t *key)
{
    HKEY open;
    DWORD i, size, type, code = RegOpenKeyExW(root, key, 0, KEY_READ, &open);
    int values = !strcmp(r->verb, "registry-values");
    wchar_t name[16384];

    if (code)
        return code;
    for (i = 0; !code; i++) {
        char *encoded;
        size = 16384;
        type = 0;
        code = values ? RegEnumValueW(open, i, name, &size, NULL, &type, NULL, NULL)
                      : RegEnumKeyExW(open, i, name, &size, NULL, NULL, NULL, NULL);
        if (code)
            break;
        encoded = text_encode(name);
        record(r, "%s %lu", encoded, type);
        free(encoded);
    }
    RegCloseKey(open);
    return code == ERROR_NO_MORE_ITEMS ? 0 : code;
}

int serve_registry(const struct request *r)
{
    HKEY root = (HKEY)(LONG_PTR)(LONG)number(r, 0);
    wchar_t *key = word(r, 1), *name = word(r, 2);
    char *answer = NULL;
    int mine = 1;
    DWORD code = 0;

    if (!strcmp(r->verb, "registry-get"))
        code = get(r, root, key, name, &answer);
    else if (!strcmp(r->verb, "registry-set"))
        code = set(r, root, key, name);
    else if (!strcmp(r->verb, "registry-delete"))
        code = drop(root, key, name);
    else if (!strcmp(r->verb, "registry-create-key"))
        code = make_key(root, key);
    else if (!strcmp(r->verb, "registry-delete-key"))
        code = RegDeleteKeyW(root, key);
    else if (!strcmp(r->verb, "registry-keys") || !strcmp(r->verb, "registry-values"))
        code = list(r, root, key);
    else
        mine = 0;
    if (mine)
        done(r, code, "%s", answer ? answer : "");
    free(key), free(name), free(answer);
    return mine;
}
