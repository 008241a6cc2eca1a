/* cmd_health: whether a server serves, for scripts, health checks of containers and people: one
 * line, exit code 0 or 1. */
#include "server/cmd.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "server/remote.h"
#include "server/text_table.h"

/* What GET /health says; "" when it is not one of ours. */
static void read_status(const struct client *c, char *out, size_t size)
{
    cJSON *v = NULL;
    out[0] = '\0';
    if (c->failure != CLIENT_FINE ||
        json_parse(strbuf_str(&c->body), c->body.len, &json_default_limits, &v, NULL) != STATUS_OK)
        return;
    const char *s = cJSON_IsObject(v) ? cJSON_GetStringValue(json_member(v, "status")) : NULL;
    if (s)
        text_clean(s, out, size);
    cJSON_Delete(v);
}

static int health(const struct options *o)
{
    struct remote r;
    struct err e = {0};
    char said[64];
    struct client c;
    client_init(&c);
    enum status st = remote_open(o, &r, &e);
    if (st == STATUS_INVALID) {
        client_deinit(&c);
        return cmd_fail("health", &e);
    }
    if (st == STATUS_OK)
        st = client_start(&c, &r.target, "GET", "/health", NULL, "", &e);
    if (st == STATUS_OK) {
        client_run(&c, (int)(o->patience * 1000), NULL);
        read_status(&c, said, sizeof said);
        if (c.status == 200 && strcmp(said, "ok") == 0)
            printf("ok: %s\n", r.target.text);
        else if (said[0])
            st = err_set(&e, STATUS_BUSY, NULL, "%s: %s", r.target.text, said);
        else if (remote_refusal(&r, &c, "/health", &e) == STATUS_OK)
            st = err_set(&e, STATUS_BUSY, NULL, "what answers at %s is no chorus server",
                         r.target.text);
        else
            st = e.code;
    }
    client_deinit(&c);
    if (st == STATUS_OK)
        return CMD_EXIT_OK;
    (void)cmd_fail("health", &e);
    return CMD_EXIT_FAILED;
}

int cmd_health(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_HEALTH, argc, argv, &o, &code))
        code = health(&o);
    options_deinit(&o);
    return code;
}
