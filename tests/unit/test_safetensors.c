/* The eight rules of safetensors.h, each from both sides, and files that end early. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/model/safetensors.h"
#include "tests/unit/fixture_files.h"

#define FILE_NAME "x.safetensors"

/* ---- headers ---- */

struct header_case {
    const char *header;
    size_t data_bytes;
    const char *param; /* NULL: accepted */
    const char *why;
};

#define T(dtype, shape, offsets)                                                                   \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(a, b)                                                                                  \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a "},"                              \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" b "}}"

static const struct header_case header_cases[] = {
    /* 3: JSON, and nothing else */
    {"{}", 0, NULL, NULL},
    {"{}  \n", 0, NULL, NULL},
    {" {}", 0, FILE_NAME, "does not begin with {"},
    {"\xef\xbb\xbf{}", 0, FILE_NAME, "does not begin with {"},
    {"", 0, FILE_NAME, "does not begin with {"},
    {"[]", 0, FILE_NAME, "does not begin with {"},
    {"{}x", 0, FILE_NAME, "text after the end"},
    {"{", 0, FILE_NAME, "expected a string"},
    {"{\"\xff\":1}", 0, FILE_NAME, "invalid UTF-8"},
    {"{\"t\":1}", 0, "t", "must be an object"},
    {"{\"t\":null}", 0, "t", "must be an object"},
    {"{\"__metadata__\":{\"a\":\"b\"}}", 0, NULL, NULL},
    {"{\"__metadata__\":{}}", 0, NULL, NULL},
    {"{\"__metadata__\":[]}", 0, FILE_NAME, "__metadata__ must be an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, FILE_NAME, "must be a string"},
    {"{\"__metadata__\":{\"a\":{\"b\":{}}}}", 0, FILE_NAME, "must be a string"}, /* depth 4 */
    {"{\"__metadata__\":{\"a\":{\"b\":{\"c\":{}}}}}", 0, FILE_NAME, "nested too deeply"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "a", "duplicate key"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
     "\"\\u0074\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
     1, "t", "duplicate key"},
    {"{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "dtype",
     "duplicate key"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"more\":1}}", 1, "t",
     "unknown member \"more\""},
    {"{\"t\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, "t", "dtype is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "t", "shape is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "t", "data_offsets is missing"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, NULL, NULL},
    /* 4: dtypes */
    {T("BOOL", "[3]", "[0,3]"), 3, NULL, NULL},
    {T("I8", "[3]", "[0,3]"), 3, NULL, NULL},
    {T("F8_E4M3", "[3]", "[0,3]"), 3, NULL, NULL},
    {T("F8_E5M2", "[3]", "[0,3]"), 3, NULL, NULL},
    {T("F16", "[3]", "[0,6]"), 6, NULL, NULL},
    {T("BF16", "[3]", "[0,6]"), 6, NULL, NULL},
    {T("U16", "[3]", "[0,6]"), 6, NULL, NULL},
    {T("F32", "[3]", "[0,12]"), 12, NULL, NULL},
    {T("U32", "[3]", "[0,12]"), 12, NULL, NULL},
    {T("F64", "[3]", "[0,24]"), 24, NULL, NULL},
    {T("U64", "[3]", "[0,24]"), 24, NULL, NULL},
    {T("F128", "[3]", "[0,48]"), 48, "t", "unknown dtype \"F128\""},
    {T("f32", "[3]", "[0,12]"), 12, "t", "unknown dtype"},
    {"{\"t\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,1]}}", 1, "t", "dtype must be a string"},
    /* 5: shapes */
    {T("U8", "[]", "[0,1]"), 1, NULL, NULL},
    {T("U8", "[1,1,1,1,1,1,1,1]", "[0,1]"), 1, NULL, NULL},
    {T("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "t", "more than 8 dimensions"},
    {T("U8", "3", "[0,3]"), 3, "t", "shape must be a list"},
    {T("U8", "[-1]", "[0,1]"), 1, "t", "not a non-negative integer"},
    {T("U8", "[-0]", "[0,0]"), 0, "t", "not a non-negative integer"},
    {T("U8", "[1.0]", "[0,1]"), 1, "t", "not a non-negative integer"},
    {T("U8", "[1e0]", "[0,1]"), 1, "t", "not a non-negative integer"},
    {T("U8", "[\"1\"]", "[0,1]"), 1, "t", "not a non-negative integer"},
    {T("U8", "[[1]]", "[0,1]"), 1, "t", "not a non-negative integer"},
    {T("U8", "[9223372036854775808]", "[0,1]"), 1, "t", "not a non-negative integer"},
    {T("U8", "[9223372036854775807,2]", "[0,1]"), 1, "t", "needs 18446744073709551614 bytes"},
    {T("U8", "[9223372036854775807,3]", "[0,1]"), 1, "t", "size overflows"},
    {T("F32", "[4611686018427387904]", "[0,0]"), 0, "t", "size overflows"},
    {T("U8", "[0]", "[0,0]"), 0, NULL, NULL},
    {T("U8", "[0,9223372036854775807]", "[0,0]"), 0, NULL, NULL},
    {T("U8", "[0,9223372036854775807,3]", "[0,0]"), 0, "t", "size overflows"},
    {T("U8", "[9223372036854775807,3,0]", "[0,0]"), 0, "t", "size overflows"},
    {T("U8", "[0,4]", "[0,4]"), 4, "t", "needs 0 bytes"},
    /* 6: offsets */
    {T("U8", "[4]", "[0,4]"), 4, NULL, NULL},
    {T("U8", "[4]", "[0,5]"), 4, "t", "ends at byte 5 of 4"},
    {T("U8", "[4]", "[4,0]"), 4, "t", "begin 4 after end 0"},
    {T("U8", "[4]", "[0]"), 4, "t", "two integers"},
    {T("U8", "[4]", "[0,4,4]"), 4, "t", "two integers"},
    {T("U8", "[4]", "{\"a\":0,\"b\":4}"), 4, "t", "two integers"},
    {T("U8", "[4]", "[-4,0]"), 4, "t", "non-negative"},
    {T("U8", "[4]", "[0,4.0]"), 4, "t", "non-negative"},
    {T("U8", "[4]", "[0,18446744073709551620]"), 4, "t", "non-negative"},
    /* 7: sizes */
    {T("F32", "[2,3]", "[0,24]"), 24, NULL, NULL},
    {T("F32", "[2,3]", "[0,23]"), 23, "t", "F32 [2, 3] needs 24 bytes, data_offsets hold 23"},
    {T("F32", "[2,3]", "[0,25]"), 25, "t", "needs 24 bytes"},
    /* 8: the whole of the data, once */
    {TWO("[0,4]", "[4,8]"), 8, NULL, NULL},
    {TWO("[4,8]", "[0,4]"), 8, NULL, NULL},
    {TWO("[0,4]", "[5,9]"), 9, "b", "1 bytes after what is before it"},
    {TWO("[0,4]", "[3,7]"), 7, "b", "inside tensor a"},
    {TWO("[0,4]", "[0,4]"), 4, "b", "inside tensor a"},
    {TWO("[1,5]", "[5,9]"), 9, "a", "1 bytes after"},
    {TWO("[0,4]", "[4,8]"), 9, FILE_NAME, "the tensors fill 8 of them"},
    {"{}", 1, FILE_NAME, "the tensors fill 0 of them"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]},"
     "\"f\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
     4, NULL, NULL},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}",
     4, "e", "inside tensor a"},
};

