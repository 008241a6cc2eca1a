/* jinja_lex: template source to tokens, with the whitespace rules that chat templates are written
 * for: trim_blocks, lstrip_blocks, "-" and "+" marks, the last newline dropped, \r\n and \r as \n.
 *
 * The lexer is pulled token by token; strings and names point into the normalised source, strings
 * with escapes into the arena. One owner.
 */
#ifndef CHORUS_TEXT_JINJA_LEX_H
#define CHORUS_TEXT_JINJA_LEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"

enum jinja_token_kind {
    JINJA_T_EOF,
    JINJA_T_DATA,
    JINJA_T_BLOCK_BEGIN,
    JINJA_T_BLOCK_END,
    JINJA_T_PRINT_BEGIN,
    JINJA_T_PRINT_END,
    JINJA_T_NAME,
    JINJA_T_STRING,
    JINJA_T_INT,
    JINJA_T_FLOAT,
    JINJA_T_OP, /* op: its characters packed, see JINJA_OP2 */
};

/* An operator of one or two characters as a number: 'x' or JINJA_OP2('=', '='). */
#define JINJA_OP2(a, b) ((a) | (b) << 8)

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    int op;
    const char *text; /* DATA, NAME, STRING */
    size_t len;
    int64_t i;
    double f;
};

struct jinja_lexer {
    struct arena *arena; /* borrowed */
    struct err *err;     /* borrowed */
    const char *src;     /* normalised source, in the arena */
    size_t n;
    size_t pos;
    int line;
    int state;                               /* private: what the position is inside of */
    bool line_starting;                      /* the last match ended with a newline */
    char brackets[LIMIT_TEMPLATE_DEPTH * 2]; /* open ones, as their closing characters */
    size_t bracket_count;
};

/* Copies and normalises the source. STATUS_BAD_FILE when it is not UTF-8. */
WARN_UNUSED enum status jinja_lexer_init(struct jinja_lexer *lx, struct arena *arena,
                                         const char *source, size_t n, struct err *e);
/* STATUS_BAD_FILE with the line; STATUS_NO_MEMORY. */
WARN_UNUSED enum status jinja_lexer_next(struct jinja_lexer *lx, struct jinja_token *out);

/* Token for messages: its text or what it is. */
void jinja_token_describe(const struct jinja_token *t, char *out, size_t n);

#endif
