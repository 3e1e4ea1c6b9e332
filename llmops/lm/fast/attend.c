/* Attention of a whole pack where the processor multiplies bfloat16 in pairs (AVX-512 BF16): scores, softmax and values
   of six queries at a time, so that no score leaves the cache and only what a query sees is computed.

   A block (`spans.py`) is some queries with the keys that they see; the queries are the last of the keys. Keys and
   values are packed once a block: as pairs of numbers of one key, [size / 2][keys] (for scores), or as pairs of keys,
   [keys / 2][size] (for sums over keys). One routine, `product`, then does every product. Sums are in float32. */

#include "look.h"
#include "numbers.h"

#if defined(BFLOAT16) && defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#include <immintrin.h>
#include <omp.h>

typedef int32_t __attribute__((may_alias)) pair; /* two bfloat16 beside each other */

enum { TILE = 6, CHUNK = 48, LANE = 16 }; /* 6 x 4 sums, 4 factors and 1 more are 29 of 32 registers */

static inline long up_to(long count, long step) { return (count + step - 1) / step * step; }

/* sums[r][n] = (what is there, where `add`, and) over pairs p: a[r down + p across] . b[p][n], for TILE rows. */
static inline __attribute__((always_inline)) void columns_of(const pair *a, long down, long across, const pair *b,
                                                             long width, long pairs, float *sums, long sums_width,
                                                             int add, int vectors) {
    __m512 held[TILE][4];
    for (int r = 0; r < TILE; r++)
        for (int v = 0; v < vectors; v++)
            held[r][v] = add ? _mm512_loadu_ps(sums + r * sums_width + v * LANE) : _mm512_setzero_ps();
    for (long p = 0; p < pairs; p++) {
        __m512bh right[4];
        for (int v = 0; v < vectors; v++) right[v] = (__m512bh)_mm512_loadu_si512(b + p * width + v * LANE);
        for (int r = 0; r < TILE; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32(a[r * down + p * across]);
            for (int v = 0; v < vectors; v++) held[r][v] = _mm512_dpbf16_ps(held[r][v], left, right[v]);
        }
    }
    for (int r = 0; r < TILE; r++)
        for (int v = 0; v < vectors; v++) _mm512_storeu_ps(sums + r * sums_width + v * LANE, held[r][v]);
}

/* The same for `columns` of them, a multiple of LANE. */
static void product(const pair *a, long down, long across, const pair *b, long width, long pairs, float *sums,
                    long sums_width, long columns, int add) {
    long n = 0;
    for (; n + 4 * LANE <= columns; n += 4 * LANE)
        columns_of(a, down, across, b + n, width, pairs, sums + n, sums_width, add, 4);
    if (columns - n == 3 * LANE) columns_of(a, down, across, b + n, width, pairs, sums + n, sums_width, add, 3);
    if (columns - n == 2 * LANE) columns_of(a, down, across, b + n, width, pairs, sums + n, sums_width, add, 2);
    if (columns - n == 1 * LANE) columns_of(a, down, across, b + n, width, pairs, sums + n, sums_width, add, 1);
}

/* Rows of one head from their places, turned by their positions where `cos` is given; zero from `count` to `room`. */
static void take(const num *x, long stride, const int64_t *places, long count, long room, const float *cos,
                 const float *sin, float scale, num *rows, long size) {
    long half = size / 2;
    for (long row = 0; row < count; row++) {
        const num *from = x + places[row] * stride;
        num *to = rows + row * size;
        if (cos)
            turn(cos + places[row] * half, sin + places[row] * half, 1.0f, scale, from, to, half);
        else
            memcpy(to, from, size * sizeof(num));
    }
    memset(rows + count * size, 0, (room - count) * size * sizeof(num));
}

/* Pairs of numbers of one row: [size / 2][rows]. */
static void pack_across(const num *rows, long count, pair *to, long width, long size) {
    const pair *from = (const pair *)rows;
    for (long block = 0; block < count; block += LANE)
        for (long p = 0; p < size / 2; p++)
            for (long row = block; row < block + LANE; row++) to[p * width + row] = from[row * (size / 2) + p];
}

