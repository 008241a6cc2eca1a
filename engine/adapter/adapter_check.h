/* adapter_check: what a directory would be as an adapter, without adding it. Any thread. */
#ifndef CHORUS_ADAPTER_ADAPTER_CHECK_H
#define CHORUS_ADAPTER_ADAPTER_CHECK_H

#include "engine/adapter/adapter_store.h"

/* See engine_adapter_check. */
WARN_UNUSED enum status adapter_check(const struct adapter_source *source, const struct model *base,
                                      const char *root, const char *path,
                                      struct engine_adapter_report *out, struct err *err);

#endif
