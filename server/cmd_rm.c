/* cmd_rm: models and adapters out of the Hugging Face cache. Asks before it does; what blobs other
 * revisions use stays. */
#include "server/cmd.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/hub_remove.h"
#include "server/hub_scan.h"
#include "server/text_table.h"

/* What is about to go: "org/name (2 revisions, 3.1 GiB)". */
static enum status describe(const char *cache, const struct hub_id *id, const char *commit,
                            char *out, size_t size, struct err *e)
{
    struct hub_scan scan;
    uint64_t bytes = 0;
    int revisions = 0;
    enum status st = hub_scan_run(cache, &scan, e);
    for (size_t i = 0; st == STATUS_OK && i < scan.snapshot_count; i++) {
        const struct hub_snapshot *s = &scan.snapshots[i];
        if (strcmp(s->name, id->name) != 0 || (commit && strcmp(s->commit, commit) != 0))
            continue;
        bytes += s->bytes;
        revisions++;
    }
    const struct hub_partial *part = hub_scan_partial(&scan, id->name);
    bytes += part && !commit ? part->bytes : 0;
    char text[TEXT_SHORT_BYTES];
    text_bytes(bytes, text);
    if (commit)
        snprintf(out, size, "%s at %.8s (up to %s)", id->name, commit, text);
    else
        snprintf(out, size, "%s (%d revision%s, %s)", id->name, revisions,
                 revisions == 1 ? "" : "s", text);
    hub_scan_deinit(&scan);
    return st;
}

static bool agrees(const char *what)
{
    char answer[16] = "";
    printf("remove %s? [y/N] ", what);
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static enum status remove_one(const char *cache, const char *text, bool yes, struct err *e)
{
    struct hub_id id;
    char commit[HUB_HASH_BYTES];
    char what[HUB_NAME_BYTES + 128];
    char freed_text[TEXT_SHORT_BYTES];
    uint64_t freed = 0;
    enum status st = STATUS_OK;
    if (!hub_id_parse(text, &id))
        return err_set(e, STATUS_INVALID, NULL, "\"%.100s\" is not ORG/NAME or ORG/NAME:REVISION",
                       text);
    if (id.revised && hub_cache_commit(cache, &id, commit, NULL) != STATUS_OK)
        return err_set(e, STATUS_NOT_FOUND, NULL, "%s has no revision %s in the cache (%s)",
                       id.name, id.revision, cache);
    if (!yes && !isatty(STDIN_FILENO))
        return err_set(e, STATUS_INVALID, "yes",
                       "nobody is there to ask: --yes removes without a question");
    if (!yes) {
        st = describe(cache, &id, id.revised ? commit : NULL, what, sizeof what, e);
        if (st != STATUS_OK)
            return st;
        if (!agrees(what)) {
            puts("nothing was removed");
            return STATUS_OK;
        }
    }
    st = hub_remove(cache, &id, id.revised ? commit : NULL, &freed, e);
    if (st != STATUS_OK)
        return st;
    text_bytes(freed, freed_text);
    printf("removed %s, %s (%llu bytes) freed\n", text, freed_text, (unsigned long long)freed);
    return STATUS_OK;
}

static int remove_all(const struct options *o)
{
    struct err e = {0};
    struct hub_settings settings;
    hub_settings_load(&settings);
    if (o->args.count == 0) {
        err_set(&e, STATUS_INVALID, NULL, "one ORG/NAME[:REVISION] is needed (chorus rm --help)");
        return cmd_fail("rm", &e);
    }
    for (int i = 0; i < o->args.count; i++) {
        if (remove_one(settings.cache, o->args.items[i], o->yes, &e) != STATUS_OK)
            return cmd_fail("rm", &e);
    }
    return CMD_EXIT_OK;
}

int cmd_rm(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_RM, argc, argv, &o, &code))
        code = remove_all(&o);
    options_deinit(&o);
    return code;
}
