/* Attention of a whole pack where the processor multiplies bfloat16 in pairs (AVX-512 BF16): scores, softmax and values
   of six queries at a time, so that no score leaves the cache and only what a query sees is computed.

   A block (`spans.py`) is some queries with the keys that they see; the queries are the last of the keys. Keys and
   values are packed once a block: as pairs of numbers of one key, [size / 2][keys] (for scores), or as pairs of keys,
   [keys / 2][size] (for sums over keys). One routine, `product`, then does every product. Sums are in float32. */

#include "look.h"
#include "pairs.h"

#ifdef IN_PAIRS
#include <omp.h>

enum { CHUNK = 96 };

/* sums[r][n] = (what is there, where `add`, and) over pairs p: a[r down + p across] . b[p][n], for TILE rows and
   `columns`, a multiple of LANE. */
static void product(const pair *a, long down, long across, const pair *b, long width, long pairs, float *sums,
                    long sums_width, long columns, int add) {
    tile((Left){a, 0, down, across}, b, width, pairs, sums, sums_width, columns, add);
}

/* A stripe of both halves of a head, rotated by their position and scaled; with a negative `sideways` turned back. */
static inline void rotate(stripe a, stripe b, const float *cos, const float *sin, float scale, float sideways, num *to,
                          long half, long left) {
    stripe c = reals(cos, left) * scale, s = reals(sin, left) * sideways;
    store(to, a * c - b * s, left);
    store(to + half, b * c + a * s, left);
}

/* Rows of a head lie far apart, so no cache foresees them: each is asked for some rows before it is read. */
enum { AHEAD = 8 };
static inline void soon(const num *row, long size) {
    for (long i = 0; i < size; i += 32) _mm_prefetch((const char *)(row + i), _MM_HINT_T0);
}

/* Rows of one head from their places, turned by their positions where `cos` is given; zero from `count` to `room`. */
static void take(const num *x, long stride, const int64_t *places, long count, long room, const float *cos,
                 const float *sin, float scale, num *rows, long size) {
    long half = size / 2;
    for (long row = 0; row < count; row++) {
        const num *from = x + places[row] * stride;
        num *to = rows + row * size;
        long at = places[row] * half;
        if (row + AHEAD < count) soon(x + places[row + AHEAD] * stride, size);
        if (cos)
            for (long i = 0; i < half; i += STRIPE)
                rotate(load(from + i, half - i), load(from + i + half, half - i), cos + at + i, sin + at + i, scale, scale,
                       to + i, half, half - i);
        else
            memcpy(to, from, size * sizeof(num));
    }
    memset(rows + count * size, 0, (room - count) * size * sizeof(num));
}

/* Which of the numbers from `j` on a query sees, whose keys are low to high. */
static inline __mmask16 seen(long j, long low, long high) {
    long end = high + 1 - j, start = low - j;
    uint32_t below = end > 15 ? 0xffff : end > 0 ? (1u << end) - 1 : 0;
    return (__mmask16)(below & ~(start > 15 ? 0xffff : start > 0 ? (1u << start) - 1 : 0));
}

#define OCTAVES 1.44269504f /* log2 of e */

static inline void store_half(num *to, __m512 x) { _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x)); }

/* Softmax of a row of scores over the keys low to high, but for its sum, as bfloat16; 0 over the others. Returns the
   sum; `most` is the largest score, in octaves. */
static float share(const float *s, num *to, long low, long high, long columns, float *most) {
    __m512 best = _mm512_set1_ps(-3.0e38f), sum = _mm512_setzero_ps(), octaves = _mm512_set1_ps(OCTAVES);
    for (long j = 0; j < columns; j += LANE)
        best = _mm512_mask_max_ps(best, seen(j, low, high), best, _mm512_loadu_ps(s + j));
    *most = _mm512_reduce_max_ps(best) * OCTAVES;
    best = _mm512_set1_ps(*most);
    for (long j = 0; j < columns; j += LANE) {
        __m512 value = power_of_2(_mm512_fmsub_ps(_mm512_loadu_ps(s + j), octaves, best));
        value = _mm512_maskz_mov_ps(seen(j, low, high), value);
        sum = _mm512_add_ps(sum, value);
        store_half(to + j, value);
    }
    return _mm512_reduce_add_ps(sum);
}

