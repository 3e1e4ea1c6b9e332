/* The work between matrix products, one pass over memory each. `plain.py` says in torch what each one computes.

   Built when it is needed, once for float32 and once with -DBFLOAT16. Sums are in float32. Rows are `stride` elements
   apart; the last axis is dense. A NaN stays a NaN: no fast-math, only reductions may be reordered (`omp simd`). */

#include "gates.h"

/* out = x / rms(x) * w. Each of `rows` holds `groups` vectors of `size` side by side. */
void norm(const num *x, long x_stride, const float *w, float eps, num *out, long out_stride, long rows, long groups,
          long size) {
    ROWS for (long row = 0; row < rows; row++)
        for (long group = 0; group < groups; group++) {
            const num *from = x + row * x_stride + group * size;
            num *to = out + row * out_stride + group * size;
            float sum = 0;
            SUM("omp simd reduction(+ : sum)") for (long i = 0; i < size; i++) sum += get(from[i]) * get(from[i]);
            float r = 1.0f / __builtin_sqrtf(sum / size + eps);
            STRIPES for (long i = 0; i < size; i += STRIPE)
                store(to + i, load(from + i, size - i) * r * reals(w + i, size - i), size - i);
        }
}

/* d = gradient of `norm`'s x from that of its output `dy`, added to what is in d where `add`. d may be dy. */
void norm_backward(const num *x, long x_stride, const float *w, float eps, const num *dy, long dy_stride, num *d,
                   long d_stride, int add, long rows, long groups, long size) {
    ROWS for (long row = 0; row < rows; row++)
        for (long group = 0; group < groups; group++) {
            const num *from = x + row * x_stride + group * size, *g = dy + row * dy_stride + group * size;
            num *to = d + row * d_stride + group * size;
            float sum = 0, dot = 0;
            SUM("omp simd reduction(+ : sum, dot)") for (long i = 0; i < size; i++) {
                float value = get(from[i]);
                sum += value * value;
                dot += value * get(g[i]) * w[i];
            }
            float r = 1.0f / __builtin_sqrtf(sum / size + eps), pull = dot * r * r * r / size;
            STRIPES for (long i = 0; i < size; i += STRIPE) {
                stripe slope = load(g + i, size - i) * reals(w + i, size - i) * r - load(from + i, size - i) * pull;
                if (add) slope = load(to + i, size - i) + slope;
                store(to + i, slope, size - i);
            }
        }
}

/* One row of `gate` and of `gate_backward`: inlined with a constant `gelu`, so that no lane decides it. */
INLINED void gate_row(const num *g, const num *u, num *to, int gelu, long size) {
    STRIPES for (long i = 0; i < size; i += STRIPE)
        store(to + i, gated(load(g + i, size - i), load(u + i, size - i), gelu), size - i);
}

INLINED void gate_row_backward(num *restrict g, num *restrict u,
                                                                    const num *restrict d, num *restrict to, int gelu,
                                                                    long size) {
    STRIPES for (long i = 0; i < size; i += STRIPE) {
        stripe gate = load(g + i, size - i), up = load(u + i, size - i);
        store(to + i, gated_back(&gate, &up, load(d + i, size - i), gelu), size - i);
        store(g + i, gate, size - i);
        store(u + i, up, size - i);
    }
}

/* out = act(gate) * up, where a row holds `size` gates and then `size` ups. */
void gate(const num *gu, num *out, long out_stride, int gelu, long rows, long size) {
    ROWS for (long row = 0; row < rows; row++) {
        const num *g = gu + row * 2 * size;
        num *to = out + row * out_stride;
        if (gelu)
            gate_row(g, g + size, to, 1, size);
        else
            gate_row(g, g + size, to, 0, size);
    }
}

/* The gradient of gate and up, written over them; and out = act(gate) * up once more. */
void gate_backward(num *gu, const num *dh, long dh_stride, num *out, long out_stride, int gelu, long rows, long size) {
    ROWS for (long row = 0; row < rows; row++) {
        num *g = gu + row * 2 * size, *to = out + row * out_stride;
        const num *d = dh + row * dh_stride;
        if (gelu)
            gate_row_backward(g, g + size, d, to, 1, size);
        else
            gate_row_backward(g, g + size, d, to, 0, size);
    }
}

