/* Products of numbers in pairs, where the processor multiplies bfloat16 so (AVX-512 BF16): six rows at a time, with all
   sums in registers, in float32. The right side stands in pairs, [pairs][columns]. */

#pragma once
#include "across.h"

#if defined(BFLOAT16) && defined(__AVX512BF16__)
#define PAIRS
#ifndef __AMX_BF16__ /* with it, other programs do large products several times as fast */
#define IN_PAIRS
#endif

typedef int32_t __attribute__((may_alias)) pair; /* two bfloat16 beside each other */

enum { TILE = 6 }; /* 6 x 4 sums, 4 factors and 1 more are 29 of 32 registers */

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
#endif
