/* Attention of a whole pack, forward only, in float32 whatever the numbers are: for scoring, where no backward pass comes.

   As in `attend.c` a block is some queries with the keys that they see, the queries last; six queries at a time, so that
   no score leaves the cache and only what a query sees is computed. Keys are turned and laid across ([size][keys]) once
   a block and key head. One call goes through a layer, where batched products need a dozen for each size of blocks. */

#include "look.h"
#include "numbers.h"
#include <omp.h>

enum { TILE = 6, LANE = 16 }; /* 6 x 4 sums, 4 factors and 1 more are 29 of 32 registers */

typedef float wide __attribute__((vector_size(64), aligned(4), may_alias));

/* sums[r][n] = over p: a[r down + p] . b[p width + n], for TILE rows and `vectors` x LANE columns. */
INLINED void columns_of(const float *a, long down, const float *b, long width,
                                                             long depth, float *sums, long sums_width, int vectors) {
    wide held[TILE][4];
    for (int r = 0; r < TILE; r++)
        for (int v = 0; v < vectors; v++) held[r][v] = (wide){0};
    for (long p = 0; p < depth; p++) {
        wide right[4];
        for (int v = 0; v < vectors; v++) right[v] = *(const wide *)(b + p * width + v * LANE);
        for (int r = 0; r < TILE; r++)
            for (int v = 0; v < vectors; v++) held[r][v] += a[r * down + p] * right[v];
    }
    for (int r = 0; r < TILE; r++)
        for (int v = 0; v < vectors; v++) *(wide *)(sums + r * sums_width + v * LANE) = held[r][v];
}

/* The same for `columns` of them, a multiple of LANE. */
static void product(const float *a, long down, const float *b, long width, long depth, float *sums, long sums_width,
                    long columns) {
    long n = 0;
    for (; n + 4 * LANE <= columns; n += 4 * LANE)
        columns_of(a, down, b + n, width, depth, sums + n, sums_width, 4);
    if (columns - n == 3 * LANE) columns_of(a, down, b + n, width, depth, sums + n, sums_width, 3);
    if (columns - n == 2 * LANE) columns_of(a, down, b + n, width, depth, sums + n, sums_width, 2);
    if (columns - n == 1 * LANE) columns_of(a, down, b + n, width, depth, sums + n, sums_width, 1);
}

/* One head of a place in float32, turned by its position where `cos` is given. */
static inline void read(const num *from, const float *cos, const float *sin, float scale, float *to, long size) {
    long half = size / 2;
    if (!cos) {
        LANES for (long i = 0; i < size; i++) to[i] = get(from[i]);
        return;
    }
    LANES for (long i = 0; i < half; i++) {
        float a = get(from[i]), b = get(from[i + half]), c = cos[i] * scale, s = sin[i] * scale;
        to[i] = a * c - b * s;
        to[i + half] = b * c + a * s;
    }
}

/* Softmax of scores `low` to `high`, in place; 0 over the others of `columns`. */
static inline void share(float *x, long low, long high, long columns) {
    float most = -3.0e38f, sum = 0;
    SUM("omp simd reduction(max : most)") for (long j = low; j <= high; j++) most = x[j] > most ? x[j] : most;
    SUM("omp simd reduction(+ : sum)") for (long j = low; j <= high; j++) {
        x[j] = exp_of(x[j] - most);
        sum += x[j];
    }
    float part = 1.0f / sum;
    LANES for (long j = low; j <= high; j++) x[j] *= part;
    memset(x, 0, low * sizeof(float));
    memset(x + high + 1, 0, (columns - high - 1) * sizeof(float));
}

/* Floats that one thread works in. */
static inline long floats(long width, long size) { return 2 * width * size + TILE * (width + 2 * size); }

long once_bytes(long keys, long size) {
    return floats(up_to(keys, LANE), size) * (long)sizeof(float) * omp_get_max_threads();
}

/* The mixed values of every head. */
void attend_once(const Look *look, num *out) {
    long each = look->heads / look->groups, size = look->size, stride = (look->heads + 2 * look->groups) * size;
    long room = look->scratch_bytes / omp_get_max_threads() / (long)sizeof(float), half = size / 2;
#pragma omp parallel for schedule(dynamic, 1)
    for (long index = 0; index < look->blocks * look->groups; index++) {
        long block = index / look->groups, group = index % look->groups, first = look->starts[block];
        long keys = look->starts[block + 1] - first, queries = look->counts[block], before = keys - queries;
        long width = up_to(keys, LANE);
        const int64_t *places = look->places + first;
        float *across = (float *)look->scratch + omp_get_thread_num() * room, *values = across + width * size;
        float *scores = values + width * size, *q = scores + TILE * width, *sums = q + TILE * size;
        const num *k = look->qkv + (look->heads + group) * size, *v = k + look->groups * size;
        for (long start = 0; start < width; start += LANE) {
            float rows[LANE][size];
            for (long j = 0; j < LANE; j++) {
                long place = places[start + j < keys ? start + j : keys - 1];
                read(k + place * stride, look->cos + place * half, look->sin + place * half, 1.0f, rows[j], size);
                read(v + place * stride, 0, 0, 1.0f, values + (start + j) * size, size);
            }
            for (long e = 0; e < size; e++)
                LANES for (long j = 0; j < LANE; j++) across[e * width + start + j] = rows[j][e];
        }
        for (long head = group * each; head < (group + 1) * each; head++)
            for (long i = 0; i < queries; i += TILE) {
                long real = queries - i < TILE ? queries - i : TILE, seen = before + i + real;
                for (long r = 0; r < TILE; r++) {
                    long place = places[before + i + (r < real ? r : real - 1)];
                    read(look->qkv + place * stride + head * size, look->cos + place * half, look->sin + place * half,
                         look->scale, q + r * size, size);
                }
                product(q, size, across, width, size, scores, width, up_to(seen, LANE));
                for (long r = 0; r < TILE; r++) {
                    long high = before + i + (r < real ? r : real - 1), low = 0;
                    if (look->window && high - look->window + 1 > low) low = high - look->window + 1;
                    share(scores + r * width, low, high, up_to(seen, LANE));
                }
                product(scores, width, values, size, seen, sums, size, size);
                for (long r = 0; r < real; r++) {
                    num *to = out + (places[before + i + r] * look->heads + head) * size;
                    LANES for (long e = 0; e < size; e++) to[e] = put(sums[r * size + e]);
                }
            }
    }
}
