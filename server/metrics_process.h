/* metrics_process: what every exporter tells of its process, and which server this is. Loop thread.
 */
#ifndef CHORUS_SERVER_METRICS_PROCESS_H
#define CHORUS_SERVER_METRICS_PROCESS_H

#include "engine/base/strbuf.h"

/* What the system does not tell is left out. */
void metrics_process_write(struct strbuf *out);
/* chorus_build_info: version, backend, model. NULL: not known yet, "". */
void metrics_process_info(const char *backend, const char *model, struct strbuf *out);

#endif
