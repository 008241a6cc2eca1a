#include "server/api_key.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"

#define LINE_BYTES 1024

static enum status take_line(char *line, const char *path, int number, struct api_keys *k,
                             size_t *cap, struct err *e)
{
    size_t n = strlen(line);
    if (n == LINE_BYTES - 1 && line[n - 1] != '\n')
        return err_set(e, STATUS_INVALID, "api-key-file", "%s:%d: line is too long", path, number);
    while (n > 0 && strchr(" \t\r\n", line[n - 1]))
        line[--n] = '\0';
    size_t skip = strspn(line, " \t");
    if (line[skip] == '\0' || line[skip] == '#')
        return STATUS_OK;
    if (k->count == LIMIT_API_KEYS)
        return err_set(e, STATUS_LIMIT, "api-key-file", "%s: more than %d keys", path,
                       LIMIT_API_KEYS);
    for (const char *c = line + skip; *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7F)
            return err_set(e, STATUS_INVALID, "api-key-file",
                           "%s:%d: a key holds visible ASCII characters only", path, number);
    }
    if (!VEC_RESERVE(k->digests, *cap, k->count + 1))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    sha256_of(line + skip, n - skip, k->digests[k->count++]);
    return STATUS_OK;
}

enum status api_key_load(const char *path, struct api_keys *out, struct err *e)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(e, STATUS_IO, "api-key-file", "cannot read %s: %s", path, strerror(errno));
    struct api_keys k = {0};
    size_t cap = 0;
    char line[LINE_BYTES];
    enum status st = STATUS_OK;
    for (int number = 1; st == STATUS_OK && fgets(line, sizeof line, f); number++)
        st = take_line(line, path, number, &k, &cap, e);
    if (st == STATUS_OK && ferror(f))
        st = err_set(e, STATUS_IO, "api-key-file", "cannot read %s", path);
    fclose(f);
    memset(line, 0, sizeof line);
    if (st == STATUS_OK && k.count == 0)
        st = err_set(e, STATUS_INVALID, "api-key-file", "%s holds no key", path);
    if (st != STATUS_OK) {
        api_key_free(&k);
        return st;
    }
    *out = k;
    return STATUS_OK;
}

void api_key_free(struct api_keys *k)
{
    mem_free(k->digests);
    *k = (struct api_keys){0};
}

/* 1 when equal, without a branch on the bytes. */
static unsigned equal(const uint8_t *a, const uint8_t *b)
{
    unsigned diff = 0;
    for (int i = 0; i < SHA256_BYTES; i++)
        diff |= (unsigned)(a[i] ^ b[i]);
    return ((diff - 1) >> 8) & 1;
}

const char *api_key_of(const char *authorization, const char *x_api_key)
{
    static const char scheme[] = "Bearer ";
    if (!authorization)
        return x_api_key;
    if (strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return NULL;
    authorization += sizeof scheme - 1;
    return authorization + strspn(authorization, " ");
}

bool api_key_allows(const struct api_keys *k, const char *key)
{
    if (k->count == 0)
        return true;
    if (!key)
        return false;
    uint8_t digest[SHA256_BYTES];
    sha256_of(key, strlen(key), digest);
    unsigned found = 0;
    for (size_t i = 0; i < k->count; i++)
        found |= equal(digest, k->digests[i]);
    return found != 0;
}
