/* Products of numbers in pairs, where the processor multiplies bfloat16 so (AVX-512 BF16): six rows at a time, with all
   sums in registers, in float32. The right side stands in pairs, [pairs][columns]. */

#pragma once
#include "numbers.h"

#if defined(BFLOAT16) && defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define IN_PAIRS /* with AMX, other programs multiply several times as fast */
#include <immintrin.h>

typedef int32_t __attribute__((may_alias)) pair; /* two bfloat16 beside each other */

enum { TILE = 6, LANE = 16 }; /* 6 x 4 sums, 4 factors and 1 more are 29 of 32 registers */

static inline long up_to(long count, long step) { return (count + step - 1) / step * step; }

#define INLINED static inline __attribute__((always_inline))

/* TILE rows: `down` pairs apart from `first` on, or each where `each` says, if that is given; the next pair of a row is
   `across` pairs away. Known when it is compiled, so that rows at one distance cost one register. */
typedef struct {
    const pair *first, *const *each;
    long down, across;
} Left;

/* sums[r][n] = (what is there, where `add`, and) over pairs p: left[r][p] . b[p][n]. */
INLINED void columns_of(Left left, const pair *b, long width, long pairs, float *sums, long sums_width, int add,
                        int vectors) {
    __m512 held[TILE][4];
    for (int r = 0; r < TILE; r++)
        for (int v = 0; v < vectors; v++)
            held[r][v] = add ? _mm512_loadu_ps(sums + r * sums_width + v * LANE) : _mm512_setzero_ps();
    for (long p = 0; p < pairs; p++) {
        __m512bh right[4];
        for (int v = 0; v < vectors; v++) right[v] = (__m512bh)_mm512_loadu_si512(b + p * width + v * LANE);
        for (int r = 0; r < TILE; r++) {
            pair one = left.each ? left.each[r][p * left.across] : left.first[r * left.down + p * left.across];
            for (int v = 0; v < vectors; v++)
                held[r][v] = _mm512_dpbf16_ps(held[r][v], (__m512bh)_mm512_set1_epi32(one), right[v]);
        }
    }
    for (int r = 0; r < TILE; r++)
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(sums + r * sums_width + v * LANE, held[r][v]);
}

/* The same for `columns` of them, a multiple of LANE. */
INLINED void tile(Left left, const pair *b, long width, long pairs, float *sums, long sums_width, long columns, int add) {
    long n = 0;
    for (; n + 4 * LANE <= columns; n += 4 * LANE)
        columns_of(left, b + n, width, pairs, sums + n, sums_width, add, 4);
    if (columns - n == 3 * LANE) columns_of(left, b + n, width, pairs, sums + n, sums_width, add, 3);
    if (columns - n == 2 * LANE) columns_of(left, b + n, width, pairs, sums + n, sums_width, add, 2);
    if (columns - n == 1 * LANE) columns_of(left, b + n, width, pairs, sums + n, sums_width, add, 1);
}

/* Sixteen pairs, the lower numbers of `a` and the higher of `b`. */
static inline __m512i paired(__m256i a, __m256i b) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

/* Pairs of rows, one above the other: [rows / 2][columns], the last with zeros where rows are odd. Columns are a multiple
   of LANE. */
static inline void pack_down(const num *upper, long stride, long rows, pair *to, long width, long columns) {
    for (long row = 0; row < rows; row += 2)
        for (long i = 0; i < columns; i += LANE) {
            const num *a = upper + row * stride + i;
            __m256i one = _mm256_loadu_si256((const __m256i *)a), other = _mm256_setzero_si256();
            if (row + 1 < rows) other = _mm256_loadu_si256((const __m256i *)(a + stride));
            _mm512_storeu_si512(to + row / 2 * width + i, paired(one, other));
        }
}

/* Rows i and i + 8 between each other, four times: a square of 16 pairs is turned over. */
static inline void turn_over(__m512i square[LANE]) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    for (int step = 0; step < 4; step++) {
        __m512i next[LANE];
        for (int i = 0; i < LANE / 2; i++) {
            next[2 * i] = _mm512_permutex2var_epi32(square[i], low, square[i + LANE / 2]);
            next[2 * i + 1] = _mm512_permutex2var_epi32(square[i], high, square[i + LANE / 2]);
        }
        for (int i = 0; i < LANE; i++) square[i] = next[i];
    }
}

/* Pairs of numbers of one row: [pairs][rows], rows filled up to a multiple of LANE with zeros. */
static inline void pack_across(const num *rows, long stride, long count, pair *to, long width, long pairs) {
    for (long row = 0; row < count; row += LANE)
        for (long p = 0; p < pairs; p += LANE) {
            __m512i square[LANE];
            long real = pairs - p < LANE ? pairs - p : LANE;
            for (long i = 0; i < LANE; i++) {
                __mmask16 read = row + i < count ? some(real) : 0;
                square[i] = _mm512_maskz_loadu_epi32(read, rows + (row + i) * stride + 2 * p);
            }
            turn_over(square);
            for (long i = 0; i < real; i++) _mm512_storeu_si512(to + (p + i) * width + row, square[i]);
        }
}
#endif
