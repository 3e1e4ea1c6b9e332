/* The adapters of a group of projections (`fused.py`) where the processor multiplies bfloat16 in pairs: products with
   one side of eight ranks or so, for which a general routine spends most of its time on other things. Sums are in
   float32, in an order that does not depend on the number of threads.

   A factor stands here in two ways. `down`, to go from columns to ranks: [columns / 4][ranks][4]. `up`, to go from
   ranks to columns: [ranks / 2][columns][2]. Ranks are a multiple of 8, columns one of 16; zeros fill them up. */

#include "adapt.h"

#ifdef PAIRS
enum { TOKENS = 8, VECTORS = 3, RANKS = 8 }; /* 8 x 3 sums, 3 factors and 1 more are 28 of 32 registers */

static inline Part whole(const Group *of) { return (Part){.columns = of->inputs, .ranks = of->ranks}; }

/* between = x down, for `tokens` of them and 8 ranks a vector. */
INLINED void narrow(const num *x, long x_width, const num *down, const Part *part, num *between, long width, int tokens,
                    int vectors) {
    __m512 held[TOKENS][VECTORS]; /* each rank in two lanes that lie beside each other */
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < vectors; v++) held[t][v] = _mm512_setzero_ps();
    for (long column = 0; column < part->columns; column += 4) {
        __m512bh right[VECTORS];
        for (int v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(down + column * part->ranks + v * 4 * RANKS);
        for (int t = 0; t < tokens; t++) {
            int64_t four;
            memcpy(&four, x + t * x_width + column, sizeof four);
            __m512bh left = (__m512bh)_mm512_set1_epi64(four);
            for (int v = 0; v < vectors; v++) held[t][v] = _mm512_dpbf16_ps(held[t][v], left, right[v]);
        }
    }
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < vectors; v++) {
            __m512 sum = _mm512_add_ps(held[t][v], _mm512_movehdup_ps(held[t][v]));
            __m256 found = _mm256_castsi256_ps(_mm512_cvtepi64_epi32(_mm512_castps_si512(sum)));
            _mm_storeu_si128((__m128i *)(between + t * width + v * RANKS), (__m128i)_mm256_cvtneps_pbh(found));
        }
}

/* y += between up, for `tokens` of them and 16 columns a vector. */
INLINED void widen(const num *between, long width, const pair *up, const Part *part, num *y, long y_width, int tokens,
                   int vectors) {
    __m512 held[TOKENS][VECTORS];
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < vectors; v++) {
            __m256i there = _mm256_loadu_si256((const __m256i *)(y + t * y_width + v * LANE));
            held[t][v] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(there), 16));
        }
    for (long p = 0; p < part->ranks / 2; p++) {
        __m512bh right[VECTORS];
        for (int v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(up + p * part->columns + v * LANE);
        for (int t = 0; t < tokens; t++) {
            pair two;
            memcpy(&two, between + t * width + 2 * p, sizeof two);
            __m512bh left = (__m512bh)_mm512_set1_epi32(two);
            for (int v = 0; v < vectors; v++) held[t][v] = _mm512_dpbf16_ps(held[t][v], left, right[v]);
        }
    }
    for (int t = 0; t < tokens; t++)
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_si256((__m256i *)(y + t * y_width + v * LANE), (__m256i)_mm512_cvtneps_pbh(held[t][v]));
}

/* Between what a token has of `x_width` and of `y_width` numbers: parts to go down by, and to go up by. */
typedef struct {
    const Part *downs, *ups;
    long down_count, up_count, x_width, ranks, y_width;
    const num *down, *up;
} Way;

