#include "server/page.h"

#include <string.h>

/* The assembler reads the files itself: no step of their own, and nothing generated. */
#define IN_BINARY(symbol, file)                                                                    \
    __asm__(".section .rodata\n"                                                                   \
            ".globl page_" #symbol "\n"                                                            \
            "page_" #symbol ":\n"                                                                  \
            ".incbin \"server/page/" file "\"\n"                                                   \
            ".globl page_" #symbol "_end\n"                                                        \
            "page_" #symbol "_end:\n"                                                              \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const char page_##symbol[];                                                             \
    extern const char page_##symbol##_end[]

#define HTML "text/html; charset=utf-8"
#define CSS  "text/css; charset=utf-8"
#define JS   "text/javascript; charset=utf-8"

IN_BINARY(index, "index.html");
IN_BINARY(style, "style.css");
IN_BINARY(icon, "icon.svg");
IN_BINARY(theme, "theme.js");
IN_BINARY(app, "app.js");
IN_BINARY(api, "api.js");
IN_BINARY(dom, "dom.js");
IN_BINARY(voice, "voice.js");
IN_BINARY(side, "side.js");
IN_BINARY(request, "request.js");
IN_BINARY(steps, "steps.js");
IN_BINARY(adapters, "adapters.js");

static const struct page_file files[] = {
    {"index.html", HTML, page_index, page_index_end},
    {"style.css", CSS, page_style, page_style_end},
    {"icon.svg", "image/svg+xml", page_icon, page_icon_end},
    {"theme.js", JS, page_theme, page_theme_end},
    {"app.js", JS, page_app, page_app_end},
    {"api.js", JS, page_api, page_api_end},
    {"dom.js", JS, page_dom, page_dom_end},
    {"voice.js", JS, page_voice, page_voice_end},
    {"side.js", JS, page_side, page_side_end},
    {"request.js", JS, page_request, page_request_end},
    {"steps.js", JS, page_steps, page_steps_end},
    {"adapters.js", JS, page_adapters, page_adapters_end},
};

const struct page_file *page_find(const char *name)
{
    if (!name)
        return &files[0];
    for (size_t i = 1; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    }
    return NULL;
}
