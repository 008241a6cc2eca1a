/* page: the files of the page at "/" (the folder page/, beside this file), as they lie in the
 * binary. Constant; any thread. */
#ifndef CHORUS_SERVER_PAGE_H
#define CHORUS_SERVER_PAGE_H

#include <stddef.h>

struct page_file {
    const char *name; /* "app.js" */
    const char *type;
    const char *begin;
    const char *end; /* behind the last byte */
};

/* NULL name: the page itself. NULL: there is no such file. */
const struct page_file *page_find(const char *name);

#endif
