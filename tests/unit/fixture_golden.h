/* fixture_golden: where the golden models and adapters are, from the repository's root. */
#ifndef CHORUS_TESTS_FIXTURE_GOLDEN_H
#define CHORUS_TESTS_FIXTURE_GOLDEN_H

#define GOLDEN_DIR "tests/golden/data"

static const char *const golden_archs[] = {"llama", "mistral", "qwen2", "qwen3"};
#define GOLDEN_ARCH_COUNT (sizeof golden_archs / sizeof golden_archs[0])

#endif
