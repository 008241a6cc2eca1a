/* api_list: the routes that tell what is there: models, health, metrics. Loop thread. */
#ifndef CHORUS_SERVER_API_LIST_H
#define CHORUS_SERVER_API_LIST_H

struct call;

void api_list_models(struct call *c, const char *tail);
void api_list_model(struct call *c, const char *tail);
void api_list_props(struct call *c, const char *tail);
void api_list_slots(struct call *c, const char *tail);
void api_list_version(struct call *c, const char *tail);
void api_list_health(struct call *c, const char *tail);
void api_list_metrics(struct call *c, const char *tail);
void api_list_openapi(struct call *c, const char *tail);

#endif
