/* Numbers as all files of C read and write them, and exp. Built once for float32 and once with -DBFLOAT16. */

#pragma once
#include <stdint.h>
#include <string.h>

#ifdef BFLOAT16
typedef uint16_t num;
static inline float get(num x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline num put(float value) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (num)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float num;
static inline float get(num x) { return x; }
static inline num put(float value) { return value; }
#endif

static inline long least(long a, long b) { return a < b ? a : b; }
static inline long up_to(long count, long step) { return (count + step - 1) / step * step; }

#define ROWS _Pragma("omp parallel for schedule(static)")
#define LANES _Pragma("omp simd")
#define SUM(what) _Pragma(what)
#define INLINED static inline __attribute__((always_inline))

/* exp as a power of two: a polynomial on half an octave around 0, its exponent by the bits of a float that was shifted
   to whole numbers. Within 3e-7 (Cephes' coefficients); for bfloat16, which keeps 8 bits, within 5e-6 (a fit by
   Chebyshev's points) in half the time. The limits are written so that a NaN passes. */
static inline float exp_of(float x) {
    x = -87.0f > x ? -87.0f : x;
    x = 88.0f < x ? 88.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
#ifdef BFLOAT16
    float f = x * 1.44269504f - n;
    float p = (((0.009666369f * f + 0.055921976f) * f + 0.240223490f) * f + 0.693121045f) * f + 1.000000000f;
#else
    float f = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
#endif
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* A stripe of a row: sixteen numbers where the processor rounds to bfloat16 by itself, else one, and the compiler makes
   of it what it can. SwiGLU by sixteen takes 0.3 ns a number, what the compiler makes of single ones 0.8. `left` is how
   many there are. Operators work on both. */
#if defined(BFLOAT16) && defined(__AVX512BF16__)
#include <immintrin.h>
typedef __m512 stripe;
enum { STRIPE = 16 };
#define STRIPES
static inline __mmask16 some(long left) { return left > 15 ? 0xffff : (__mmask16)((1u << left) - 1); }
static inline stripe load(const num *x, long left) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some(left), x)), 16));
}
static inline void store(num *to, stripe x, long left) {
    _mm256_mask_storeu_epi16(to, some(left), (__m256i)_mm512_cvtneps_pbh(x));
}
static inline stripe reals(const float *x, long left) { return _mm512_maskz_loadu_ps(some(left), x); }
/* 2 to the x, by the same polynomial; NaN stays. */
static inline stripe power_of_2(stripe x) {
    stripe n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = x - n;
    stripe p = (((0.009666369f * f + 0.055921976f) * f + 0.240223490f) * f + 0.693121045f) * f + 1.000000000f;
    return _mm512_scalef_ps(p, n);
}
static inline stripe exp_of_each(stripe x) { /* a NaN passes here too */
    x = _mm512_max_ps(_mm512_set1_ps(-87.0f), _mm512_min_ps(_mm512_set1_ps(88.0f), x));
    return power_of_2(x * 1.44269504f);
}
/* 1 / (1 + exp(-x)) within 7e-5 (the processor's own estimate of 1 / x, in a third of the time of a division). */
static inline stripe logistic(stripe x) { return _mm512_rcp14_ps(1.0f + exp_of_each(-x)); }
#else
typedef float stripe;
enum { STRIPE = 1 };
#define STRIPES LANES
static inline stripe load(const num *x, long left) { return get(*x); }
static inline void store(num *to, stripe x, long left) { *to = put(x); }
static inline stripe reals(const float *x, long left) { return *x; }
static inline stripe logistic(stripe x) { return 1.0f / (1.0f + exp_of(-x)); }
#endif
/* A final soft cap: cap tanh(x / cap). */
static inline float capped(float x, float cap) { return cap - 2.0f * cap / (1.0f + exp_of(x * 2.0f / cap)); }

/* Rotate one head by its position (halves, as Llama and Gemma do), scaled; `way` -1 turns back. */
static inline void turn(const float *cos, const float *sin, float way, float scale, const num *from, num *to,
                        long half) {
    LANES for (long i = 0; i < half; i++) {
        float a = get(from[i]), b = get(from[i + half]), c = cos[i] * scale, s = sin[i] * scale * way;
        to[i] = put(a * c - b * s);
        to[i + half] = put(b * c + a * s);
    }
}
