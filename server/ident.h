/* ident: names and seeds nobody can guess. Any thread. */
#ifndef CHORUS_SERVER_IDENT_H
#define CHORUS_SERVER_IDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IDENT_BYTES 40

/* prefix + 24 random letters and digits. */
void ident_make(const char *prefix, char out[IDENT_BYTES]);
uint64_t ident_seed(void);
/* The seed of choice `i` of a request: choice 0 keeps it, so that n = 1 and the first of n agree.
 */
uint64_t ident_derive(uint64_t seed, int i);
/* A client's x-request-id that may be echoed and logged: [A-Za-z0-9._:-]{1,128}. */
bool ident_is_request_id(const char *s);

#endif