/* Pairs of rows, one above the other: [rows / 2][size]. */
static void pack_down(const num *restrict upper, long stride, long count, pair *restrict to, long width, long size) {
    for (long p = 0; p < count / 2; p++) {
        const num *a = upper + 2 * p * stride, *b = a + stride;
        LANES for (long i = 0; i < size; i++) to[p * width + i] = (pair)((uint32_t)a[i] | (uint32_t)b[i] << 16);
    }
}

/* Softmax of a row over the keys low to high, in place and as bfloat16; 0 over the others. */
static void share(float *s, num *rounded, long low, long high, long width) {
    float most = -3.0e38f, sum = 0;
    SUM("omp simd reduction(max : most)") for (long j = low; j <= high; j++) most = s[j] > most ? s[j] : most;
    SUM("omp simd reduction(+ : sum)") for (long j = low; j <= high; j++) {
        s[j] = exp_of(s[j] - most);
        sum += s[j];
    }
    float part = 1.0f / sum;
    memset(s, 0, low * sizeof(float));
    memset(s + high + 1, 0, (width - high - 1) * sizeof(float));
    LANES for (long j = low; j <= high; j++) s[j] *= part;
    LANES for (long j = 0; j < width; j++) rounded[j] = put(s[j]);
}

/* `from`, turned back where `cos` is given. */
static void turn_back(const float *from, const float *cos, const float *sin, float scale, num *to, long size) {
    long half = size / 2;
    if (cos)
        LANES for (long i = 0; i < half; i++) {
            float a = from[i], b = from[i + half], c = cos[i] * scale, s = sin[i] * scale;
            to[i] = put(a * c + b * s);
            to[i + half] = put(b * c - a * s);
        }
    else
        LANES for (long i = 0; i < size; i++) to[i] = put(from[i] * scale);
}

/* Where one thread works. `width` is that of a row of scores: all keys of a block, and room to read past them. */
typedef struct {
    num *rows, *q, *d, *shares, *slopes;
    pair *keys_across, *values_across, *keys_down, *values_down, *q_down, *d_down, *shares_down, *slopes_down;
    float *scores, *dshares, *sums, *dk, *dv;
} Desk;

static Desk desk(char *at, long width, long size, long *bytes) {
    Desk of;
    long used = 0;
#define ROOM(name, count) of.name = (void *)(at + used), used += up_to((count) * sizeof(*of.name), 64)
    ROOM(rows, width * size), ROOM(q, CHUNK * size), ROOM(d, CHUNK * size);
    ROOM(shares, TILE * width), ROOM(slopes, TILE * width);
    ROOM(keys_across, width * size / 2), ROOM(values_across, width * size / 2);
    ROOM(keys_down, width * size / 2), ROOM(values_down, width * size / 2);
    ROOM(q_down, CHUNK / 2 * size), ROOM(d_down, CHUNK / 2 * size);
    ROOM(shares_down, CHUNK / 2 * width), ROOM(slopes_down, CHUNK / 2 * width);
    ROOM(scores, TILE * width), ROOM(dshares, TILE * width), ROOM(sums, TILE * size);
    ROOM(dk, width * size), ROOM(dv, width * size);
#undef ROOM
    *bytes = used;
    return of;
}

static long width_of(long keys) { return up_to(keys, LANE) + LANE; }

/* The bytes that all threads need together for blocks of at most `keys`. */
long attend_bytes(long keys, long size) {
    long bytes;
    desk(0, width_of(keys), size, &bytes);
    return bytes * omp_get_max_threads();
}

typedef struct {
    long group, first, keys, before, queries, width; /* `before`: keys before the first query */
    const int64_t *places;
    Desk desk;
} Item;

static Item item(const Look *look, long index) {
    Item it = {.group = index % look->groups, .first = look->starts[index / look->groups]};
    it.keys = look->starts[index / look->groups + 1] - it.first;
    it.queries = look->counts[index / look->groups];
    it.before = it.keys - it.queries;
    it.places = look->places + it.first;
    it.width = width_of(it.keys);
    long bytes, each = look->scratch_bytes / omp_get_max_threads();
    it.desk = desk(look->scratch + omp_get_thread_num() * each, it.width, look->size, &bytes);
    return it;
}

static inline long stride_of(const Look *look) { return (look->heads + 2 * look->groups) * look->size; }

