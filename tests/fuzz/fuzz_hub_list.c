/* A hub's list of files, and the names in it: what is accepted stays inside a snapshot's folder. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/status.h"
#include "engine/base/limits.h"
#include "server/hub_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Written apart from hub_file_name_ok: where a path of these parts would end. */
static void check_name(const char *name)
{
    int depth = 0;
    CHECK(name[0] != '/' && name[0] != '\0');
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        CHECK(n > 0 && n <= 255);
        depth += n == 2 && part[0] == '.' && part[1] == '.' ? -1 : 1;
        CHECK(depth > 0);
    }
    for (const char *c = name; *c; c++)
        CHECK((unsigned char)*c >= 0x20 && *c != 0x7F && *c != '\\');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hub_files files;
    struct hub_id id;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (hub_files_parse(text, size, &files, NULL) == STATUS_OK) {
        CHECK(hub_hash_ok(files.commit) && files.count <= LIMIT_HUB_FILES);
        for (size_t i = 0; i < files.count; i++)
            check_name(files.list[i].name);
        size_t n = hub_files_choose(&files, false, NULL, 0);
        CHECK(n <= files.count && hub_files_choose(&files, true, NULL, 0) == files.count);
    }
    hub_files_deinit(&files);
    if (hub_file_name_ok(text))
        check_name(text);
    if (hub_id_parse(text, &id)) {
        char folder[HUB_NAME_BYTES + 16];
        char back[HUB_NAME_BYTES];
        hub_folder_name(&id, folder);
        CHECK(!strchr(folder, '/') && hub_folder_parse(folder, back));
        CHECK(strcmp(back, id.name) == 0 && !strstr(id.revision, ".."));
    }
    free(text);
    return 0;
}
