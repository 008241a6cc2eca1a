#include "engine/text/chat_continue.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/text/jinja_char.h"

/* Letters only, so that no template changes it; the space tells whether the template trims. */
#define MARK "CHORUS_CONTINUES_HERE"

static enum status refuse(struct err *e, const char *why)
{
    return err_set(e, STATUS_INVALID, "continue_final_message", "continue_final_message: %s", why);
}

/* The text to go on in. NULL: there is none. */
static cJSON *final_text(const cJSON *vars)
{
    const cJSON *messages = json_member(vars, "messages");
    int count = cJSON_IsArray(messages) ? cJSON_GetArraySize(messages) : 0;
    const cJSON *last = count > 0 ? cJSON_GetArrayItem(messages, count - 1) : NULL;
    cJSON *content =
        cJSON_IsObject(last) ? cJSON_GetObjectItemCaseSensitive(last, "content") : NULL;
    cJSON *found = cJSON_IsString(content) ? content : NULL;
    for (cJSON *part = cJSON_IsArray(content) ? content->child : NULL; part; part = part->next) {
        cJSON *text = cJSON_IsObject(part) ? cJSON_GetObjectItemCaseSensitive(part, "text") : NULL;
        found = cJSON_IsString(text) ? text : found;
    }
    return found;
}

static enum status mark(cJSON *text, struct err *e)
{
    size_t n = strlen(text->valuestring);
    char *marked = mem_alloc(n + sizeof MARK " ", 1);
    if (!marked)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    memcpy(marked, text->valuestring, n);
    memcpy(marked + n, MARK " ", sizeof MARK " ");
    const char *set = cJSON_SetValuestring(text, marked);
    mem_free(marked);
    return set ? STATUS_OK : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* Bytes of the last character of s[0, n) where it is white space, else 0. */
static size_t space_at_end(const char *s, size_t n)
{
    size_t begin = n;
    while (begin > 0 && n - begin < 4) {
        begin--;
        if (((unsigned char)s[begin] & 0xC0) != 0x80)
            break;
    }
    uint32_t cp;
    return n > 0 && utf8_decode(s + begin, n - begin, &cp) == n - begin && jinja_char_is_space(cp)
               ? n - begin
               : 0;
}

static size_t space_at_begin(const char *s, size_t n)
{
    uint32_t cp;
    size_t used = n > 0 ? utf8_decode(s, n, &cp) : 0;
    return used > 0 && jinja_char_is_space(cp) ? used : 0;
}

/* The last place of the mark in s[0, n); NULL: nowhere. */
static const char *find_mark(const char *s, size_t n)
{
    const char *found = NULL;
    const size_t len = sizeof MARK - 1;
    for (const char *at = s; n - (size_t)(at - s) >= len; at++) {
        at = memmem(at, n - (size_t)(at - s), MARK, len);
        if (!at)
            break;
        found = at;
    }
    return found;
}

/* Whether s[0, n) shows the message's text without the white space around it. */
static bool shows(const char *s, size_t n, const char *text, size_t len)
{
    size_t k;
    while ((k = space_at_begin(text, len)) > 0) {
        text += k;
        len -= k;
    }
    while ((k = space_at_end(text, len)) > 0)
        len -= k;
    return len == 0 || memmem(s, n, text, len) != NULL;
}

static enum status cut(struct strbuf *out, size_t begin, struct strbuf *from_input,
                       const char *text, size_t len, struct err *e)
{
    const char *s = strbuf_str(out) + begin;
    size_t n = out->len - begin;
    const char *at = find_mark(s, n);
    if (!at || !shows(s, n, text, len))
        return refuse(e, "the chat template does not show the final message as it is");
    size_t keep = (size_t)(at - s);
    bool trims = n - keep < sizeof MARK || at[sizeof MARK - 1] != ' ';
    for (size_t k; trims && (k = space_at_end(s, keep)) > 0;)
        keep -= k;
    out->len = begin + keep;
    out->data[out->len] = '\0';
    if (from_input) {
        from_input->len = out->len;
        from_input->data[from_input->len] = '\0';
    }
    return STATUS_OK;
}

enum status chat_continue_render(const struct chat_template *t, cJSON *vars, struct strbuf *out,
                                 struct strbuf *from_input, struct err *e)
{
    cJSON *text = final_text(vars);
    size_t begin = out->len;
    if (!text)
        return refuse(e, "the final message has no text to continue");
    size_t len = strlen(text->valuestring);
    enum status st = mark(text, e);
    if (st != STATUS_OK)
        return st;
    st = chat_template_render(t, vars, out, from_input, e);
    text->valuestring[len] = '\0';
    return st == STATUS_OK ? cut(out, begin, from_input, text->valuestring, len, e) : st;
}
