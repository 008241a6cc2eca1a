/* How fast an adapter comes from its files to the image that is sent to the card: 3B shape, 64
 * ranks on q, k, v (51 MB) and on all seven (195 MB), bf16 and f32, files in the page cache.
 *
 *   load_bench [DIRECTORY] [REPEATS]
 *
 * No card is needed: what is measured ends in host memory. Prints MB of the file a second: the best
 * and the median. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuda/cuda_adapter.h"
#include "cuda/stack_shape.h"
#include "engine/adapter/lora.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/sha256.h"

#define REPEATS_MAX 64
#define RANK        64

static struct model base = {.shape = {.arch = ARCH_LLAMA,
                                      .layers = 28,
                                      .hidden = 3072,
                                      .heads = 24,
                                      .kv_heads = 8,
                                      .head_dim = 128,
                                      .ffn = 8192,
                                      .vocab = 128256}};

static const char *const names[LINEAR_COUNT] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "load_bench: %s: %s\n", what, why);
    exit(1);
}

static FILE *create(const char *dir, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wbe");
    if (!f)
        give_up(path, "cannot be written");
    return f;
}

/* ---- the files ---- */

static size_t put_entry(FILE *f, int layer, int kind, char which, size_t at, size_t value_bytes)
{
    int in, out;
    model_site_dims(&base.shape, SITE_OF(layer, kind), &in, &out);
    int rows = which == 'A' ? RANK : out, cols = which == 'A' ? in : RANK;
    size_t bytes = (size_t)rows * (size_t)cols * value_bytes;
    if (f)
        fprintf(f,
                "%s\"base_model.model.model.layers.%d.%s.lora_%c.weight\":{\"dtype\":\"%s\","
                "\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
                at ? "," : "", layer, names[kind], which, value_bytes == 2 ? "BF16" : "F32", rows,
                cols, at, at + bytes);
    return at + bytes;
}

static size_t put_header(FILE *f, int kinds, size_t value_bytes)
{
    size_t at = 0;
    for (int layer = 0; layer < base.shape.layers; layer++)
        for (int kind = 0; kind < kinds; kind++)
            for (int which = 'A'; which <= 'B'; which++)
                at = put_entry(f, layer, kind, (char)which, at, value_bytes);
    return at;
}

static void put_values(FILE *f, size_t bytes, size_t value_bytes)
{
    static uint16_t block[1 << 16];
    uint64_t seed = 7;
    for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        block[i] = value_bytes == 4 && i % 2 == 0
                       ? (uint16_t)(seed >> 48)
                       : (uint16_t)(0x3c00 | (seed >> 40 & 0x80ff)); /* around 0.01 */
    }
    for (size_t at = 0; at < bytes; at += sizeof block) {
        size_t n = bytes - at < sizeof block ? bytes - at : sizeof block;
        if (fwrite(block, 1, n, f) != n)
            give_up("adapter_model.safetensors", "cannot be written");
    }
}

static size_t make_files(const char *dir, int kinds, size_t value_bytes)
{
    char *header = NULL;
    size_t length = 0;
    (void)mkdir(dir, 0777);
    FILE *f = create(dir, "adapter_config.json");
    fprintf(f,
            "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%d,\"target_modules\":[\"q_proj\","
            "\"k_proj\",\"v_proj\"%s]}",
            RANK, RANK, kinds == 7 ? ",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"" : "");
    fclose(f);
    FILE *m = open_memstream(&header, &length);
    fputc('{', m);
    size_t bytes = put_header(m, kinds, value_bytes);
    fputc('}', m);
    fclose(m);
    f = create(dir, "adapter_model.safetensors");
    uint64_t n = length;
    fwrite(&n, sizeof n, 1, f);
    fwrite(header, 1, length, f);
    put_values(f, bytes, value_bytes);
    if (fclose(f) != 0)
        give_up(dir, "cannot be written");
    free(header);
    return bytes;
}

/* ---- loading ---- */

enum stage { STAGE_OPEN, STAGE_PACK, STAGE_HASH, STAGE_FREE, STAGE_ALL, STAGES };

static void load(const char *dir, int64_t ns[STAGES])
{
    struct lora *l = NULL;
    struct err e = {0};
    struct lora_embed embed;
    const size_t stacks = (size_t)STACK_COUNT(base.shape.layers);
    struct lora_stack *table = mem_calloc(stacks, sizeof *table);
    int64_t begin = clock_now_ns();
    if (lora_open_early(dir, &base, &l, &e) != STATUS_OK)
        give_up(dir, e.msg);
    int64_t opened = clock_now_ns();
    uint8_t *image = mem_alloc_aligned(cuda_adapter_bytes(l, &base.shape, false));
    if (!table || !image ||
        cuda_adapter_pack(l, &base.shape, false, image, (uint64_t)1 << 32, table, &embed, &e) !=
            STATUS_OK)
        give_up(dir, e.msg);
    int64_t packed = clock_now_ns();
    lora_identify(l);
    int64_t hashed = clock_now_ns();
    lora_free(l);
    int64_t end = clock_now_ns();
    ns[STAGE_OPEN] = opened - begin;
    ns[STAGE_PACK] = packed - opened;
    ns[STAGE_HASH] = hashed - packed;
    ns[STAGE_FREE] = end - hashed;
    ns[STAGE_ALL] = end - begin;
    mem_free(image);
    mem_free(table);
}

static int ascending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(const char *name, const char *dir, size_t bytes, int repeats)
{
    static const char *const stages[STAGES] = {"read, bind", "pack", "wait for hash", "free",
                                               "all"};
    static int64_t ns[STAGES][REPEATS_MAX];
    for (int i = 0; i < repeats; i++) {
        int64_t one[STAGES];
        load(dir, one);
        for (int k = 0; k < STAGES; k++)
            ns[k][i] = one[k];
    }
    for (int k = 0; k < STAGES; k++) {
        qsort(ns[k], (size_t)repeats, sizeof ns[k][0], ascending);
        printf("%-14s %6.1f MB  %-16s %8.2f ms  %7.0f MB/s  median %7.0f MB/s\n", name,
               (double)bytes * 1e-6, stages[k], (double)ns[k][0] * 1e-6,
               (double)bytes * 1e3 / (double)ns[k][0],
               (double)bytes * 1e3 / (double)ns[k][repeats / 2]);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int kinds;
        size_t value_bytes;
    } sets[] = {{"qkv bf16", 3, 2}, {"seven bf16", 7, 2}, {"qkv f32", 3, 4}};
    char dir[512], file[600];
    const int repeats = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 7;
    snprintf(dir, sizeof dir, "%s/load_bench.%d", argc > 1 ? argv[1] : "/dev/shm", (int)getpid());
    if (repeats < 1 || repeats > REPEATS_MAX)
        give_up("REPEATS", "1 to 64");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        size_t bytes = make_files(dir, sets[i].kinds, sets[i].value_bytes);
        usleep(50000); /* younger files are read twice */
        measure(sets[i].name, dir, bytes, repeats);
    }
    snprintf(file, sizeof file, "%s/adapter_config.json", dir);
    unlink(file);
    snprintf(file, sizeof file, "%s/adapter_model.safetensors", dir);
    unlink(file);
    rmdir(dir);
    return 0;
}
