/* api_scales: llama-server's /lora-adapters: who speaks where a request names nobody. Loop thread.
 */
#ifndef CHORUS_SERVER_API_SCALES_H
#define CHORUS_SERVER_API_SCALES_H

struct call;

void api_scales_list(struct call *c, const char *tail);
void api_scales_set(struct call *c, const char *tail);

#endif
