/* limits: every cap of Chorus, with its unit and reason. Those that an operator may change have an
 * option of the same meaning in config/options.c whose default is the value here. Over a cap there
 * is a named, tested behaviour. */
#ifndef CHORUS_BASE_LIMITS_H
#define CHORUS_BASE_LIMITS_H

/* JSON text from anywhere. */
#define LIMIT_JSON_DEPTH                                                                           \
    64 /* nesting; deeper has no use and costs stack in every parser behind us */
#define LIMIT_JSON_DEPTH_ANY 128    /* the scanner's fixed stack: no caller may allow more */
#define LIMIT_JSON_MEMBERS   100000 /* values in one request: cJSON keeps 64 bytes for each */

/* Logs. */
#define LIMIT_LOG_VALUE_BYTES 256  /* one field */
#define LIMIT_LOG_TEXT_BYTES  1024 /* one field that is a text, as prompts are */
#define LIMIT_LOG_LINE_BYTES                                                                       \
    4096 /* one line: below PIPE_BUF, so lines of several threads never mix */

/* Requests. */
#define LIMIT_ADAPTERS_PER_REQUEST 4
#define LIMIT_NAME_BYTES           64 /* adapter and model names: [A-Za-z0-9._-] */
#define LIMIT_CHOICES              16 /* n */
#define LIMIT_STOP_STRINGS         4
#define LIMIT_STOP_BYTES           256 /* one stop string: bounds the text held back by a stream */
#define LIMIT_STOP_TOKENS          64
#define LIMIT_LOGIT_BIAS           1024
#define LIMIT_TOP_LOGPROBS         20
#define LIMIT_TOP_K                1024 /* larger top_k behaves as this: mass beyond it is noise */
#define LIMIT_QUEUE                256  /* requests waiting; one more is 429 */
#define LIMIT_EMBEDDINGS           2048 /* texts of one request, as OpenAI */

/* Engine. */
#define LIMIT_KV_PAGE_TOKENS 16
#define LIMIT_OUTBOX_EVENTS  64  /* per request; a full one pauses its sequence until it is read */
#define LIMIT_EVENT_TEXT     256 /* bytes of text in one event; longer text takes several */
#define LIMIT_ADAPTER_SLOTS  64  /* adapters resident beside the base at once */
#define LIMIT_SEQS           256 /* sequences running at once */
#define LIMIT_CTX            (1 << 20) /* tokens a sequence: no model of today goes beyond */
#define LIMIT_ADAPTERS       4096      /* generations alive at once: each costs host memory */
#define LIMIT_SALT_BYTES     256       /* partition key of the prefix cache */
#define LIMIT_ROWS           65536     /* rows (tokens) in one step */
#define LIMIT_KV_PAGES       (1 << 24) /* page numbers stay far from overflow in any product */
#define LIMIT_QUEUE_MAX      (1 << 20) /* what an operator may raise LIMIT_QUEUE to */
#define LIMIT_TOKEN_TEXT_BYTES                                                                     \
    3072                       /* text of one token: what one step makes must fit half an outbox */
#define LIMIT_SCHED_WINDOW 64  /* waiting requests that one step looks at */
#define LIMIT_STEPS_KEPT   256 /* records of the latest steps, 2.4 KB each */
#define LIMIT_STEP_PARTIES 32  /* adapters that a step's record names */

/* Files. */
#define LIMIT_SAFETENSORS_HEADER_BYTES (100u << 20) /* as the reference implementation */
#define LIMIT_SAFETENSORS_RANK         8
#define LIMIT_TENSORS                  16384
#define LIMIT_GGUF_KEYS                4096 /* metadata of a GGUF file; real ones have some dozens */
#define LIMIT_GGUF_NAME_BYTES          255  /* a key or a tensor's name; names there have 63 */
#define LIMIT_GGUF_ALIGNMENT           65536
#define LIMIT_ADAPTER_RANK             512
#define LIMIT_ADAPTER_BYTES            (4ull << 30)
#define LIMIT_ADAPTER_PATTERNS                                                                     \
    16384 /* keys of rank_pattern or alpha_pattern; PEFT may write one a module */
#define LIMIT_ADAPTER_PATTERN_BYTES 16384 /* one regular expression */
#define LIMIT_ADAPTER_MATCH_STEPS                                                                  \
    100000                           /* PCRE2 match limit: one expression on one module name       \
                                      */
#define LIMIT_ADAPTER_MATCH_KIB 4096 /* PCRE2 heap limit of one match */
#define LIMIT_ADAPTER_MATCH_MS  2000 /* processor time for all expressions of one adapter */
#define LIMIT_ALORA_TOKENS      256  /* of an invocation sequence: it is searched in every prompt */
#define LIMIT_CONFIG_JSON_BYTES (4u << 20)
#define LIMIT_PROFILE_BYTES     (1u << 20) /* chorus.json of an adapter: mostly its system prompt */
/* Geometry of a base model: far above what exists, low enough that products of two fit an int. */
#define LIMIT_MODEL_LAYERS         1024
#define LIMIT_MODEL_WIDTH          (1 << 20) /* hidden, ffn, heads x head_dim */
#define LIMIT_MODEL_HEADS          4096
#define LIMIT_HEAD_DIM             1024
#define LIMIT_MODEL_VOCAB          (1 << 22)
#define LIMIT_MODEL_CTX            (1 << 24) /* tokens: below 2^24 a position is exact in float32 */
#define LIMIT_MODEL_SHARDS         1024
#define LIMIT_TOKENIZER_JSON_BYTES (64u << 20)
#define LIMIT_TOKENIZER_JSON_MEMBERS                                                               \
    4000000 /* vocabulary, merges and added tokens of a 262k tokenizer, twice */