/* out[s, head, place, :] = heads of the row that stands there; zero where it is padding (on the left).
   Rotated where `cos` (row x half a head) is given. x is at the first of `heads` heads of `size`. */
void spread(const num *x, long x_stride, const int64_t *places, const int32_t *counts, const float *cos,
            const float *sin, float scale, num *out, long blocks, long heads, long places_each, long size) {
    ROWS for (long item = 0; item < blocks * heads; item++) {
        long block = item / heads, head = item % heads, half = size / 2, empty = places_each - counts[block];
        num *to = out + item * places_each * size;
        memset(to, 0, empty * size * sizeof(num));
        for (long i = empty; i < places_each; i++) {
            long place = places[block * places_each + i];
            const num *from = x + place * x_stride + head * size;
            if (cos)
                turn(cos + place * half, sin + place * half, 1.0f, scale, from, to + i * size, half);
            else
                memcpy(to + i * size, from, size * sizeof(num));
        }
    }
}

/* The way back of `spread`, for places that occur once: padding is dropped. */
void collect(const num *x, const int64_t *places, const int32_t *counts, const float *cos, const float *sin,
             float scale, num *out, long out_stride, long blocks, long heads, long places_each, long size) {
    ROWS for (long item = 0; item < blocks * heads; item++) {
        long block = item / heads, head = item % heads, half = size / 2;
        const num *from = x + item * places_each * size;
        for (long i = places_each - counts[block]; i < places_each; i++) {
            long place = places[block * places_each + i];
            num *to = out + place * out_stride + head * size;
            if (cos)
                turn(cos + place * half, sin + place * half, -1.0f, scale, from + i * size, to, half);
            else
                memcpy(to, from + i * size, size * sizeof(num));
        }
    }
}

/* The way back of `spread`, for places that may occur more than once: added up in `total` (rows x heads x size). */
void accumulate(const num *x, const int64_t *places, const int32_t *counts, float *total, long blocks, long heads,
                long places_each, long size) {
    ROWS for (long head = 0; head < heads; head++)
        for (long block = 0; block < blocks; block++)
            for (long i = places_each - counts[block]; i < places_each; i++) {
                const num *from = x + ((block * heads + head) * places_each + i) * size;
                float *to = total + (places[block * places_each + i] * heads + head) * size;
                LANES for (long k = 0; k < size; k++) to[k] += get(from[k]);
            }
}

/* out = what `accumulate` added up, turned back where `cos` is given. */
void settle(const float *total, const float *cos, const float *sin, num *out, long out_stride, long rows, long heads,
            long size) {
    ROWS for (long row = 0; row < rows; row++)
        for (long head = 0; head < heads; head++) {
            const float *from = total + (row * heads + head) * size;
            num *to = out + row * out_stride + head * size;
            long half = size / 2;
            if (cos)
                LANES for (long i = 0; i < half; i++) {
                    float a = from[i], b = from[i + half], c = cos[row * half + i], s = sin[row * half + i];
                    to[i] = put(a * c + b * s);
                    to[i + half] = put(b * c - a * s);
                }
            else
                LANES for (long i = 0; i < size; i++) to[i] = put(from[i]);
        }
}

/* The keys that query i of a block sees: from `low` to `high` (see `spans.py`). */
static inline void seen(long i, long queries, long keys, long count, long window, long *low, long *high) {
    *high = i + keys - queries;
    *low = keys - count;
    if (window && *high - window + 1 > *low) *low = *high - window + 1;
}

