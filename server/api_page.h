/* api_page: GET / and its files. They hold no secret, so they need no key; what the page asks for
 * does. */
#ifndef CHORUS_SERVER_API_PAGE_H
#define CHORUS_SERVER_API_PAGE_H

struct call;

void api_page_index(struct call *c, const char *tail);
void api_page_file(struct call *c, const char *tail);

#endif
