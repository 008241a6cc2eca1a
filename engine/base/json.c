#include "engine/base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

/* Beyond 15 digits an integer may not survive a double. */
#define SAFE_DIGITS 15

const struct json_limits json_default_limits = {
    .depth_max = LIMIT_JSON_DEPTH,
    .members_max = LIMIT_JSON_MEMBERS,
};

/* A number whose double does not say how it was written: an integer that a double may not hold, or
 * a float with an integral value (1.0). The ordinal of the number in document order, and its text.
 */
struct raw_number {
    size_t ordinal;
    const char *text;
    size_t len;
};

struct scan {
    const char *text;
    size_t n;
    size_t i;
    size_t numbers;
    size_t members;
    struct raw_number *raws; /* owned */
    size_t raw_count;
    size_t raw_cap;
    const char *why;
    bool no_memory;
};

static bool fail(struct scan *s, const char *why)
{
    if (!s->why)
        s->why = why;
    return false;
}

static void skip_space(struct scan *s)
{
    while (s->i < s->n && (s->text[s->i] == ' ' || s->text[s->i] == '\t' || s->text[s->i] == '\n' ||
                           s->text[s->i] == '\r'))
        s->i++;
}

static int hex4(const struct scan *s, size_t at)
{
    int v = 0;
    if (at + 4 > s->n)
        return -1;
    for (size_t k = at; k < at + 4; k++) {
        char c = s->text[k];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* At the backslash; moves behind the escape. A lone surrogate and \u0000 are refused: cJSON would
 * drop or cut. */
static bool scan_escape(struct scan *s)
{
    if (s->i + 1 >= s->n)
        return fail(s, "unterminated string");
    char c = s->text[s->i + 1];
    if (c != 'u') {
        if (!strchr("\"\\/bfnrt", c) || c == '\0')
            return fail(s, "bad escape in string");
        s->i += 2;
        return true;
    }
    int v = hex4(s, s->i + 2);
    if (v < 0)
        return fail(s, "bad \\u escape in string");
    if (v == 0)
        return fail(s, "\\u0000 in string");
    s->i += 6;
    if (v >= 0xDC00 && v <= 0xDFFF)
        return fail(s, "lone surrogate in string");
    if (v >= 0xD800 && v <= 0xDBFF) {
        int low = s->i + 1 < s->n && s->text[s->i] == '\\' && s->text[s->i + 1] == 'u'
                      ? hex4(s, s->i + 2)
                      : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return fail(s, "lone surrogate in string");
        s->i += 6;
    }
    return true;
}

static bool scan_string(struct scan *s)
{
    if (s->i >= s->n || s->text[s->i] != '"')
        return fail(s, "expected a string");
    s->i++;
    while (s->i < s->n) {
        unsigned char c = (unsigned char)s->text[s->i];
        if (c == '"') {
            s->i++;
            return true;
        }
        if (c < 0x20)
            return fail(s, "control character in string");
        if (c == '\\') {
            if (!scan_escape(s))
                return false;
        } else {
            size_t len = c < 0x80 ? 1 : utf8_valid_len(s->text + s->i, s->n - s->i);
            if (len == 0)
                return fail(s, "invalid UTF-8");
            s->i += len;
        }
    }
    return fail(s, "unterminated string");
}

static size_t scan_digits(struct scan *s)
{
    size_t from = s->i;
    while (s->i < s->n && s->text[s->i] >= '0' && s->text[s->i] <= '9')
        s->i++;
    return s->i - from;
}

static bool keep_raw(struct scan *s, size_t from)
{
    if (!VEC_RESERVE(s->raws, s->raw_cap, s->raw_count + 1)) {
        s->no_memory = true;
        return false;
    }
    s->raws[s->raw_count++] = (struct raw_number){s->numbers, s->text + from, s->i - from};
    return true;
}

static double number_value(const char *text, size_t n)
{
    char buf[512];
    if (n >= sizeof buf)
        return HUGE_VAL;
    memcpy(buf, text, n);
    buf[n] = '\0';
    return strtod(buf, NULL);
}

static bool scan_number(struct scan *s)
{
    size_t from = s->i;
    if (s->text[s->i] == '-')
        s->i++;
    bool zero = s->i < s->n && s->text[s->i] == '0';
    size_t whole = scan_digits(s);
    if (whole == 0 || (zero && whole > 1))
        return fail(s, "bad number");
    bool integral = true;
    if (s->i < s->n && s->text[s->i] == '.') {
        s->i++;
        integral = false;
        if (scan_digits(s) == 0)
            return fail(s, "bad number");
    }
    if (s->i < s->n && (s->text[s->i] == 'e' || s->text[s->i] == 'E')) {
        s->i++;
        integral = false;
        if (s->i < s->n && (s->text[s->i] == '+' || s->text[s->i] == '-'))
            s->i++;
        if (scan_digits(s) == 0)
            return fail(s, "bad number");
    }
    double value = number_value(s->text + from, s->i - from);
    if (!isfinite(value))
        return fail(s, "number out of range");
    bool ambiguous = integral ? whole > SAFE_DIGITS : value == floor(value);
    if (ambiguous && !keep_raw(s, from))
        return false;
    s->numbers++;
    return true;
}

static bool scan_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n - s->i < n || memcmp(s->text + s->i, word, n) != 0)
        return fail(s, "unexpected character");
    s->i += n;
    return true;
}