/* Softmax over the keys that a query sees, in place; 0 over the others. */
void softmax(num *scores, const int32_t *counts, long window, long blocks, long heads, long queries, long keys) {
    ROWS for (long row = 0; row < blocks * heads * queries; row++) {
        long low, high;
        seen(row % queries, queries, keys, counts[row / (heads * queries)], window, &low, &high);
        num *s = scores + row * keys;
        float most = -3.0e38f, sum = 0;
        SUM("omp simd reduction(max : most)") for (long j = low; j <= high; j++) {
            float value = get(s[j]);
            most = value > most ? value : most;
        }
        float held[high >= low ? high - low + 1 : 1];
        SUM("omp simd reduction(+ : sum)") for (long j = low; j <= high; j++) {
            float value = exp_of(get(s[j]) - most);
            held[j - low] = value;
            sum += value;
        }
        float share = 1.0f / sum;
        memset(s, 0, (low <= high ? low : keys) * sizeof(num));
        LANES for (long j = low; j <= high; j++) s[j] = put(held[j - low] * share);
        if (low <= high) memset(s + high + 1, 0, (keys - high - 1) * sizeof(num));
    }
}

/* The gradient of the scores, written over that of the shares. */
void softmax_backward(const num *shares, num *d, const int32_t *counts, long window, long blocks, long heads,
                      long queries, long keys) {
    ROWS for (long row = 0; row < blocks * heads * queries; row++) {
        long low, high;
        seen(row % queries, queries, keys, counts[row / (heads * queries)], window, &low, &high);
        const num *p = shares + row * keys;
        num *g = d + row * keys;
        float dot = 0;
        SUM("omp simd reduction(+ : dot)") for (long j = low; j <= high; j++) dot += get(p[j]) * get(g[j]);
        memset(g, 0, (low <= high ? low : keys) * sizeof(num));
        LANES for (long j = low; j <= high; j++) g[j] = put(get(p[j]) * (get(g[j]) - dot));
        if (low <= high) memset(g + high + 1, 0, (keys - high - 1) * sizeof(num));
    }
}

/* found = log of the sum of exp(logits), each bent by a final soft cap (0 for none). */
void log_total(const num *logits, float cap, float *found, long rows, long size) {
    ROWS for (long row = 0; row < rows; row++) {
        const num *x = logits + row * size;
        float most = -3.0e38f, sum = 0;
        SUM("omp simd reduction(max : most)") for (long i = 0; i < size; i++) {
            float value = get(x[i]);
            most = value > most ? value : most;
        }
        if (cap) {
            most = capped(most, cap);
            SUM("omp simd reduction(+ : sum)") for (long i = 0; i < size; i++) {
                sum += exp_of(capped(get(x[i]), cap) - most);
            }
        } else {
            SUM("omp simd reduction(+ : sum)") for (long i = 0; i < size; i++) sum += exp_of(get(x[i]) - most);
        }
        found[row] = most + __builtin_logf(sum);
    }
}

/* found = log softmax(logits)[target]; and over the logits its gradient: 1 at the target, less each share.
   A final soft cap c (c tanh(x / c), 0 for none) is undone by its slope. */
void log_share(num *logits, const int64_t *targets, float cap, float *found, long rows, long size) {
    ROWS for (long row = 0; row < rows; row++) {
        num *x = logits + row * size;
        float most = -3.0e38f, sum = 0, ends = 2.0f / (cap ? cap : 1.0f);
        if (cap)
            LANES for (long i = 0; i < size; i++) x[i] = put(cap - 2.0f * cap / (1.0f + exp_of(get(x[i]) * ends)));
        SUM("omp simd reduction(max : most)") for (long i = 0; i < size; i++) {
            float value = get(x[i]);
            most = value > most ? value : most;
        }
        SUM("omp simd reduction(+ : sum)") for (long i = 0; i < size; i++) sum += exp_of(get(x[i]) - most);
        found[row] = get(x[targets[row]]) - most - __builtin_logf(sum);
        float share = 1.0f / sum, target = get(x[targets[row]]);
        LANES for (long i = 0; i < size; i++) {
            float value = get(x[i]), slope = cap ? 1.0f - value * value / (cap * cap) : 1.0f;
            x[i] = put(-exp_of(value - most) * share * slope);
        }
        float slope = cap ? 1.0f - target * target / (cap * cap) : 1.0f;
        x[targets[row]] = put((1.0f - exp_of(target - most) * share) * slope);
    }
}
