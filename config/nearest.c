#include "config/nearest.h"

#include <stdint.h>
#include <string.h>

#define ABBREVIATION_MIN 3

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment, three rows of the table at a time. */
static size_t edits(const char *a, size_t n, const char *b, size_t m)
{
    size_t rows[3][NEAREST_BYTES + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            row[j] = least(above[j], row[j - 1]) + 1;
            row[j] = least(row[j], above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], above2[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

size_t nearest_distance(const char *word, size_t n, const char *known)
{
    size_t m = strlen(known);
    if (n > NEAREST_BYTES || m > NEAREST_BYTES)
        return SIZE_MAX;
    if (n >= ABBREVIATION_MIN && n < m && memcmp(word, known, n) == 0)
        return 0;
    size_t d = edits(word, n, known, m);
    size_t most = n < 5 ? 1 : n < 9 ? 2 : 3;
    return d <= most ? d : SIZE_MAX;
}
