/* fuzz_sse: a stream of chunks made of arbitrary bytes is read back by an independent reader: every
 * event is JSON, nothing is lost or invented, and log-probabilities keep their tokens' bytes.
 *
 * Input: a byte of switches, then pieces: length, token, flags, bytes. */
#include "tests/api/fake_engine.h"

#include "server/answer.h"
#include "server/sse.h"
#include "tests/fuzz/sse_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct expect {
    struct strbuf text;
    struct strbuf bytes; /* of the tokens */
    int finishes;
    bool chat;
};

static void take(void *ctx, const cJSON *v)
{
    struct expect *got = ctx;
    const cJSON *choice = cJSON_GetObjectItem(v, "choices")->child;
    CHECK(cJSON_IsString(cJSON_GetObjectItem(v, "id")) && choice);
    const cJSON *delta = got->chat ? cJSON_GetObjectItem(choice, "delta") : choice;
    const cJSON *text = cJSON_GetObjectItem(delta, got->chat ? "content" : "text");
    if (text)
        strbuf_puts(&got->text, text->valuestring);
    got->finishes += cJSON_IsString(cJSON_GetObjectItem(choice, "finish_reason"));
    const cJSON *lp = cJSON_GetObjectItem(choice, "logprobs");
    if (cJSON_IsNull(lp))
        return;
    if (!got->chat) {
        int n = cJSON_GetArraySize(cJSON_GetObjectItem(lp, "tokens"));
        CHECK(n == cJSON_GetArraySize(cJSON_GetObjectItem(lp, "token_logprobs")));
        CHECK(n == cJSON_GetArraySize(cJSON_GetObjectItem(lp, "top_logprobs")));
        CHECK(n == cJSON_GetArraySize(cJSON_GetObjectItem(lp, "text_offset")));
        return;
    }
    const cJSON *t;
    cJSON_ArrayForEach(t, cJSON_GetObjectItem(lp, "content"))
    {
        const cJSON *b;
        cJSON_ArrayForEach(b, cJSON_GetObjectItem(t, "bytes"))
        {
            CHECK(b->valueint >= 0 && b->valueint <= 255);
            strbuf_putc(&got->bytes, (char)b->valueint);
        }
        CHECK(cJSON_IsNumber(cJSON_GetObjectItem(t, "logprob")));
    }
}

static void chunk(struct strbuf *out, const struct answer_head *h, const struct answer_choice *c,
                  bool first, bool role)
{
    sse_begin(out);
    answer_begin(out, h, true, first);
    answer_delta(out, h, c, role);
    strbuf_putc(out, '}');
    sse_end(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    static struct engine_text text;
    for (int i = 0; i < 256; i++)
        text.bytes[i] = (char)(i ? i : 1); /* our JSON reader refuses NUL, a stream may hold one */
    struct engine_adapter_use use = {.name = "elf", .weight = 0.5f, .generation = data[1]};
    char model[3] = {(char)data[1], (char)data[0], '\0'};
    struct answer_head h = {
        .kind = data[0] & 1 ? API_CHAT : API_COMPLETION,
        .id = "id",
        .model = model,
        .fingerprint = "fp",
        .adapters = &use,
        .adapter_count = data[0] >> 1 & 1,
        .text = &text,
        .tokens_as_ids = data[0] >> 2 & 1,
    };
    bool logprobs = data[0] >> 3 & 1;
    struct strbuf out;
    struct expect want = {0};
    struct expect got = {.chat = h.kind == API_CHAT};
    strbuf_init(&out, 64u << 20);
    struct strbuf *bufs[] = {&want.text, &want.bytes, &got.text, &got.bytes};
    for (int i = 0; i < 4; i++)
        strbuf_init(bufs[i], 64u << 20);
    int comments = 0;
    struct answer_choice begin = {.index = 0, .text = ""};
    chunk(&out, &h, &begin, true, true);
    const uint8_t *p = data + 2;
    size_t left = size - 2;
    while (left >= 3) {
        size_t len = p[0] & 63;
        struct answer_token token = {.token = p[1] | (p[2] & 3) << 8, .has_logprob = true};
        memcpy(&token.logprob, p, sizeof(uint16_t));
        token.top_count = p[2] >> 4;
        for (int k = 0; k < token.top_count; k++)
            token.top[k] = (struct token_logprob){(p[1] * (k + 1)) % 300, -(float)k};
        if (p[0] & 128) {
            sse_ping(&out);
            comments++;
        }
        p += 3;
        left -= 3;
        len = len < left ? len : left;
        char piece[64];
        for (size_t i = 0; i < len; i++)
            piece[i] = (char)(p[i] ? p[i] : 1);
        struct answer_choice c = {
            .text = piece,
            .text_len = len,
            .has_logprobs = logprobs,
            .tokens = &token,
            .token_count = logprobs,
        };
        chunk(&out, &h, &c, false, false);
        sse_reader_sanitize(&want.text, piece, len);
        size_t n = 0;
        const char *raw = engine_text_token(&text, token.token, &n);
        if (logprobs && got.chat && raw)
            strbuf_append(&want.bytes, raw, n);
        p += len;
        left -= len;
    }
    struct answer_choice last = {.text = "", .finish_reason = "stop"};
    chunk(&out, &h, &last, false, false);
    sse_done(&out);
    CHECK(!out.failed);
    struct sse_reader r = {.on_json = take, .ctx = &got};
    if (!sse_reader_read(&r, out.data, out.len)) {
        fprintf(stderr, "%s\n%s\n", r.why, out.data);
        abort();
    }
    CHECK(r.done && r.comments == comments && got.finishes == 1);
    CHECK(strcmp(strbuf_str(&want.text), strbuf_str(&got.text)) == 0);
    CHECK(want.bytes.len == got.bytes.len);
    CHECK(memcmp(strbuf_str(&want.bytes), strbuf_str(&got.bytes), want.bytes.len) == 0);
    strbuf_deinit(&out);
    for (int i = 0; i < 4; i++)
        strbuf_deinit(bufs[i]);
    return 0;
}
