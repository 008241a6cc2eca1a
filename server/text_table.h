/* text_table: rows of cells as aligned columns for a terminal, and sizes and times as people read
 * them. One owner; no I/O.
 *
 * Cells are cut to LIMIT bytes and lose control characters, so that a hostile name can neither move
 * the cursor nor break a line. Widths count code points.
 */
#ifndef CHORUS_SERVER_TEXT_TABLE_H
#define CHORUS_SERVER_TEXT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/strbuf.h"

#define TEXT_TABLE_COLUMNS    16
#define TEXT_TABLE_CELL_BYTES 512
#define TEXT_SHORT_BYTES      24

struct text_table {
    int columns;
    unsigned right;                /* bit i: column i is set flush right */
    int width[TEXT_TABLE_COLUMNS]; /* code points, over the cells so far */
    char **cells;                  /* owned [count] */
    size_t count;
    size_t cap;
    bool failed; /* out of memory: nothing is printed */
};

void text_table_init(struct text_table *t, int columns, unsigned right);
void text_table_deinit(struct text_table *t);
/* Cells fill rows from left to right; the first row is the heading. NULL is an empty cell. */
void text_table_cell(struct text_table *t, const char *text);
/* Appends the rows, two spaces between columns, each line behind `indent`. False: out of memory. */
bool text_table_print(const struct text_table *t, const char *indent, struct strbuf *out);

/* "999 B", "12.3 KiB", "4.0 GiB". */
void text_bytes(uint64_t bytes, char out[TEXT_SHORT_BYTES]);
/* "just now", "5 minutes ago", "3 days ago"; "-" for a time that is not known (0). */
void text_ago(int64_t now_s, int64_t then_s, char out[TEXT_SHORT_BYTES]);
/* "0:07", "12:34", "3:00:00". */
void text_duration(int64_t seconds, char out[TEXT_SHORT_BYTES]);
/* Copies `text` without control characters and invalid UTF-8 (each becomes '?'), cut to `size`
 * bytes with the terminator. Returns the code points. */
int text_clean(const char *text, char *out, size_t size);

#endif
