/* metrics_adapters: the part of /metrics that is about adapters, and what inference gateways read
 * (API.md section 5: exact names, one series each). Loop thread. */
#ifndef CHORUS_SERVER_METRICS_ADAPTERS_H
#define CHORUS_SERVER_METRICS_ADAPTERS_H

#include "engine/base/strbuf.h"
#include "engine/engine_adapters.h"
#include "engine/engine_stats.h"

/* Who has requests in the engine and who only has some that wait, as comma-separated names; kept
 * between scrapes, zeroed at first. */
struct metrics_loras {
    struct strbuf running;
    struct strbuf waiting;
    int64_t changed_unix_s;
};

void metrics_loras_deinit(struct metrics_loras *l);

/* `list` [count] in name order, draining generations too. */
void metrics_adapters_write(const struct engine_adapter_info *list, int count, struct strbuf *b);
/* `queued` are names that wait for a seat in the server, comma-separated, each once. */
void metrics_gateway_write(const struct engine_stats *s, const struct engine_adapter_info *list,
                           int count, const struct strbuf *queued, int slots,
                           struct metrics_loras *loras, struct strbuf *b);

#endif