/* The shares of TILE queries from number `i` of the block, whose rows stand at `q`; returns how many columns hold any. */
static long shares_of(const Look *look, const Item *it, const num *q, long i) {
    long last = i + TILE < it->queries ? i + TILE : it->queries, columns = up_to(it->before + last, LANE);
    const Desk *desk = &it->desk;
    product((const pair *)q, look->size / 2, 1, desk->keys_across, it->width, look->size / 2, desk->scores, it->width,
            columns, 0);
    for (long r = 0; r < TILE; r++) {
        long high = it->before + (i + r < last ? i + r : last - 1), low = 0;
        if (look->window && high - look->window + 1 > low) low = high - look->window + 1;
        share(desk->scores + r * it->width, desk->shares + r * it->width, low, high, columns);
    }
    return columns;
}

/* The mixed values of every head. */
void attend(const Look *look, num *out) {
    long each = look->heads / look->groups, size = look->size, stride = stride_of(look);
#pragma omp parallel for schedule(dynamic, 1)
    for (long index = 0; index < look->blocks * look->groups; index++) {
        Item it = item(look, index);
        Desk *desk = &it.desk;
        const num *k = look->qkv + (look->heads + it.group) * size, *v = k + look->groups * size;
        take(k, stride, it.places, it.keys, it.width, look->cos, look->sin, 1.0f, desk->rows, size);
        pack_across(desk->rows, it.width, desk->keys_across, it.width, size);
        take(v, stride, it.places, it.keys, it.width, 0, 0, 1.0f, desk->rows, size);
        pack_down(desk->rows, size, it.width, desk->values_down, size, size);
        for (long head = it.group * each; head < (it.group + 1) * each; head++)
            for (long i = 0; i < it.queries; i += TILE) {
                long real = it.queries - i < TILE ? it.queries - i : TILE;
                const int64_t *at = it.places + it.before + i;
                take(look->qkv + head * size, stride, at, real, TILE, look->cos, look->sin, look->scale, desk->q, size);
                long columns = shares_of(look, &it, desk->q, i);
                product((pair *)desk->shares, it.width / 2, 1, desk->values_down, size, columns / 2, desk->sums, size,
                        size, 0);
                for (long r = 0; r < real; r++)
                    turn_back(desk->sums + r * size, 0, 0, 1.0f, out + (at[r] * look->heads + head) * size, size);
            }
    }
}

/* Of TILE queries from number `i`, which are `row` and on of a chunk: the gradient of q to its place in `dqkv`; shares
   and the gradient of scores to `shares_down` and `slopes_down`, zero up to `most` columns. */
static void slopes_of(const Look *look, const Item *it, long head, long i, long row, long most, num *dqkv) {
    const Desk *desk = &it->desk;
    long size = look->size, half = size / 2, width = it->width, columns = shares_of(look, it, desk->q + row * size, i);
    product((pair *)(desk->d + row * size), half, 1, desk->values_across, width, half, desk->dshares, width, columns, 0);
    for (long r = 0; r < TILE; r++) {
        const float *s = desk->scores + r * width, *d = desk->dshares + r * width;
        num *to = desk->slopes + r * width;
        float dot = 0;
        SUM("omp simd reduction(+ : dot)") for (long j = 0; j < columns; j++) dot += s[j] * d[j];
        LANES for (long j = 0; j < columns; j++) to[j] = put(s[j] * (d[j] - dot));
        memset(to + columns, 0, (most - columns) * sizeof(num));
        memset(desk->shares + r * width + columns, 0, (most - columns) * sizeof(num));
    }
    product((pair *)desk->slopes, width / 2, 1, desk->keys_down, size, columns / 2, desk->sums, size, size, 0);
    for (long r = 0; r < TILE && i + r < it->queries; r++) {
        long place = it->places[it->before + i + r];
        const float *cos = look->cos ? look->cos + place * half : 0, *sin = look->cos ? look->sin + place * half : 0;
        turn_back(desk->sums + r * size, cos, sin, look->scale, dqkv + place * stride_of(look) + head * size, size);
    }
    pack_down(desk->shares, width, TILE, desk->shares_down + row / 2 * width, width, most);
    pack_down(desk->slopes, width, TILE, desk->slopes_down + row / 2 * width, width, most);
}

