/* lora_layout: adapters as codes of 8 or 4 bits, see struct lora_stack. Plain data, C and CUDA.
 *
 * Values are code * scale. int8 has a scale a rank, of A and B together (rank_scale): it multiplies
 * A x, and no sum has one inside. int4 has a bf16 scale for 64 inputs of a rank of A, and for 64
 * outputs of a rank of B.
 *
 * int8: a lane's four registers of a fragment are two words, a0 and a1, a2 and a3. Of four codes
 * (first register's low, high half, the second's): sizes in bits 0 - 6, 16 - 22, 8 - 14, 24 - 30,
 * signs in bits 15, 31, 23, 7. int4: they are one word, nibble a + 4 * half, plus 8.
 *   A  groups of 2048 or 1088 bytes: [k16 step 2 or 4 together][lane 32] 16 bytes; int4: then, for
 *      g < 8, [half of the group][row g, g + 8] bf16 scales.
 *   B  rank tiles of an output tile 2 (int8) or 4 (int4) together: [lane 32] 16 bytes, then what is
 *      left over: 2 together 8 bytes, one 8 or 4. int4: in front of each 4 output tiles (gate_up:
 * 8) their scales, [rank tile][t 4][ranks 2 t, 2 t + 1, 2 t + 8, 2 t + 9] bf16 (gate_up: gate's 32
 *      bytes, then up's).
 */
#ifndef CHORUS_CUDA_LORA_LAYOUT_H
#define CHORUS_CUDA_LORA_LAYOUT_H

#include <stdbool.h>

#include "cuda/layout.h"

#define LORA_A4_BYTES 1088 /* of a group of A */
#define LORA_GROUP    64   /* values that share a scale of int4 */

LAYOUT_INLINE int lora_group_bytes(int codes)
{
    return codes == LORA_INT4 ? LORA_A4_BYTES : TILE_BYTES_BF16 >> codes;
}

/* Output tiles that share scales of B (int4), as a power of two; pair: gate_up. */
LAYOUT_INLINE int lora_share(bool pair)
{
    return pair ? 3 : 2;
}

/* Byte of B where the fragments of an output tile begin; `count` rank tiles each. */
LAYOUT_INLINE size_t lora_b_at(int codes, bool pair, int count, int tile)
{
    size_t at = (size_t)tile * (size_t)count * (512u >> codes);
    if (codes == LORA_INT4)
        at += (size_t)((tile >> lora_share(pair)) + 1) * (size_t)count * (8u << lora_share(pair));
    return at;
}

/* Byte where its scales begin (int4). */
LAYOUT_INLINE size_t lora_b_scales_at(bool pair, int count, int tile)
{
    return (size_t)(tile >> lora_share(pair)) * (size_t)count * (136u << lora_share(pair));
}

/* Bytes of B of so many output tiles. */
LAYOUT_INLINE size_t lora_b_bytes(int codes, bool pair, int count, int tiles)
{
    if (codes != LORA_INT4 || tiles == 0)
        return (size_t)tiles * (size_t)count * (512u >> codes);
    return lora_b_at(codes, pair, count, tiles - 1) + (size_t)count * 128;
}

/* Byte of a lane's words of rank tile c of `count`, from where the fragments begin (not bf16). */
LAYOUT_INLINE int lora_code_at(int codes, int count, int c, int lane)
{
    const int pair = codes == LORA_INT8;
    const int full = pair ? 2 : 4, words = pair ? 8 : 4; /* rank tiles together, bytes of one */
    const int at = c / full * 512, left = count - c / full * full, i = c % full;
    if (left >= full)
        return at + lane * 16 + i * words;
    if (left >= 2 && i < 2) /* int4 */
        return at + lane * 8 + i * 4;
    return at + (left & 2) * 128 + lane * words;
}

#endif