#define LIMIT_TOKEN_BYTES         65535      /* spelling of one token; real ones stay below 1,024 */
#define LIMIT_TOKEN_IDS           (1u << 22) /* an id is an index: 16 times the largest vocabulary */
#define LIMIT_TOKENIZER_STEPS     32 /* normalizers, pre-tokenizers, decoders: real files have 8 */
#define LIMIT_PATTERN_BYTES       (64u << 10)  /* one regular expression of a tokenizer.json */
#define LIMIT_ENCODE_BYTES        (64u << 20)  /* one text: eight times what a template may yield */
#define LIMIT_PATTERN_STEPS       1000000      /* backtracking in one match: 20 ms */
#define LIMIT_PATTERN_STEPS_BYTE  100          /* and so many for each byte it may look at */
#define LIMIT_PATTERN_STACK_BYTES (256u << 20) /* of one match: reserved, touched as needed */

/* Chat templates. */
#define LIMIT_TEMPLATE_SOURCE_BYTES (1u << 20)
#define LIMIT_TEMPLATE_STEPS        1000000
#define LIMIT_TEMPLATE_DEPTH        64
#define LIMIT_TEMPLATE_OUTPUT_BYTES (8u << 20)
#define LIMIT_TEMPLATE_TIME_MS      200
#define LIMIT_TEMPLATE_MEMORY_BYTES (64u << 20)

/* Grammars (constrained decoding). */
#define LIMIT_GRAMMAR_TEXT_BYTES    (1u << 20) /* one schema, expression or grammar as text */
#define LIMIT_GRAMMAR_RULES         10000
#define LIMIT_GRAMMAR_DEPTH         256         /* groups in a text; rules under way in an answer */
#define LIMIT_GRAMMAR_EXPR_DEPTH    1024        /* expressions in each other: four to a group */
#define LIMIT_GRAMMAR_CODE          524288      /* instructions, expressions, bytes of literals */
#define LIMIT_GRAMMAR_ITEMS         20000       /* places at which an answer may be at once */
#define LIMIT_GRAMMAR_WORK          500000      /* such places looked at for one token: 15 ms */
#define LIMIT_GRAMMAR_MACHINE_BYTES (16u << 20) /* states remembered for one grammar */
#define LIMIT_GRAMMAR_MASK_BYTES    (16u << 20) /* masks remembered for one grammar */
#define LIMIT_GRAMMAR_COMPILE_MS    2000
#define LIMIT_GRAMMAR_WARM_MS       100   /* of a pool thread, for what answers will ask for */
#define LIMIT_GRAMMAR_WARM_SETS     16384 /* states looked at in that time */
#define LIMIT_GRAMMAR_WARM_NUMBERS  65536 /* of so many */
#define LIMIT_GRAMMAR_CACHE_BYTES   (64u << 20) /* compiled grammars that nobody uses */

#define LIMIT_SCHEMA_PARTS                                                                         \
    256                      /* schemas that apply to one value at once, and branches of a oneOf */
#define LIMIT_TOOLS      128 /* of one request, as OpenAI */
#define LIMIT_TOOL_CALLS 16  /* in one answer that must be calls: it comes to an end */

/* HTTP. */
#define LIMIT_HTTP_HEADER_BYTES     (32u << 10)
#define LIMIT_HTTP_BODY_BYTES       (8u << 20)
#define LIMIT_HTTP_HEADER_MS        10000 /* absolute, from the first byte */
#define LIMIT_HTTP_BODY_MS          30000
#define LIMIT_HTTP_IDLE_MS          75000
#define LIMIT_HTTP_CONNECTIONS      1024
#define LIMIT_HTTP_RESERVED         16 /* connections kept for /health */
#define LIMIT_HTTP_CONNECTIONS_PEER 256
#define LIMIT_HTTP_UNSENT_BYTES     (256u << 10)
#define LIMIT_HTTP_STALL_MS         30000
#define LIMIT_HTTP_PING_MS          15000
#define LIMIT_HTTP_BODIES_BYTES     (256u << 20) /* request bodies in memory, all together */
#define LIMIT_API_KEYS              1024

/* The Hugging Face hub and its cache. */
#define LIMIT_HUB_FILES      10000 /* of one repository: the hub's own advice is to stay below */
#define LIMIT_HUB_LIST_BYTES (16u << 20) /* the list of them */
#define LIMIT_HUB_SNAPSHOTS  10000       /* shown of a cache */
#define LIMIT_LISTENERS      8           /* listening sockets, as a service manager may pass them */
#define LIMIT_STEP_STREAMS   16          /* clients that watch steps at once; one more is 429 */

#endif
