/* hub_settings: what the environment says about the Hugging Face hub and its cache, under the names
 * that huggingface_hub reads, so that both find the same files and the same token.
 *
 * Read once by the main thread, then constant.
 */
#ifndef CHORUS_CONFIG_HUB_SETTINGS_H
#define CHORUS_CONFIG_HUB_SETTINGS_H

#include <stdbool.h>

#define HUB_PATH_BYTES 4096
#define HUB_URL_BYTES  512

struct hub_settings {
    /* HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; ""
     * where none of them can be told. */
    char cache[HUB_PATH_BYTES];
    char token_file[HUB_PATH_BYTES]; /* HF_TOKEN_PATH, HF_HOME/token; may not exist; "": none */
    const char *token;               /* HF_TOKEN, borrowed from the environment; NULL: not set */
    char endpoint[HUB_URL_BYTES];    /* HF_ENDPOINT without a slash at its end; "": too long */
    const char *ca_file; /* SSL_CERT_FILE, REQUESTS_CA_BUNDLE; borrowed; NULL: not set */
    bool offline;        /* HF_HUB_OFFLINE */
};

void hub_settings_load(struct hub_settings *out);

#endif
