/* routes: the table of what is served. A route is private (API keys) unless it says public. */
#ifndef CHORUS_SERVER_ROUTES_H
#define CHORUS_SERVER_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

enum route_id {
    ROUTE_NONE, /* no such path */
    ROUTE_CHAT,
    ROUTE_COMPLETIONS,
    ROUTE_EMBEDDINGS,
    ROUTE_RESPONSES,
    ROUTE_MESSAGES,
    ROUTE_MODELS,
    ROUTE_MODEL,
    ROUTE_ADAPTERS,
    ROUTE_ADAPTERS_CHECK,
    ROUTE_ADAPTER,
    ROUTE_LOAD_LORA_ADAPTER,
    ROUTE_UNLOAD_LORA_ADAPTER,
    ROUTE_LORA_ADAPTERS,
    ROUTE_TOKENIZE,
    ROUTE_DETOKENIZE,
    ROUTE_APPLY_TEMPLATE,
    ROUTE_COUNT_TOKENS,
    ROUTE_STATUS,
    ROUTE_STEPS,
    ROUTE_PROPS,
    ROUTE_SLOTS,
    ROUTE_VERSION,
    ROUTE_HEALTH,
    ROUTE_METRICS,
    ROUTE_OPENAPI,
    ROUTE_PAGE,
    ROUTE_PAGE_FILE,
    ROUTE_COUNT
};

struct call;

struct route {
    enum route_id id;
    const char *method;
    const char *path; /* ends in '/' and is more: the rest of the path is `tail` */
    bool is_public;
    bool needs_engine; /* 503 while the model loads or the server drains */
    /* Answers now or later; for POST with the whole body. */
    void (*handle)(struct call *c, const char *tail);
};

/* What a path and method mean. NULL: nothing; then *allow lists the methods the path has ("" when
 * there is no such path). HEAD is served as GET. */
const struct route *routes_find(const char *method, const char *path, const char **tail,
                                const char **allow);
const struct route *routes_at(size_t i); /* NULL behind the last */
const char *routes_label(enum route_id id);

#endif
