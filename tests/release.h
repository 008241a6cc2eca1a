/* release: how much a test does: at every landing, or before a release (make release-test). */
#ifndef CHORUS_TESTS_RELEASE_H
#define CHORUS_TESTS_RELEASE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool release_is(void)
{
    const char *v = getenv("CHORUS_RELEASE");
    return v && strcmp(v, "1") == 0;
}

static inline int release_figure(int landing, int release)
{
    return release_is() ? release : landing;
}

#endif
