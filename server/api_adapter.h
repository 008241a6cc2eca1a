/* api_adapter: who should speak? The one place that knows the forms in which a request can name
 * adapters (API.md section 1). Pure but for the lookups of the context. */
#ifndef CHORUS_SERVER_API_ADAPTER_H
#define CHORUS_SERVER_API_ADAPTER_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "server/api_request.h"

#define API_WEIGHT_MAX 100.0

/* [A-Za-z0-9._-]{1,LIMIT_NAME_BYTES} */
bool api_adapter_is_name(const char *s);

/* Reads `model`, `adapter` and `lora` of a request. *model is what the answer repeats; *uses are in
 * the order given, [LIMIT_ADAPTERS_PER_REQUEST], 0 of them is the base. Unknown names are
 * STATUS_MODEL_NOT_FOUND or STATUS_ADAPTER_NOT_FOUND, never the base. */
WARN_UNUSED enum status api_adapter_resolve(const struct api_context *ctx, const cJSON *root,
                                            const char **model, struct engine_adapter_use *uses,
                                            int *count, struct err *e);

/* Splits a model name: NULL when it names only the base, else the adapter it names (which may not
 * exist). STATUS_MODEL_NOT_FOUND: it names neither. */
WARN_UNUSED enum status api_adapter_of_model(const struct api_context *ctx, const char *model,
                                             const char **adapter, struct err *e);

#endif
