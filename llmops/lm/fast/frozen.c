/* Products with the frozen weights of some layers that read the same input, and with their adapters, in bfloat16:
   y = W x + s B A x of each layer, or back, dx = the sum of W' dy + A' s B' dy, where A x, or s B' dy, comes first
   (`adapt.c`) and is kept. In a pack, whose layers find nothing in the cache, torch's own products ran at 60 to 85 % of
   what they have on warm squares (recipes/LOG.md).

   128 columns at a time, their weights laid out in pairs once for some rows, in the second cache; all that a number of y
   is the sum of is added in float32 and rounded once, as soon as six rows have it. What gates do follows at once:
   act(gate) * up of the sums of both, or, of the sums that are its gradient, those of gate and up. */

#include "adapt.h"
#include "gates.h"

#ifdef IN_PAIRS
#include <omp.h>

/* DEPTH pairs of PANEL columns are 393 kB of a second cache, the sums of CHUNK rows 197 kB. A thread has ITEMS pieces of
   work at least: fewer, and one waits for the other. */
enum { PANEL = 8 * LANE, DEPTH = 768, CHUNK = 384, ITEMS = 8 };

/* One layer: W (columns x inputs), and where its adapter has ranks, the first of them among all, and s B in pairs of
   ranks, [ranks / 2][columns]. */
typedef struct {
    const num *w;
    const pair *up;
    long columns, first, ranks;
} Layer;

/* All of them, and their adapters, if there are any. */
typedef struct {
    const Layer *layers;
    long count, inputs, outputs;
    const Group *adapters;
} Stack;

/* What is multiplied, what the sum is added to (or null), room for what is between (rows x ranks), and where the sum goes.
   Where `inner` is given, y is of gates and ups beside each other, and `inner` (rows x half as many) of act(gate) * up:
   the sums are both, or on the way back the gradient of `inner`, and y is turned into its own. */
typedef struct {
    const num *x, *onto;
    num *between, *y, *inner;
    long x_stride, onto_stride, y_stride, rows, gelu;
} Rows;

/* Some rows of a panel of columns: of `together` layers from `layer` on, the same columns of each beside each other; on
   the way back of all. */
typedef struct {
    long from, count, layer, together, column, columns;
    pair *laid;
    float *sums;
} Piece;

/* Lay out what `depth` inputs from `start` on are multiplied with. */
static void lay_out(const Stack *of, const Piece *piece, long start, long depth) {
    long each = piece->columns / piece->together;
    for (long n = 0; n < piece->together; n++) {
        const num *w = of->layers[piece->layer + n].w + piece->column * of->inputs + start;
        lay_across(w, of->inputs / 2, each, piece->laid + n * each, PANEL, depth / 2);
    }
}

/* The same for the way back, where all outputs of all layers are what is multiplied. */
static void lay_out_back(const Stack *of, const Piece *piece, long start, long depth) {
    pair *to = piece->laid;
    for (const Layer *layer = of->layers; depth > 0; start -= layer++->columns)
        if (start < layer->columns) {
            long rows = least(depth, layer->columns - start);
            pack_down(layer->w + start * of->inputs + piece->column, of->inputs, rows, to, PANEL, piece->columns);
            to += rows / 2 * PANEL, start += rows, depth -= rows;
        }
}

/* The adapters' part of a tile: TILE rows of what is between at `left`. */
static void adapt_tile(const Stack *of, int way_back, const Piece *piece, const pair *const *left, float *sums) {
    if (way_back && of->adapters) {
        const pair *up = (const pair *)of->adapters->a_up + piece->column;
        tile((Left){0, left, 0, 1}, up, of->inputs, of->adapters->ranks / 2, sums, PANEL, piece->columns, 1);
    }
    long each = piece->columns / piece->together;
    for (long n = 0; n < piece->together && !way_back; n++) {
        const Layer *layer = of->layers + piece->layer + n;
        if (!layer->ranks) continue;
        const pair *at[TILE];
        for (long r = 0; r < TILE; r++) at[r] = left[r] + layer->first / 2;
        const pair *up = layer->up + piece->column;
        tile((Left){0, at, 0, 1}, up, layer->columns, layer->ranks / 2, sums + n * each, PANEL, each, 1);
    }
}

/* TILE rows of sums, the first `count` of them from row `row` on, rounded, to their columns of y. */
static void write_out(const Rows *io, long row, long count, long column, long columns, const float *sums) {
    for (long r = 0; r < count; r++, row++, sums += PANEL) {
        const num *onto = io->onto ? io->onto + row * io->onto_stride + column : 0;
        num *to = io->y + row * io->y_stride + column;
        for (long n = 0; n < columns; n += LANE) {
            __m512 sum = _mm512_loadu_ps(sums + n);
            if (onto) sum = _mm512_add_ps(sum, load(onto + n, LANE));
            store(to + n, sum, LANE);
        }
    }
}

