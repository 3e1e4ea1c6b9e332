/* Log-probabilities of words, and their slopes, where the processor multiplies bfloat16 in pairs: logits never leave the
   cache. Of each state the largest logit so far, the sum of exp below it and the sum of exp times the word's weights are
   held, as attention holds them of keys and values (Dao et al. 2022, arXiv:2205.14135); each thread has its part of the
   vocabulary, and at the end the parts are put together. */

#include "pairs.h"
#include "words.h"

#ifdef IN_PAIRS
#include <omp.h>

enum { PANEL = 192 }; /* words at once: their weights are laid out twice, in the second cache (SmolLM2: 442 kB) */

/* What one thread holds: of each state `most`, `sum` and, where it learns, `pull` (inputs); weights laid out both ways. */
typedef struct {
    float *most, *sum, *pull;
    pair *across, *down;
} Held;

/* Where each thread holds it, from `room` on; returns how many floats that is. */
static long lay_out(const Words *of, float *room, Held *held) {
    long rows = up_to(of->rows, TILE), used = 0;
    for (Held *each = held; each < held + omp_get_max_threads(); each++) {
#define ROOM(name, count) each->name = (void *)(room + used), used += up_to(count, LANE)
        ROOM(most, rows), ROOM(sum, rows), ROOM(pull, rows * of->inputs);
        ROOM(across, PANEL * of->inputs / 2), ROOM(down, PANEL * of->inputs / 2);
#undef ROOM
    }
    return used;
}

/* How many floats all threads hold together. */
long words_held(long rows, long inputs) {
    Words of = {.rows = rows, .inputs = inputs};
    Held held[omp_get_max_threads()];
    return lay_out(&of, 0, held);
}

static inline stripe bent(stripe logits, float cap) { /* cap tanh(x / cap) */
    if (cap) logits = cap - 2.0f * cap / (1.0f + exp_of_each(logits * (2.0f / cap)));
    return logits;
}

/* Take in the logits of one state, over which go their shares, but for the sum, times what the cap leaves of a slope. */
static void take_in(const Words *of, const Held *held, long row, float *logits, num *shares, long words, int learn) {
    float before = held->most[row];
    __m512 best = _mm512_set1_ps(before), sum = _mm512_setzero_ps();
    for (long n = 0; n < words; n += LANE) {
        __m512 logit = bent(_mm512_loadu_ps(logits + n), of->cap);
        _mm512_storeu_ps(logits + n, logit);
        best = _mm512_mask_max_ps(best, some(words - n), best, logit);
    }
    float most = held->most[row] = _mm512_reduce_max_ps(best);
    if (most > before) {
        float less = exp_of(before - most);
        held->sum[row] *= less;
        for (long i = 0; learn && i < of->inputs; i++) held->pull[row * of->inputs + i] *= less;
    }
    for (long n = 0; n < words; n += LANE) {
        __m512 logit = _mm512_loadu_ps(logits + n);
        __m512 share = _mm512_maskz_mov_ps(some(words - n), exp_of_each(logit - _mm512_set1_ps(most)));
        sum = _mm512_add_ps(sum, share);
        if (of->cap) share *= 1.0f - logit * logit * (1.0f / (of->cap * of->cap));
        store(shares + n, share, LANE);
    }
    held->sum[row] += _mm512_reduce_add_ps(sum);
}

/* The words from `first`, of which there are so many, for every state. The last tile repeats its last state. */
static void panel(const Words *of, const Held *held, long first, long words, int learn) {
    const num *w = of->w + first * of->inputs;
    long columns = up_to(words, LANE), inputs = of->inputs;
    float logits[TILE * PANEL] __attribute__((aligned(64)));
    num shares[TILE * PANEL] __attribute__((aligned(64)));
    const Left shares_of = {(const pair *)shares, 0, PANEL / 2, 1};
    lay_across(w, inputs / 2, words, held->across, PANEL, inputs / 2);
    if (learn) pack_down(w, inputs, words, held->down, inputs, inputs);
    for (long row = 0; row < of->rows; row += TILE) {
        const pair *at[TILE];
        for (long r = 0; r < TILE; r++)
            at[r] = (const pair *)(of->x + least(row + r, of->rows - 1) * of->stride);
        tile((Left){0, at, 0, 1}, held->across, PANEL, inputs / 2, logits, PANEL, columns, 0);
        for (long r = 0; r < TILE; r++) take_in(of, held, row + r, logits + r * PANEL, shares + r * PANEL, words, learn);
        if (learn) tile(shares_of, held->down, inputs, (words + 1) / 2, held->pull + row * inputs, inputs, inputs, 1);
    }
}

/* Go through all words, each thread its part. */
static void go_through(const Words *of, const Held *held, int learn) {
    long panels = (of->words + PANEL - 1) / PANEL, threads = omp_get_max_threads();
#pragma omp parallel for schedule(static, 1) /* which thread adds what is settled: the same sums every time */
    for (long t = 0; t < threads; t++) {
        long rows = up_to(of->rows, TILE);
        for (long row = 0; row < rows; row++) held[t].most[row] = -3.0e38f, held[t].sum[row] = 0;
        if (learn) memset(held[t].pull, 0, rows * of->inputs * sizeof(float));
        for (long n = panels * t / threads; n < panels * (t + 1) / threads; n++)
            panel(of, held + t, n * PANEL, least(PANEL, of->words - n * PANEL), learn);
    }
}

/* The log of the sum of exp of all logits of a state; `scale` is what the pull of each thread is to be multiplied by. */
static float total_of(const Held *held, long row, float *scale) {
    long threads = omp_get_max_threads();
    float most = -3.0e38f, sum = 0;
    for (long t = 0; t < threads; t++) most = held[t].most[row] > most ? held[t].most[row] : most;
    for (long t = 0; t < threads; t++) scale[t] = exp_of(held[t].most[row] - most), sum += held[t].sum[row] * scale[t];
    for (long t = 0; t < threads; t++) scale[t] /= sum;
    return most + __builtin_logf(sum);
}

/* found = log of the sum of exp(x W') of each row. */
void log_totals(const Words *of, float *room, float *found) {
    long threads = omp_get_max_threads();
    Held held[threads];
    float scale[threads];
    lay_out(of, room, held);
    go_through(of, held, 0);
    for (long row = 0; row < of->rows; row++) found[row] = total_of(held, row, scale);
}

/* found = log p(target) of each row, and its gradient by x to `slopes` (rows x inputs). */
void word_slopes(const Words *of, float *room, const int64_t *targets, float *found, num *slopes) {
    long threads = omp_get_max_threads(), inputs = of->inputs;
    Held held[threads];
    lay_out(of, room, held);
    go_through(of, held, 1);
    ROWS for (long row = 0; row < of->rows; row++) {
        const num *x = of->x + row * of->stride, *w = of->w + targets[row] * inputs;
        float scale[threads], slope[inputs], logit = 0, left = 1, total = total_of(held, row, scale);
        SUM("omp simd reduction(+ : logit)") for (long i = 0; i < inputs; i++) logit += get(x[i]) * get(w[i]);
        if (of->cap) logit = capped(logit, of->cap), left = 1.0f - logit * logit / (of->cap * of->cap);
        found[row] = logit - total;
        LANES for (long i = 0; i < inputs; i++) slope[i] = left * get(w[i]);
        for (long t = 0; t < threads; t++) {
            const float *pull = held[t].pull + row * inputs;
            LANES for (long i = 0; i < inputs; i++) slope[i] -= scale[t] * pull[i];
        }
        LANES for (long i = 0; i < inputs; i++) slopes[row * inputs + i] = put(slope[i]);
    }
}
#endif
