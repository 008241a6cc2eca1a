/* metrics_adapters: the part of /metrics that is about adapters. Loop thread. */
#ifndef CHORUS_SERVER_METRICS_ADAPTERS_H
#define CHORUS_SERVER_METRICS_ADAPTERS_H

#include "engine/base/strbuf.h"
#include "engine/engine_adapters.h"

/* `list` [count] in name order, draining generations too. Counters are there for names somebody
 * asked for; all series are bounded by LIMIT_ADAPTERS, as no client makes up a label. */
void metrics_adapters_write(const struct engine_adapter_info *list, int count, struct strbuf *b);
/* The first behind i of another name. */
int metrics_adapters_next(const struct engine_adapter_info *list, int count, int i);

#endif