INLINED void adapt_some(const Way *way, const num *x, num *between, num *y, int tokens) {
    const num *down = way->down, *up = way->up;
    for (const Part *part = way->downs; part < way->downs + way->down_count; part++) {
        const num *from = x + part->column;
        num *to = between + part->first;
        long rank = 0;
        for (; rank + VECTORS * RANKS <= part->ranks; rank += VECTORS * RANKS)
            narrow(from, way->x_width, down + rank * 4, part, to + rank, way->ranks, tokens, VECTORS);
        for (; rank + 2 * RANKS <= part->ranks; rank += 2 * RANKS)
            narrow(from, way->x_width, down + rank * 4, part, to + rank, way->ranks, tokens, 2);
        for (; rank < part->ranks; rank += RANKS)
            narrow(from, way->x_width, down + rank * 4, part, to + rank, way->ranks, tokens, 1);
        down += part->columns * part->ranks;
    }
    for (const Part *part = way->ups; part < way->ups + way->up_count; part++) {
        const num *from = between + part->first;
        num *to = y + part->column;
        long column = 0;
        for (; column + VECTORS * LANE <= part->columns; column += VECTORS * LANE)
            widen(from, way->ranks, (const pair *)up + column, part, to + column, way->y_width, tokens, VECTORS);
        for (; column < part->columns; column += LANE)
            widen(from, way->ranks, (const pair *)up + column, part, to + column, way->y_width, tokens, 1);
        up += part->columns * part->ranks;
    }
}

/* y += s B A x, or where `back` dx += A' s B' dy (x stands for dy, y for dx); what is between is kept, `rows` x ranks.
   Without y that is all. */
void adapt(const Group *of, int back, const num *x, num *between, num *y, long rows) {
    Part all = whole(of);
    Way onward = {&all, of->parts, 1, of->count, of->inputs, of->ranks, of->outputs, of->a_down, of->b_up};
    Way home = {of->parts, &all, of->count, 1, of->outputs, of->ranks, of->inputs, of->b_down, of->a_up};
    const Way *way = back ? &home : &onward;
    if (!y) onward.up_count = home.up_count = 0;
    ROWS for (long tile = 0; tile < (rows + TOKENS - 1) / TOKENS; tile++) {
        long row = tile * TOKENS;
        if (row + TOKENS <= rows)
            adapt_some(way, x + row * way->x_width, between + row * way->ranks, y + row * way->y_width, TOKENS);
        else
            for (; row < rows; row++)
                adapt_some(way, x + row * way->x_width, between + row * way->ranks, y + row * way->y_width, 1);
    }
}

/* Where sums go: `real` ranks of 8, so many steps apart. */
typedef struct {
    float *found;
    long by_rank, by_column, real;
    float scale;
} Sums;

/* Pairs of two rows' numbers, `vectors` x 16 columns; of 32, those that stand where `column_of` says. */
INLINED void pairs_of(const num *upper, const num *lower, __m512bh *both, int vectors) {
    if (vectors == 2) {
        __m512i a = _mm512_loadu_si512(upper), b = lower ? _mm512_loadu_si512(lower) : _mm512_setzero_si512();
        both[0] = (__m512bh)_mm512_unpacklo_epi16(a, b), both[1] = (__m512bh)_mm512_unpackhi_epi16(a, b);
        return;
    }
    __m256i a = _mm256_loadu_si256((const __m256i *)upper), b = _mm256_setzero_si256();
    if (lower) b = _mm256_loadu_si256((const __m256i *)lower);
    both[0] = (__m512bh)paired(a, b);
}

static inline int column_of(int vector, int lane, int vectors) {
    return vectors == 2 ? lane / 4 * 8 + vector * 4 + lane % 4 : lane;
}

/* Sums over tokens of x times what is between, for 8 ranks and 16 columns a vector. `pairs` holds what is between as
   pairs of tokens, [tokens / 2][ranks]. */
INLINED void sum_up(const num *x, long width, const pair *pairs, long ranks, long rows, const Sums *to, int vectors) {
    __m512 held[RANKS][2];
    for (int r = 0; r < RANKS; r++)
        for (int v = 0; v < vectors; v++) held[r][v] = _mm512_setzero_ps();
    for (long row = 0; row < rows; row += 2) {
        __m512bh both[2];
        const num *upper = x + row * width;
        pairs_of(upper, row + 1 < rows ? upper + width : 0, both, vectors);
        for (int r = 0; r < RANKS; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32(pairs[row / 2 * ranks + r]);
            for (int v = 0; v < vectors; v++) held[r][v] = _mm512_dpbf16_ps(held[r][v], left, both[v]);
        }
    }
    for (int r = 0; r < RANKS; r++)
        for (int v = 0; v < vectors && r < to->real; v++) {
            float sums[LANE];
            _mm512_storeu_ps(sums, held[r][v]);
            for (int c = 0; c < LANE; c++)
                to->found[r * to->by_rank + column_of(v, c, vectors) * to->by_column] = sums[c] * to->scale;
        }
}

