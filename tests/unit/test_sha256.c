#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/sha256.h"

/* FIPS 180-4 examples, and the empty message. */
static void test_sha256_known_answers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t repeat;
        const char *hex;
    } cases[] = {
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        char *all = malloc(n * cases[i].repeat + 1);
        uint8_t digest[SHA256_BYTES];
        char hex[65];
        for (size_t k = 0; k < cases[i].repeat; k++)
            memcpy(all + k * n, cases[i].text, n);
        sha256_of(all, n * cases[i].repeat, digest);
        sha256_hex(digest, hex);
        assert_string_equal(hex, cases[i].hex);
        free(all);
    }
}

/* Pieces of one block go the plain way, long ones through the processor's instructions where it has
 * them: any cutting must give one digest. */
static void test_sha256_cutting_does_not_matter(void **state)
{
    (void)state;
    static unsigned char data[5000];
    unsigned seed = 12345;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)((seed = seed * 1103515245u + 12345u) >> 16);
    for (size_t n = 0; n < sizeof data; n += 1 + n / 9) {
        uint8_t slow[SHA256_BYTES];
        struct sha256 s;
        sha256_init(&s);
        for (size_t i = 0; i < n; i++)
            sha256_update(&s, data + i, 1);
        sha256_final(&s, slow);
        for (size_t piece = 1; piece <= n; piece = piece * 3 + 7) {
            uint8_t fast[SHA256_BYTES];
            sha256_init(&s);
            for (size_t i = 0; i < n; i += piece)
                sha256_update(&s, data + i, n - i < piece ? n - i : piece);
            sha256_final(&s, fast);
            if (memcmp(slow, fast, sizeof slow) != 0)
                fail_msg("%zu bytes in pieces of %zu differ from single bytes", n, piece);
        }
        uint8_t whole[SHA256_BYTES];
        sha256_of(data, n, whole);
        assert_memory_equal(slow, whole, sizeof slow);
    }
}

static void test_sha256_speed_is_printed(void **state)
{
    (void)state;
    size_t n = 8u << 20;
    unsigned char *data = calloc(n, 1);
    uint8_t digest[SHA256_BYTES];
    int64_t start = clock_thread_cpu_ns();
    sha256_of(data, n, digest);
    double s = (double)(clock_thread_cpu_ns() - start) / 1e9;
    print_message("sha256: %.0f MB/s\n", (double)n / 1e6 / s);
    assert_true(s < 10);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_known_answers),
        cmocka_unit_test(test_sha256_cutting_does_not_matter),
        cmocka_unit_test(test_sha256_speed_is_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