static void test_safetensors_header_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++) {
        const struct header_case *c = &header_cases[i];
        struct safetensors *s = NULL;
        struct err e = {0};
        enum status st =
            safetensors_parse(c->header, strlen(c->header), c->data_bytes, FILE_NAME, &s, &e);
        if (!c->param && st != STATUS_OK)
            fail_msg("%s: refused: %s", c->header, e.msg);
        if (c->param && st != STATUS_BAD_FILE)
            fail_msg("%s: status %s", c->header, status_code(st));
        if (c->param && (strcmp(e.param, c->param) != 0 || !strstr(e.msg, c->why)))
            fail_msg("%s: [%s] \"%s\", expected [%s] \"%s\"", c->header, e.param, e.msg, c->param,
                     c->why);
        if (c->param && !strstr(e.msg, FILE_NAME))
            fail_msg("%s: \"%s\" does not name the file", c->header, e.msg);
        safetensors_free(s);
    }
}

/* `count` empty tensors. */
static void many(struct strbuf *out, size_t count)
{
    strbuf_puts(out, "{");
    for (size_t i = 0; i < count; i++)
        strbuf_printf(out,
                      "%s\"model.layers.%zu.w\":{\"dtype\":\"F32\",\"shape\":[0,1,1,1,1,1,1,1],"
                      "\"data_offsets\":[0,0]}",
                      i > 0 ? "," : "", i * 7919 % count);
    strbuf_puts(out, "}");
}