/* One part's share of a thread: `columns` of x, 32 and 8 ranks at a time. */
static void gradient_of(const num *x, long width, long columns, const pair *pairs, long ranks, const Part *part, long rows,
                        Sums all) {
    long eights = part->ranks / RANKS;
#pragma omp for schedule(static) nowait
    for (long item = 0; item < (columns + 2 * LANE - 1) / (2 * LANE) * eights; item++) {
        long column = item / eights * 2 * LANE, rank = item % eights * RANKS;
        Sums to = all;
        to.found += rank * all.by_rank + column * all.by_column, to.real = part->rank - rank;
        if (column + 2 * LANE <= columns)
            sum_up(x + column, width, pairs + part->first + rank, ranks, rows, &to, 2);
        else
            sum_up(x + column, width, pairs + part->first + rank, ranks, rows, &to, 1);
    }
}

/* Pairs of tokens of what is between, [tokens / 2][ranks]. */
static void pair_up(const num *between, pair *pairs, long ranks, long rows) {
#pragma omp for schedule(static)
    for (long p = 0; p < (rows + 1) / 2; p++) {
        const num *upper = between + 2 * p * ranks, *lower = upper + ranks;
        if (2 * p + 1 < rows)
            LANES for (long r = 0; r < ranks; r++) pairs[p * ranks + r] = (pair)(upper[r] | (uint32_t)lower[r] << 16);
        else
            for (long r = 0; r < ranks; r++) pairs[p * ranks + r] = upper[r];
    }
}

/* The gradients of A and B of each part, one part after the other in `found`. `pairs` is room for twice (rows + 1) / 2 x
   ranks. */
void adapt_gradients(const Group *of, const num *x, const num *ax, const num *dy, const num *dax, pair *pairs, float *found,
                     long rows) {
    long ranks = of->ranks;
    pair *of_dax = pairs, *of_ax = pairs + (rows + 1) / 2 * ranks;
#pragma omp parallel
    {
        pair_up(dax, of_dax, ranks, rows);
        pair_up(ax, of_ax, ranks, rows);
        float *a = found;
        for (const Part *part = of->parts; part < of->parts + of->count; part++) {
            float *b = a + part->rank * of->inputs;
            Sums da = {a, of->inputs, 1, 0, 1.0f}, db = {b, 1, part->rank, 0, part->scale};
            gradient_of(x, of->inputs, of->inputs, of_dax, ranks, part, rows, da);
            gradient_of(dy + part->column, of->outputs, part->columns, of_ax, ranks, part, rows, db);
            a = b + part->rank * part->columns;
        }
    }
}

/* Write `rank` x `columns` numbers, so many steps apart, where both products look for them: at ranks `first` and on of
   `ranks`. */
static void write_factor(const float *from, long by_rank, long by_column, float scale, const Part *at, long columns,
                         long first, long ranks, num *down, num *up) {
#pragma omp for schedule(static) nowait
    for (long four = 0; four < columns; four += 4)
        for (long rank = 0; rank < at->rank; rank++)
            for (long column = four; column < four + 4; column++) {
                long place = first + rank;
                num value = put(from[rank * by_rank + column * by_column] * scale);
                down[(four * ranks + place * 4) + column - four] = value;
                up[(place / 2 * columns + column) * 2 + place % 2] = value;
            }
}

/* Take over A and B of each part as they are now. */
void adapt_refresh(const Group *of) {
#pragma omp parallel
    {
        num *down = of->b_down, *up = of->b_up;
        for (const Part *part = of->parts; part < of->parts + of->count; part++) {
            write_factor(part->a, of->inputs, 1, 1.0f, part, of->inputs, part->first, of->ranks, of->a_down, of->a_up);
            write_factor(part->b, 1, part->rank, part->scale, part, part->columns, 0, part->ranks, down, up);
            down += part->columns * part->ranks, up += part->columns * part->ranks;
        }
    }
}

int adapts(void) { return 1; }
#else
int adapts(void) { return 0; } /* this processor, or this type of numbers, has no such products */
#endif
