/* openapi: the description of everything that is served (openapi.json, beside this file), as it
 * lies in the binary. Constant; any thread. */
#ifndef CHORUS_SERVER_OPENAPI_H
#define CHORUS_SERVER_OPENAPI_H

#include <stddef.h>

extern const char openapi_text[];
extern const char openapi_end[]; /* behind the last byte; a NUL follows */

static inline size_t openapi_bytes(void)
{
    return (size_t)(openapi_end - openapi_text);
}

#endif
