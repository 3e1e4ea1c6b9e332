/* Rows of 32-bit words (float32, or two bfloat16) laid across: [words][rows], for products that take a row's words one
   by one. */

#pragma once
#include "numbers.h"

#ifdef __AVX512F__
#include <immintrin.h>

enum { LANE = 16 };

/* Rows i and i + 8 between each other, four times: a square of 16 words is turned over. */
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

/* `count` rows, filled up to a multiple of LANE with zeros; they are `stride` words apart, in `to` words are `width`. */
static inline void lay_across(const void *rows, long stride, long count, void *to, long width, long words) {
    for (long row = 0; row < count; row += LANE)
        for (long p = 0; p < words; p += LANE) {
            __m512i square[LANE];
            long real = least(LANE, words - p);
            for (long i = 0; i < LANE; i++) {
                __mmask16 read = row + i < count ? (__mmask16)((1u << real) - 1) : 0;
                square[i] = _mm512_maskz_loadu_epi32(read, (const int32_t *)rows + (row + i) * stride + p);
            }
            turn_over(square);
            for (long i = 0; i < real; i++) _mm512_storeu_si512((int32_t *)to + (p + i) * width + row, square[i]);
        }
}
#endif