/* Sums, rounded, past the caches, where they are whole lines. */
static void write_past(num *to, const float *sums, long columns) {
    long n = 0;
    for (; !((uintptr_t)to & 63) && n + 2 * LANE <= columns; n += 2 * LANE) {
        __m512bh line = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(sums + n + LANE), _mm512_loadu_ps(sums + n));
        _mm512_stream_si512((__m512i *)(to + n), (__m512i)line);
    }
    for (; n < columns; n += LANE) store(to + n, _mm512_loadu_ps(sums + n), LANE);
}

/* The sums of gates and ups, which nobody reads before the way back, and what is gated. */
static void write_gates(const Rows *io, long row, long count, long column, long columns, const float *sums) {
    long half = io->y_stride / 2;
    for (long r = 0; r < count; r++, row++, sums += PANEL) {
        num *g = io->y + row * io->y_stride + column, *to = io->inner + row * half + column;
        for (long n = 0; n < columns; n += LANE)
            store(to + n, gated(_mm512_loadu_ps(sums + n), _mm512_loadu_ps(sums + columns + n), io->gelu), LANE);
        write_past(g, sums, columns), write_past(g + half, sums + columns, columns);
    }
}

/* From the sums, which are the gradient of what is gated, those of gates and ups; and what is gated once more. */
static void write_gates_back(const Rows *io, long row, long count, long column, long columns, const float *sums) {
    long half = io->y_stride / 2;
    for (long r = 0; r < count; r++, row++, sums += PANEL) {
        num *g = io->y + row * io->y_stride + column, *to = io->inner + row * half + column;
        for (long n = 0; n < columns; n += LANE) {
            stripe gate = load(g + n, LANE), up = load(g + half + n, LANE);
            store(to + n, gated_back(&gate, &up, _mm512_loadu_ps(sums + n), io->gelu), LANE);
            store(g + n, gate, LANE), store(g + half + n, up, LANE);
        }
    }
}

/* A piece of y, `to` the column where it goes. A tile's last sums are written at once, while they are in the first cache;
   only those that wait for more inputs stay. The last tile repeats its last row. */
static void multiply(const Stack *of, int way_back, const Rows *io, const Piece *piece, long to) {
    long whole = way_back ? of->outputs : of->inputs, columns = piece->columns / piece->together;
    long ranks = of->adapters ? of->adapters->ranks : 0;
    for (long start = 0; start < whole; start += 2 * DEPTH) {
        long depth = least(2 * DEPTH, whole - start), last = start + depth == whole;
        (way_back ? lay_out_back : lay_out)(of, piece, start, depth);
        for (long row = 0; row < piece->count; row += TILE) {
            long count = least(TILE, piece->count - row), first = piece->from + row;
            float *sums = piece->sums + (whole > 2 * DEPTH ? row * PANEL : 0);
            const pair *left[TILE], *between[TILE];
            for (long r = 0; r < TILE; r++) {
                left[r] = (const pair *)(io->x + (first + least(r, count - 1)) * io->x_stride + start);
                between[r] = (const pair *)(io->between + (first + least(r, count - 1)) * ranks);
            }
            tile((Left){0, left, 0, 1}, piece->laid, PANEL, depth / 2, sums, PANEL, piece->columns, start > 0);
            if (!last) continue;
            adapt_tile(of, way_back, piece, between, sums);
            if (!io->inner) write_out(io, first, count, to, columns, sums);
            else (way_back ? write_gates_back : write_gates)(io, first, count, to, columns, sums);
        }
    }
}

void frozen_product(const Stack *of, int way_back, const Rows *io) {
    if (of->adapters) adapt(of->adapters, way_back, io->x, io->between, 0, io->rows);
    long threads = omp_get_max_threads(), together = io->inner && !way_back ? 2 : 1, wide = PANEL / together, panels = 0;
    long whole = way_back ? of->outputs : of->inputs;
    if (way_back) panels = (of->inputs + wide - 1) / wide;
    for (long n = 0; n < of->count && !way_back; n += together) panels += (of->layers[n].columns + wide - 1) / wide;
    long parts = (ITEMS * threads + panels - 1) / panels, part = up_to((io->rows + parts - 1) / parts, TILE);
    if (whole > 2 * DEPTH) part = least(part, CHUNK); /* sums wait */
    parts = (io->rows + part - 1) / part;
#pragma omp parallel for schedule(dynamic, 1)
    for (long item = 0; item < panels * parts; item++) {
        pair laid[DEPTH * PANEL] __attribute__((aligned(64)));
        float sums[CHUNK * PANEL] __attribute__((aligned(64)));
        Piece piece = {item % parts * part, 0, 0, together, item / parts * wide, 0, laid, sums};
        piece.count = least(part, io->rows - piece.from);
        long before = 0, there = of->inputs;
        for (; !way_back; before += there, piece.layer++) {
            there = of->layers[piece.layer].columns;
            if (piece.column < up_to(there, wide)) break;
            piece.column -= up_to(there, wide);
        }
        piece.columns = least(wide, there - piece.column) * together;
        multiply(of, way_back, io, &piece, before + piece.column);
        _mm_sfence(); /* what went past the caches is there for all */
    }
}

int multiplies_frozen(void) { return 1; }
#else
int multiplies_frozen(void) { return 0; } /* this processor, or this type of numbers, has no such products */
#endif
