/* Products with frozen weights in float32, y = x W', for processors that MKL does not multiply at their best: torch's own
   ran at 95 to 100 GFLOP/s of a core of a Zen 4 (the head at 82), these at 104 to 109 (103), of a ceiling of 114 (recipes/LOG.md).

   64 outputs at a time, their weights laid across once ([inputs][64], in the second cache); then six rows at a time, with
   all sums in registers. The head is one more product whose sums are never written: only log of the sum of exp is. */

#include "across.h"
#include "words.h"

#if !defined(BFLOAT16) && defined(__AVX512F__)
#include <omp.h>

/* 6 x 4 sums, 4 factors and 1 more are 29 of 32 registers. DEPTH x PANEL are 196 kB of a second cache. A thread has
   ITEMS pieces of work at least: fewer, and one waits for the other; more, and weights are laid across more often, which
   costs as much as 12 rows. */
enum { TILE = 6, PANEL = 4 * LANE, DEPTH = 768, CHUNK = 504, ITEMS = 5 };

typedef float wide __attribute__((vector_size(64), aligned(4), may_alias));

/* sums[r][n] = (what is there, where `add`, and) over p: x[r][p] across[p][n], for so many `rows`. */
INLINED void tile_of(const float *x, long stride, const float *across, long depth,
                                                          float *sums, int rows, int add) {
    wide held[TILE][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) held[r][v] = add ? *(const wide *)(sums + r * PANEL + v * LANE) : (wide){0};
    for (long p = 0; p < depth; p++) {
        wide right[4];
        for (int v = 0; v < 4; v++) right[v] = *(const wide *)(across + p * PANEL + v * LANE);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < 4; v++) held[r][v] += x[r * stride + p] * right[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) *(wide *)(sums + r * PANEL + v * LANE) = held[r][v];
}

static void tile(const float *x, long stride, const float *across, long depth, float *sums, long rows, int add) {
    switch (rows) {
    case 1: tile_of(x, stride, across, depth, sums, 1, add); break;
    case 2: tile_of(x, stride, across, depth, sums, 2, add); break;
    case 3: tile_of(x, stride, across, depth, sums, 3, add); break;
    case 4: tile_of(x, stride, across, depth, sums, 4, add); break;
    case 5: tile_of(x, stride, across, depth, sums, 5, add); break;
    default: tile_of(x, stride, across, depth, sums, TILE, add);
    }
}

/* y = x W' + what is in `onto`, where that is given. Rows are `stride` numbers apart; W is dense. onto may be y. */
void product(const float *x, long x_stride, const float *w, const float *onto, long onto_stride, float *y,
             long y_stride, long rows, long inputs, long outputs) {
    long panels = (outputs + PANEL - 1) / PANEL, parts = (ITEMS * omp_get_max_threads() + panels - 1) / panels;
    long part_rows = (rows + parts - 1) / parts;
    part_rows = (part_rows + TILE - 1) / TILE * TILE; /* so that only the last tile of all is not full */
    parts = (rows + part_rows - 1) / part_rows;
#pragma omp parallel for schedule(dynamic, 1)
    for (long item = 0; item < panels * parts; item++) {
        long first = item / parts * PANEL, columns = least(PANEL, outputs - first);
        long from = item % parts * part_rows, to = least(rows, from + part_rows);
        float across[DEPTH * PANEL] __attribute__((aligned(64))), sums[TILE * PANEL] __attribute__((aligned(64)));
        for (long start = 0; start < inputs; start += DEPTH) {
            long depth = least(DEPTH, inputs - start);
            lay_across(w + first * inputs + start, inputs, columns, across, PANEL, depth);
            for (long row = from; row < to; row += TILE) {
                long real = least(TILE, to - row);
                tile(x + row * x_stride + start, x_stride, across, depth, sums, real, 0);
                for (long r = 0; r < real; r++) {
                    float *out = y + (row + r) * y_stride + first;
                    const float *before = start ? out : onto ? onto + (row + r) * onto_stride + first : 0;
                    if (before)
                        LANES for (long n = 0; n < columns; n++) out[n] = before[n] + sums[r * PANEL + n];
                    else
                        memcpy(out, sums + r * PANEL, columns * sizeof(float));
                }
            }
        }
    }
}
/* One more row of logits: the largest so far, and the sum of exp of what is below it. A final soft cap bends them first. */
static inline void take_in(float *x, long columns, float cap, float *most, float *sum) {
    float high = *most, total = 0;
    if (cap) LANES for (long n = 0; n < columns; n++) x[n] = capped(x[n], cap);
    SUM("omp simd reduction(max : high)") for (long n = 0; n < columns; n++) high = x[n] > high ? x[n] : high;
    SUM("omp simd reduction(+ : total)") for (long n = 0; n < columns; n++) total += exp_of(x[n] - high);
    *sum = *sum * exp_of(*most - high) + total;
    *most = high;
}

/* How many floats `log_totals` works in. */
long words_held(long rows, long inputs) { return 2 * rows * omp_get_max_threads(); }

/* found = log of the sum of exp(x W') of each row. `held` is two numbers a row and thread. */
void log_totals(const Words *of, float *held, float *found) {
    long threads = omp_get_max_threads(), rows = of->rows, inputs = of->inputs;
    for (long i = 0; i < threads * rows; i++) held[2 * i] = -3.0e38f, held[2 * i + 1] = 0;
#pragma omp parallel for schedule(static) /* which thread adds what is settled: the same sums every time */
    for (long first = 0; first < of->words; first += PANEL) {
        float across[DEPTH * PANEL] __attribute__((aligned(64))), sums[CHUNK * PANEL] __attribute__((aligned(64)));
        float *mine = held + 2 * rows * omp_get_thread_num();
        for (long from = 0; from < rows; from += CHUNK) {
            long to = least(rows, from + CHUNK), columns = least(PANEL, of->words - first);
            for (long start = 0; start < inputs; start += DEPTH) {
                long depth = least(DEPTH, inputs - start);
                lay_across(of->w + first * inputs + start, inputs, columns, across, PANEL, depth);
                for (long row = from; row < to; row += TILE)
                    tile(of->x + row * of->stride + start, of->stride, across, depth, sums + (row - from) * PANEL,
                         least(TILE, to - row), start > 0);
            }
            for (long row = from; row < to; row++)
                take_in(sums + (row - from) * PANEL, columns, of->cap, mine + 2 * row, mine + 2 * row + 1);
        }
    }
    for (long row = 0; row < rows; row++) {
        float most = -3.0e38f, sum = 0;
        for (long t = 0; t < threads; t++) most = held[2 * (t * rows + row)] > most ? held[2 * (t * rows + row)] : most;
        for (long t = 0; t < threads; t++) sum += held[2 * (t * rows + row) + 1] * exp_of(held[2 * (t * rows + row)] - most);
        found[row] = most + __builtin_logf(sum);
    }
}

long products_here(void) { return !__builtin_cpu_is("intel"); }
#else
long products_here(void) { return 0; }
#endif

/* found[n] = x[places[n]] . w[targets[n]], bent by the final soft cap. */
void target_logits(const Words *of, const int64_t *places, const int64_t *targets, float *found, long count) {
    ROWS for (long n = 0; n < count; n++) {
        const num *left = of->x + places[n] * of->stride, *right = of->w + targets[n] * of->inputs;
        float sum = 0;
        SUM("omp simd reduction(+ : sum)") for (long i = 0; i < of->inputs; i++) sum += get(left[i]) * get(right[i]);
        found[n] = of->cap ? capped(sum, of->cap) : sum;
    }
}