static void test_safetensors_count_limit(void **state)
{
    (void)state;
    for (size_t count = LIMIT_TENSORS; count <= LIMIT_TENSORS + 1; count++) {
        struct strbuf h;
        struct safetensors *s = NULL;
        struct err e = {0};
        strbuf_init(&h, 16u << 20);
        many(&h, count);
        int64_t start = clock_thread_cpu_ns();
        enum status st = safetensors_parse(strbuf_str(&h), h.len, 0, FILE_NAME, &s, &e);
        print_message("%zu tensors: %.1f ms\n", count,
                      (double)(clock_thread_cpu_ns() - start) / 1e6);
        assert_int_equal(st, count == LIMIT_TENSORS ? STATUS_OK : STATUS_LIMIT);
        if (s) {
            assert_int_equal(s->count, count);
            assert_non_null(safetensors_find(s, "model.layers.0.w"));
            assert_non_null(safetensors_find(s, "model.layers.16383.w"));
            assert_null(safetensors_find(s, "model.layers.16384.w"));
            assert_null(safetensors_find(s, ""));
        }
        safetensors_free(s);
        strbuf_deinit(&h);
    }
}

/* ---- files ---- */

static int memory_file(const void *data, size_t n)
{
    int fd = memfd_create("safetensors", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    return fd;
}

/* Both ways in must agree. */
static enum status open_both(int fd, struct safetensors **mapped, struct safetensors **copied,
                             struct err *e)
{
    struct err other = {0};
    enum status st = safetensors_map(fd, FILE_NAME, mapped, e);
    enum status st2 = safetensors_read(fd, FILE_NAME, 1u << 30, NULL, copied, &other);
    assert_int_equal(st, st2);
    assert_string_equal(e->msg, other.msg);
    assert_string_equal(e->param, other.param);
    return st;
}

static const struct fixture_tensor small[] = {
    {"a", "F32", 2, {2, 3}, NULL},    {"b", "BF16", 1, {5}, NULL}, {"c", "F16", 2, {3, 1}, NULL},
    {"d", "I64", 1, {2}, NULL},       {"e", "F32", 0, {0}, NULL},  {"f", "F32", 3, {1, 2, 1}, NULL},
    {"model.x", "F32", 1, {0}, NULL},
};

static void test_safetensors_map_and_read_agree(void **state)
{
    (void)state;
    struct strbuf file;
    struct err e = {0};
    struct safetensors *m = NULL;
    struct safetensors *r = NULL;
    strbuf_init(&file, 1u << 20);
    fixture_safetensors(&file, small, sizeof small / sizeof small[0]);
    int fd = memory_file(file.data, file.len);
    if (open_both(fd, &m, &r, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    close(fd);
    assert_int_equal(m->data_bytes, 24 + 10 + 6 + 16 + 4 + 8);
    assert_memory_equal(m->data, r->data, m->data_bytes);
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
        const struct safetensors_tensor *t = safetensors_find(m, small[i].name);
        struct tensor v = {0};
        bool can = strcmp(small[i].dtype, "I64") != 0 && (t->rank == 1 || t->rank == 2);
        assert_string_equal(safetensors_dtype_name(t->dtype), small[i].dtype);
        assert_int_equal(t->rank, small[i].rank);
        enum status st = safetensors_view(m, t, &v, &e);
        assert_int_equal(st, can ? STATUS_OK : STATUS_BAD_FILE);
        if (!can) {
            assert_string_equal(e.param, small[i].name);
            continue;
        }
        assert_int_equal(v.rows, t->rank == 2 ? t->shape[0] : 1);
        assert_int_equal(v.cols, t->shape[t->rank - 1]);
        assert_true((const unsigned char *)v.data >= m->data);
        assert_true((const unsigned char *)v.data + tensor_bytes(&v) <= m->data + m->data_bytes);
    }
    safetensors_free(m);
    safetensors_free(r);
    strbuf_deinit(&file);
}

static void test_safetensors_hash_covers_the_file(void **state)
{
    (void)state;
    struct strbuf file;
    struct err e = {0};
    struct safetensors *s = NULL;
    struct sha256_job *hash = sha256_job_begin();
    uint8_t got[SHA256_BYTES];
    uint8_t want[SHA256_BYTES];
    strbuf_init(&file, 1u << 20);
    fixture_safetensors(&file, small, sizeof small / sizeof small[0]);
    int fd = memory_file(file.data, file.len);
    assert_non_null(hash);
    assert_int_equal(safetensors_read(fd, FILE_NAME, file.len, hash, &s, &e), STATUS_OK);
    sha256_job_end(hash, got);
    sha256_of(file.data, file.len, want);
    assert_memory_equal(got, want, SHA256_BYTES);
    safetensors_free(s);
    assert_int_equal(safetensors_read(fd, FILE_NAME, file.len - 1, NULL, &s, &e), STATUS_LIMIT);
    close(fd);
    strbuf_deinit(&file);
}

/* ADP-1: a file cut anywhere, or with one byte more, is refused by both ways. */
static void test_safetensors_cut_anywhere(void **state)
{
    (void)state;
    struct strbuf file;
    strbuf_init(&file, 1u << 20);
    fixture_safetensors(&file, small, sizeof small / sizeof small[0]);
    strbuf_putc(&file, '!');
    for (size_t n = 0; n <= file.len; n++) {
        struct err e = {0};
        struct safetensors *m = NULL;
        struct safetensors *r = NULL;
        int fd = memory_file(file.data, n);
        enum status st = open_both(fd, &m, &r, &e);
        close(fd);
        if ((st == STATUS_OK) != (n == file.len - 1) || (st != STATUS_OK && st != STATUS_BAD_FILE))
            fail_msg("cut at %zu of %zu: %s: %s", n, file.len - 1, status_code(st), e.msg);
        safetensors_free(m);
        safetensors_free(r);
    }
    strbuf_deinit(&file);
}

/* Rules 1 and 2. */
static void test_safetensors_header_length(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        uint64_t file_bytes;
        bool fits; /* the length, not what is behind it */
    } cases[] = {
        {2, 10, true},
        {3, 10, false},
        {UINT64_MAX, 10, false},
        {UINT64_MAX - 7, 10, false},
        {(uint64_t)1 << 63, 10, false},
        {LIMIT_SAFETENSORS_HEADER_BYTES, (uint64_t)LIMIT_SAFETENSORS_HEADER_BYTES + 8, true},
        {(uint64_t)LIMIT_SAFETENSORS_HEADER_BYTES + 1,
         (uint64_t)LIMIT_SAFETENSORS_HEADER_BYTES + 4096, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        for (int k = 0; k < 8; k++)
            head[k] = (char)(cases[i].length >> (8 * k) & 255);
        int fd = memory_file(head, sizeof head);
        assert_int_equal(ftruncate(fd, (off_t)cases[i].file_bytes), 0);
        struct safetensors *s = NULL;
        struct err e = {0};
        enum status st = safetensors_map(fd, FILE_NAME, &s, &e);
        bool by_length = st == STATUS_BAD_FILE && strstr(e.msg, "header of ");
        if (by_length == cases[i].fits)
            fail_msg("length %llu in %llu bytes: %s: %s", (unsigned long long)cases[i].length,
                     (unsigned long long)cases[i].file_bytes, status_code(st), e.msg);
        safetensors_free(s);
        close(fd);
    }
}

static void test_safetensors_names_other_formats(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *why;
    } cases[] = {
        {"PK\3\4\0\0\0\0\0\0\0\0", 12, "zip archive"},
        {"\x80\2}q\0X\0\0\0\0", 10, "pickle"},
        {"GGUF\3\0\0\0\0\0", 10, "GGUF"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "Git LFS"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors *s = NULL;
        struct err e = {0};
        int fd = memory_file(cases[i].bytes, cases[i].n);
        assert_int_equal(safetensors_map(fd, FILE_NAME, &s, &e), STATUS_BAD_FILE);
        if (!strstr(e.msg, cases[i].why))
            fail_msg("\"%s\" does not speak of %s", e.msg, cases[i].why);
        close(fd);
    }
}

static void test_safetensors_every_allocation_may_fail(void **state)
{
    (void)state;
    struct strbuf file;
    strbuf_init(&file, 1u << 20);
    fixture_safetensors(&file, small, sizeof small / sizeof small[0]);
    int fd = memory_file(file.data, file.len);
    int failures = 0;
    for (int way = 0; way < 2; way++) {
        for (int k = 1;; k++) {
            struct safetensors *s = NULL;
            struct err e = {0};
            mem_fail_at(k);
            enum status st = way == 0 ? safetensors_map(fd, FILE_NAME, &s, &e)
                                      : safetensors_read(fd, FILE_NAME, 1u << 30, NULL, &s, &e);
            mem_fail_at(0);
            safetensors_free(s);
            if (st == STATUS_OK)
                break;
            if (st != STATUS_NO_MEMORY)
                fail_msg("allocation %d: %s: %s", k, status_code(st), e.msg);
            failures++;
        }
    }
    print_message("allocations failed one by one: %d\n", failures);
    assert_true(failures >= 12);
    close(fd);
    strbuf_deinit(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_header_rules),
        cmocka_unit_test(test_safetensors_count_limit),
        cmocka_unit_test(test_safetensors_map_and_read_agree),
        cmocka_unit_test(test_safetensors_hash_covers_the_file),
        cmocka_unit_test(test_safetensors_cut_anywhere),
        cmocka_unit_test(test_safetensors_header_length),
        cmocka_unit_test(test_safetensors_names_other_formats),
        cmocka_unit_test(test_safetensors_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
