/* unicode_inert: marks and decomposing characters that the `tokenizers` library does not know.
 *
 * Its normalizers work on Unicode 9.0; to them a younger character is a base letter that neither
 * moves nor combines nor decomposes. Pure.
 */
#ifndef CHORUS_TEXT_UNICODE_INERT_H
#define CHORUS_TEXT_UNICODE_INERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Meaningful for marks and for characters that have a combining class or a decomposition. */
bool unicode_is_inert(uint32_t cp);

#endif
