/* tokenizer_parts: what a struct tokenizer is made of, for the files that build it and use it. */
#ifndef CHORUS_TEXT_TOKENIZER_PARTS_H
#define CHORUS_TEXT_TOKENIZER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/decoder.h"
#include "engine/text/normalize.h"
#include "engine/text/post_process.h"
#include "engine/text/pretokenize.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocab.h"

enum token_role { ROLE_BOS, ROLE_EOS, ROLE_UNK, ROLE_PAD, ROLE_COUNT };

struct tokenizer {
    struct vocab vocab;
    struct bpe bpe;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct added_set raw;        /* matched in the text as it came */
    struct added_set normalized; /* matched in the normalized text */
    struct post_process post;
    struct decoder decoder;
    char *roles[ROLE_COUNT]; /* owned, NULL where the config names none */
    int32_t role_ids[ROLE_COUNT];
};

#endif
