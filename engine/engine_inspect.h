/* engine_inspect: what is in a model or an adapter, without an engine: what binds, effective
 * scales, bytes, what would be refused and why. Any thread. */
#ifndef CHORUS_ENGINE_INSPECT_H
#define CHORUS_ENGINE_INSPECT_H

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

enum engine_inspect_form {
    ENGINE_INSPECT_TEXT, /* lines for people */
    ENGINE_INSPECT_JSON  /* one object on one line; "ok" says whether it would be served */
};

/* True for a directory that holds an adapter_config.json, and for a GGUF file. */
bool engine_inspect_is_adapter(const char *path);
/* Appends a report. A refusal is both in the report and the status. `base_dir` is the model an
 * adapter is checked against; NULL: shapes are reported, binding is not checked. */
WARN_UNUSED enum status engine_inspect_model(const char *path, enum engine_inspect_form form,
                                             struct strbuf *report, struct err *e);
WARN_UNUSED enum status engine_inspect_adapter(const char *path, const char *base_dir,
                                               enum engine_inspect_form form, struct strbuf *report,
                                               struct err *e);

#endif