/* One head's part of the gradients: of q to `dqkv`, of keys and values added to the desk's. */
static void back_through(const Look *look, const Item *it, long head, const num *dout, num *dqkv) {
    const Desk *desk = &it->desk;
    long size = look->size;
    for (long start = 0; start < it->queries; start += CHUNK) {
        long real = it->queries - start < CHUNK ? it->queries - start : CHUNK, room = up_to(real, TILE);
        long most = up_to(it->before + start + real + TILE, LANE); /* tiles of keys may end past them */
        const int64_t *at = it->places + it->before + start;
        take(look->qkv + head * size, stride_of(look), at, real, room, look->cos, look->sin, look->scale, desk->q, size);
        take(dout + head * size, look->heads * size, at, real, room, 0, 0, 1.0f, desk->d, size);
        pack_down(desk->q, size, room, desk->q_down, size, size);
        pack_down(desk->d, size, room, desk->d_down, size, size);
        for (long row = 0; row < room; row += TILE) slopes_of(look, it, head, start + row, row, most, dqkv);
        for (long j = 0; j < it->before + start + real; j += TILE) {
            long first = j - it->before - start > 0 ? (j - it->before - start) / 2 : 0; /* none before sees key j */
            const pair *shares = desk->shares_down + first * it->width + j;
            const pair *slopes = desk->slopes_down + first * it->width + j;
            product(shares, 1, it->width, desk->d_down + first * size, size, room / 2 - first, desk->dv + j * size, size,
                    size, 1);
            product(slopes, 1, it->width, desk->q_down + first * size, size, room / 2 - first, desk->dk + j * size, size,
                    size, 1);
        }
    }
}

/* The gradients of q, in their places of `dqkv`; those of keys and values as each block has them, in `dk` and `dv`
   (places of blocks x groups x size), because a key may be in several blocks: see `settle_keys`. */
void attend_backward(const Look *look, const num *dout, num *dqkv, float *dk, float *dv) {
    long each = look->heads / look->groups, size = look->size, stride = stride_of(look);
#pragma omp parallel for schedule(dynamic, 1)
    for (long index = 0; index < look->blocks * look->groups; index++) {
        Item it = item(look, index);
        Desk *desk = &it.desk;
        const num *k = look->qkv + (look->heads + it.group) * size, *v = k + look->groups * size;
        take(k, stride, it.places, it.keys, it.width, look->cos, look->sin, 1.0f, desk->rows, size);
        pack_across(desk->rows, it.width, desk->keys_across, it.width, size);
        pack_down(desk->rows, size, it.width, desk->keys_down, size, size);
        take(v, stride, it.places, it.keys, it.width, 0, 0, 1.0f, desk->rows, size);
        pack_across(desk->rows, it.width, desk->values_across, it.width, size);
        memset(desk->dk, 0, it.width * size * sizeof(float));
        memset(desk->dv, 0, it.width * size * sizeof(float));
        for (long head = it.group * each; head < (it.group + 1) * each; head++)
            back_through(look, &it, head, dout, dqkv);
        for (long j = 0; j < it.keys; j++) {
            long at = ((it.first + j) * look->groups + it.group) * size;
            memcpy(dk + at, desk->dk + j * size, size * sizeof(float));
            memcpy(dv + at, desk->dv + j * size, size * sizeof(float));
        }
    }
}

/* Sum what the blocks have of each place of the pack: those from offsets[place] on in `order`; keys turned back. */
void settle_keys(const Look *look, const float *dk, const float *dv, const int64_t *order, const int64_t *offsets,
                 num *dqkv, long rows) {
    long size = look->size, groups = look->groups, half = size / 2;
    ROWS for (long place = 0; place < rows; place++)
        for (long group = 0; group < groups; group++) {
            const float *cos = look->cos ? look->cos + place * half : 0, *sin = look->cos ? look->sin + place * half : 0;
            num *to = dqkv + place * stride_of(look) + (look->heads + group) * size;
            float k[size], v[size];
            memset(k, 0, sizeof k), memset(v, 0, sizeof v);
            for (long each = offsets[place]; each < offsets[place + 1]; each++) {
                const float *from_k = dk + (order[each] * groups + group) * size;
                const float *from_v = dv + (order[each] * groups + group) * size;
                LANES for (long i = 0; i < size; i++) k[i] += from_k[i], v[i] += from_v[i];
            }
            turn_back(k, cos, sin, 1.0f, to, size);
            turn_back(v, 0, 0, 1.0f, to + groups * size, size);
        }
}
#else
long attend_bytes(long keys, long size) { return 0; } /* this processor, or this type of numbers, has no such products */
#endif