/* `from`, scaled, and turned back where `cos` is given. */
static void turn_back(const float *from, const float *cos, const float *sin, float scale, num *to, long size) {
    long half = size / 2;
    if (cos)
        for (long i = 0; i < half; i += STRIPE)
            rotate(reals(from + i, half - i), reals(from + i + half, half - i), cos + i, sin + i, scale, -scale, to + i,
                   half, half - i);
    else
        for (long i = 0; i < size; i += STRIPE) store(to + i, reals(from + i, size - i) * scale, size - i);
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

/* The scores of TILE queries from number `i` of the block, whose rows stand at `q`; returns how many columns hold any. */
static long scores_of(const Look *look, const Item *it, const num *q, long i) {
    long last = i + TILE < it->queries ? i + TILE : it->queries, columns = up_to(it->before + last, LANE);
    product((const pair *)q, look->size / 2, 1, it->desk.keys_across, it->width, look->size / 2, it->desk.scores,
            it->width, columns, 0);
    return columns;
}

/* The keys from `low` to `high` that query `i` of the block sees; one past the end sees what the last one sees. */
static inline void sees(const Look *look, const Item *it, long i, long *low, long *high) {
    *high = it->before + (i < it->queries ? i : it->queries - 1), *low = 0;
    if (look->window && *high - look->window + 1 > 0) *low = *high - look->window + 1;
}

/* The mixed values of every head; and of each token and head the log of the sum of exp(scores), in octaves. */
void attend(const Look *look, num *out, float *totals) {
    long each = look->heads / look->groups, size = look->size, stride = stride_of(look);
#pragma omp parallel for schedule(dynamic, 1)
    for (long index = 0; index < look->blocks * look->groups; index++) {
        Item it = item(look, index);
        Desk *desk = &it.desk;
        const num *k = look->qkv + (look->heads + it.group) * size, *v = k + look->groups * size;
        take(k, stride, it.places, it.keys, it.width, look->cos, look->sin, 1.0f, desk->rows, size);
        lay_across(desk->rows, size / 2, it.width, desk->keys_across, it.width, size / 2);
        take(v, stride, it.places, it.keys, it.width, 0, 0, 1.0f, desk->rows, size);
        pack_down(desk->rows, size, it.width, desk->values_down, size, size);
        for (long i = 0; i < it.queries; i += TILE) /* heads of a token lie beside each other */
            for (long head = it.group * each; head < (it.group + 1) * each; head++) {
                long real = it.queries - i < TILE ? it.queries - i : TILE;
                const int64_t *at = it.places + it.before + i;
                take(look->qkv + head * size, stride, at, real, TILE, look->cos, look->sin, look->scale, desk->q, size);
                for (long r = TILE; r < 2 * TILE && i + r < it.queries; r++) soon(look->qkv + at[r] * stride + head * size, size);
                long columns = scores_of(look, &it, desk->q, i), low, high;
                float sums[TILE], most[TILE];
                for (long r = 0; r < TILE; r++) {
                    sees(look, &it, i + r, &low, &high);
                    sums[r] = share(desk->scores + r * it.width, desk->shares + r * it.width, low, high, columns, most + r);
                }
                product((pair *)desk->shares, it.width / 2, 1, desk->values_down, size, columns / 2, desk->sums, size,
                        size, 0);
                for (long r = 0; r < real; r++) {
                    long to = at[r] * look->heads + head;
                    turn_back(desk->sums + r * size, 0, 0, 1.0f / sums[r], out + to * size, size);
                    totals[to] = most[r] + __builtin_log2f(sums[r]);
                }
            }
    }
}

/* What the way back of a head reads and writes: of what came forward the mixed values and `totals`. */
typedef struct {
    const num *out, *dout;
    const float *totals;
    num *dqkv;
} Back;

/* Whether a place of the pack is a key of one block only: those that have it stand from offsets[place] on in `order`. */
static inline int in_one(const int64_t *offsets, long place) { return offsets[place + 1] - offsets[place] == 1; }

/* Shares and slopes of two queries from their scores and from what their shares would be moved by; `slopes` as they
   are, both beside each other below. `total` and `dot` are of each query. */
static void pair_of_rows(const Desk *desk, long row, long width, long columns, const long *low, const long *high,
                         const float *total, const float *dot, pair *shares_down, pair *slopes_down) {
    const float *s = desk->scores + row * width, *d = desk->dshares + row * width;
    __m512 octaves = _mm512_set1_ps(OCTAVES);
    for (long j = 0; j < columns; j += LANE) {
        __m256i share[2], slope[2];
        for (int r = 0; r < 2; r++) {
            __m512 part = power_of_2(_mm512_fmsub_ps(_mm512_loadu_ps(s + r * width + j), octaves, _mm512_set1_ps(total[r])));
            part = _mm512_maskz_mov_ps(seen(j, low[r], high[r]), part);
            __m512 pull = _mm512_sub_ps(_mm512_loadu_ps(d + r * width + j), _mm512_set1_ps(dot[r]));
            share[r] = (__m256i)_mm512_cvtneps_pbh(part), slope[r] = (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(part, pull));
            _mm256_storeu_si256((__m256i *)(desk->slopes + (row + r) * width + j), slope[r]);
        }
        _mm512_storeu_si512(shares_down + j, paired(share[0], share[1]));
        _mm512_storeu_si512(slopes_down + j, paired(slope[0], slope[1]));
    }
}

/* Of TILE queries from number `i`, which are `row` and on of a chunk: the gradient of q to its place in `dqkv`; shares
   and the gradient of scores to `shares_down` and `slopes_down`, zero up to `most` columns. The sum of shares times
   what moves them is that of what was mixed times its gradient (Dao et al. 2022, arXiv:2205.14135, appendix B). */
static void slopes_of(const Look *look, const Item *it, long head, long i, long row, long most, const Back *back) {
    const Desk *desk = &it->desk;
    long size = look->size, half = size / 2, width = it->width, columns = scores_of(look, it, desk->q + row * size, i);
    long low[TILE], high[TILE];
    float totals[TILE] = {0}, dots[TILE] = {0};
    product((pair *)(desk->d + row * size), half, 1, desk->values_across, width, half, desk->dshares, width, columns, 0);
    for (long r = 0; r < TILE; r++) {
        sees(look, it, i + r, low + r, high + r);
        if (i + r >= it->queries) continue;
        long at = it->places[it->before + i + r] * look->heads + head;
        const num *out = back->out + at * size, *d = desk->d + (row + r) * size;
        __m512 dot = _mm512_setzero_ps();
        for (long k = 0; k < size; k += 2 * LANE) {
            __mmask16 pairs = some((size - k) / 2);
            __m512i one = _mm512_maskz_loadu_epi32(pairs, out + k), other = _mm512_maskz_loadu_epi32(pairs, d + k);
            dot = _mm512_dpbf16_ps(dot, (__m512bh)one, (__m512bh)other);
        }
        totals[r] = back->totals[at], dots[r] = _mm512_reduce_add_ps(dot);
    }
    for (long r = 0; r < TILE; r += 2) {
        pair *shares = desk->shares_down + (row + r) / 2 * width, *slopes = desk->slopes_down + (row + r) / 2 * width;
        pair_of_rows(desk, r, width, columns, low + r, high + r, totals + r, dots + r, shares, slopes);
        memset(shares + columns, 0, (most - columns) * sizeof(pair));
        memset(slopes + columns, 0, (most - columns) * sizeof(pair));
    }
    product((pair *)desk->slopes, width / 2, 1, desk->keys_down, size, columns / 2, desk->sums, size, size, 0);
    for (long r = 0; r < TILE && i + r < it->queries; r++) {
        long place = it->places[it->before + i + r];
        const float *cos = look->cos ? look->cos + place * half : 0, *sin = look->cos ? look->sin + place * half : 0;
        num *to = back->dqkv + place * stride_of(look) + head * size;
        turn_back(desk->sums + r * size, cos, sin, look->scale, to, size);
    }
}

/* The part of a chunk of queries and a head in the gradients: of q to `dqkv`, of keys and values added to the desk's. */
static void back_through(const Look *look, const Item *it, long head, long start, const Back *back) {
    const Desk *desk = &it->desk;
    long size = look->size, real = it->queries - start < CHUNK ? it->queries - start : CHUNK, room = up_to(real, TILE);
    long most = up_to(it->before + start + real + TILE, LANE); /* tiles of keys may end past them */
    const int64_t *at = it->places + it->before + start;
    take(look->qkv + head * size, stride_of(look), at, real, room, look->cos, look->sin, look->scale, desk->q, size);
    take(back->dout + head * size, look->heads * size, at, real, room, 0, 0, 1.0f, desk->d, size);
    for (long row = 0; row < real; row++) soon(back->out + (at[row] * look->heads + head) * size, size);
    pack_down(desk->q, size, room, desk->q_down, size, size);
    pack_down(desk->d, size, room, desk->d_down, size, size);
    for (long row = 0; row < room; row += TILE) slopes_of(look, it, head, start + row, row, most, back);
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

/* The gradients of a key and its values of one group, turned back, to their place of `dqkv`. */
static void write_key(const Look *look, long place, long group, const float *dk, const float *dv, num *dqkv) {
    long size = look->size, half = size / 2;
    const float *cos = look->cos ? look->cos + place * half : 0, *sin = look->cos ? look->sin + place * half : 0;
    num *to = dqkv + place * stride_of(look) + (look->heads + group) * size;
    turn_back(dk, cos, sin, 1.0f, to, size);
    turn_back(dv, 0, 0, 1.0f, to + look->groups * size, size);
}

/* The gradients of q, in their places of `dqkv`, and of keys that one block has; of the others as each block has them, in
   `dk` and `dv` (places of blocks x groups x size): see `settle_keys`. */
void attend_backward(const Look *look, const num *out, const float *totals, const num *dout, const int64_t *offsets,
                     num *dqkv, float *dk, float *dv) {
    Back way_back = {out, dout, totals, dqkv};
    long each = look->heads / look->groups, size = look->size, stride = stride_of(look);
#pragma omp parallel for schedule(dynamic, 1)
    for (long index = 0; index < look->blocks * look->groups; index++) {
        Item it = item(look, index);
        Desk *desk = &it.desk;
        const num *k = look->qkv + (look->heads + it.group) * size, *v = k + look->groups * size;
        take(k, stride, it.places, it.keys, it.width, look->cos, look->sin, 1.0f, desk->rows, size);
        lay_across(desk->rows, size / 2, it.width, desk->keys_across, it.width, size / 2);
        pack_down(desk->rows, size, it.width, desk->keys_down, size, size);
        take(v, stride, it.places, it.keys, it.width, 0, 0, 1.0f, desk->rows, size);
        lay_across(desk->rows, size / 2, it.width, desk->values_across, it.width, size / 2);
        memset(desk->dk, 0, it.width * size * sizeof(float));
        memset(desk->dv, 0, it.width * size * sizeof(float));
        for (long start = 0; start < it.queries; start += CHUNK)
            for (long head = it.group * each; head < (it.group + 1) * each; head++)
                back_through(look, &it, head, start, &way_back);
        for (long j = 0; j < it.keys; j++) {
            const float *one_k = desk->dk + j * size, *one_v = desk->dv + j * size;
            long at = ((it.first + j) * look->groups + it.group) * size;
            if (in_one(offsets, it.places[j]))
                write_key(look, it.places[j], it.group, one_k, one_v, dqkv);
            else
                memcpy(dk + at, one_k, size * sizeof(float)), memcpy(dv + at, one_v, size * sizeof(float));
        }
    }
}

/* Sum what the blocks have of each place of the pack that is a key of several. */
void settle_keys(const Look *look, const float *dk, const float *dv, const int64_t *order, const int64_t *offsets,
                 num *dqkv, long rows) {
    long size = look->size, groups = look->groups;
    ROWS for (long place = 0; place < rows; place++)
        for (long group = 0; group < groups && !in_one(offsets, place); group++) {
            float k[size], v[size];
            memset(k, 0, sizeof k), memset(v, 0, sizeof v);
            for (long each = offsets[place]; each < offsets[place + 1]; each++) {
                const float *from_k = dk + (order[each] * groups + group) * size;
                const float *from_v = dv + (order[each] * groups + group) * size;
                LANES for (long i = 0; i < size; i++) k[i] += from_k[i], v[i] += from_v[i];
            }
            write_key(look, place, group, k, v, dqkv);
        }
}
#else
long attend_bytes(long keys, long size) { return 0; } /* this processor, or this type of numbers, has no such products */
#endif
