/* metrics_gateway: what inference gateways read of /metrics: exact names, one series each, as the
 * model-server protocol of Kubernetes' inference extension has them. Loop thread.
 */
#ifndef CHORUS_SERVER_METRICS_GATEWAY_H
#define CHORUS_SERVER_METRICS_GATEWAY_H

#include "engine/base/strbuf.h"
#include "engine/engine_adapters.h"
#include "engine/engine_stats.h"

/* Who has requests in the engine and who has some that wait, as comma-separated names; kept between
 * scrapes, zeroed at first. */
struct metrics_gateway {
    struct strbuf running;
    struct strbuf waiting;
    int64_t changed_unix_s;
};

void metrics_gateway_deinit(struct metrics_gateway *g);

/* `list` [count] in name order, draining generations too. `queued` are names that wait for a seat
 * in the server, comma-separated, each once. `slots`: adapters on the device at once. */
void metrics_gateway_write(const struct engine_stats *s, const struct engine_adapter_info *list,
                           int count, const struct strbuf *queued, int slots,
                           struct metrics_gateway *g, struct strbuf *b);

#endif