static bool scan_scalar(struct scan *s)
{
    char c = s->text[s->i];
    if (c == '"')
        return scan_string(s);
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(s);
    return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

static bool scan_key(struct scan *s)
{
    skip_space(s);
    if (!scan_string(s))
        return false;
    skip_space(s);
    if (s->i >= s->n || s->text[s->i] != ':')
        return fail(s, "expected ':'");
    s->i++;
    return true;
}

/* After a value: closes what ends here, steps over a comma. Sets *done at the end of the outermost
 * value. */
static bool scan_after_value(struct scan *s, const char *stack, int *depth, bool *done)
{
    for (;;) {
        skip_space(s);
        if (*depth == 0) {
            *done = true;
            return true;
        }
        if (s->i >= s->n)
            return fail(s, "unexpected end");
        char close = stack[*depth - 1] == '{' ? '}' : ']';
        if (s->text[s->i] == close) {
            s->i++;
            (*depth)--;
            continue;
        }
        if (s->text[s->i] != ',')
            return fail(s, "expected ',' or a closing bracket");
        s->i++;
        return close == ']' || scan_key(s);
    }
}

static bool scan_text(struct scan *s, const struct json_limits *limits)
{
    char stack[LIMIT_JSON_DEPTH_ANY];
    int depth = 0;
    bool done = false;
    while (!done) {
        skip_space(s);
        if (s->i >= s->n)
            return fail(s, "unexpected end");
        if (++s->members > limits->members_max)
            return fail(s, "too many values");
        char c = s->text[s->i];
        if (c == '{' || c == '[') {
            if (depth >= limits->depth_max || depth >= LIMIT_JSON_DEPTH_ANY)
                return fail(s, "nested too deeply");
            stack[depth++] = c;
            s->i++;
            skip_space(s);
            if (s->i < s->n && s->text[s->i] == (c == '{' ? '}' : ']')) {
                s->i++;
                depth--;
            } else {
                if (c == '{' && !scan_key(s))
                    return false;
                continue;
            }
        } else if (!scan_scalar(s)) {
            return false;
        }
        if (!scan_after_value(s, stack, &depth, &done))
            return false;
    }
    if (s->i != s->n)
        return fail(s, "text after the end of the value");
    return true;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum status check_duplicates(const cJSON *obj, struct err *e)
{
    size_t n = (size_t)cJSON_GetArraySize(obj);
    const char **keys = mem_alloc(n, sizeof *keys);
    if (!keys)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    size_t i = 0;
    for (const cJSON *m = obj->child; m; m = m->next)
        keys[i++] = m->string;
    qsort(keys, n, sizeof *keys, compare_keys);
    enum status st = STATUS_OK;
    for (i = 1; i < n && st == STATUS_OK; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0)
            st = err_set(e, STATUS_INVALID, keys[i], "duplicate key \"%.64s\"", keys[i]);
    }
    mem_free(keys);
    return st;
}

/* Walks the tree in document order with a fixed stack: gives ambiguous numbers their text, looks
 * for equal keys. */
static enum status finish_tree(cJSON *root, const struct scan *s, bool refuse_duplicate,
                               struct err *e)
{
    cJSON *stack[LIMIT_JSON_DEPTH_ANY];
    int depth = 0;
    size_t ordinal = 0;
    size_t next_raw = 0;
    for (cJSON *v = root; v;) {
        if (cJSON_IsNumber(v)) {
            if (next_raw < s->raw_count && s->raws[next_raw].ordinal == ordinal) {
                const struct raw_number *b = &s->raws[next_raw++];
                v->valuestring = cJSON_malloc(b->len + 1);
                if (!v->valuestring)
                    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
                memcpy(v->valuestring, b->text, b->len);
                v->valuestring[b->len] = '\0';
            }
            ordinal++;
        }
        if (refuse_duplicate && cJSON_IsObject(v)) {
            enum status st = check_duplicates(v, e);
            if (st != STATUS_OK)
                return st;
        }
        if (v->child) {
            stack[depth++] = v;
            v = v->child;
            continue;
        }
        while (!v->next && depth > 0)
            v = stack[--depth];
        v = v->next; /* the root has no sibling */
    }
    return STATUS_OK;
}

enum status json_parse(const char *text, size_t n, const struct json_limits *limits, cJSON **out,
                       struct err *e)
{
    struct scan s = {.text = text, .n = n};
    enum status st = STATUS_OK;
    cJSON *root = NULL;
    if (!scan_text(&s, limits)) {
        st = s.no_memory
                 ? err_set(e, STATUS_NO_MEMORY, NULL, "out of memory while parsing JSON")
                 : err_set(e, STATUS_INVALID, NULL, "invalid JSON at byte %zu: %s", s.i, s.why);
        goto done;
    }
    root = cJSON_ParseWithLength(text, n);
    if (!root) {
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory while parsing JSON");
        goto done;
    }
    st = finish_tree(root, &s, limits->refuse_duplicate, e);
done:
    mem_free(s.raws);
    if (st != STATUS_OK) {
        cJSON_Delete(root);
        return st;
    }
    *out = root;
    return STATUS_OK;
}

const cJSON *json_member(const cJSON *obj, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

enum status json_get_bool(const cJSON *obj, const char *key, bool *out, struct err *e)
{
    const cJSON *v = json_member(obj, key);
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsBool(v))
        return err_set(e, STATUS_INVALID, key, "'%s' must be true or false", key);
    *out = cJSON_IsTrue(v);
    return STATUS_OK;
}

bool json_is_float(const cJSON *v)
{
    if (!cJSON_IsNumber(v))
        return false;
    return v->valuestring ? strpbrk(v->valuestring, ".eE") != NULL
                          : v->valuedouble != floor(v->valuedouble);
}

bool json_int64(const cJSON *v, int64_t *out)
{
    if (!cJSON_IsNumber(v))
        return false;
    if (v->valuestring && !json_is_float(v)) {
        errno = 0;
        char *end;
        long long r = strtoll(v->valuestring, &end, 10);
        if (errno != 0 || *end != '\0')
            return false;
        *out = r;
        return true;
    }
    double d = v->valuedouble;
    if (!(d >= -9007199254740992.0 && d <= 9007199254740992.0) || d != floor(d))
        return false;
    *out = (int64_t)d;
    return true;
}

enum status json_get_int(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                         struct err *e)
{
    const cJSON *v = json_member(obj, key);
    if (!v)
        return STATUS_OK;
    int64_t r;
    if (!json_int64(v, &r))
        return err_set(e, STATUS_INVALID, key, "'%s' must be an integer", key);
    if (r < min || r > max)
        return err_set(e, STATUS_INVALID, key, "'%s' must be between %lld and %lld", key,
                       (long long)min, (long long)max);
    *out = r;
    return STATUS_OK;
}

enum status json_get_double(const cJSON *obj, const char *key, double min, double max, double *out,
                            struct err *e)
{
    const cJSON *v = json_member(obj, key);
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsNumber(v))
        return err_set(e, STATUS_INVALID, key, "'%s' must be a number", key);
    if (!(v->valuedouble >= min && v->valuedouble <= max))
        return err_set(e, STATUS_INVALID, key, "'%s' must be between %g and %g", key, min, max);
    *out = v->valuedouble;
    return STATUS_OK;
}

enum status json_get_string(const cJSON *obj, const char *key, const char **out, struct err *e)
{
    const cJSON *v = json_member(obj, key);
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsString(v))
        return err_set(e, STATUS_INVALID, key, "'%s' must be a string", key);
    *out = v->valuestring;
    return STATUS_OK;
}
