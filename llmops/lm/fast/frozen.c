/* Products with the frozen weights of some layers that read the same input, and with their adapters, in bfloat16:
   y = W x + s B A x of each layer, or back, dx = the sum of W' dy + A' s B' dy, where A x, or s B' dy, is there already
   (`adapt.c`). In a pack, whose layers find nothing in the cache, torch's own products ran at 60 to 85 % of what they
   have on warm squares (recipes/LOG.md).

   128 columns at a time, their weights laid out in pairs once for some rows, in the second cache; all that a number of y
   is the sum of is added in float32 and rounded once. What gates do follows at once: act(gate) * up of the sums of both,
   or, of the sums that are its gradient, those of gate and up. */

#include "gates.h"
#include "pairs.h"

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

/* All of them; `ranks` together, and A in pairs of ranks, [ranks / 2][inputs]. */
typedef struct {
    const Layer *layers;
    long count, inputs, outputs, ranks;
    const pair *up;
} Stack;

/* What is multiplied, what is between (rows x ranks), what the sum is added to (or null), and where it goes. Where `inner`
   is given, y is of gates and ups beside each other, and `inner` (rows x half as many) of act(gate) * up: the sums are
   both, or on the way back the gradient of `inner`, and y is turned into its own. */
typedef struct {
    const num *x, *between, *onto;
    num *y, *inner;
    long x_stride, onto_stride, y_stride, rows, gelu;
} Rows;

/* Some rows of a panel: its pairs, and its sums. */
typedef struct {
    long from, count, columns;
    pair *laid;
    float *sums;
} Piece;

/* Add what is read from `x` on, times `pairs` of the piece's columns, to its sums. The last tile repeats its last row. */
static void sum_in(const num *x, long stride, const pair *b, long width, long pairs, const Piece *piece, int add) {
    for (long row = 0; row < piece->count; row += TILE) {
        const pair *at[TILE];
        for (long r = 0; r < TILE; r++) at[r] = (const pair *)(x + (piece->from + least(row + r, piece->count - 1)) * stride);
        tile((Left){0, at, 0, 1}, b, width, pairs, piece->sums + row * PANEL, PANEL, piece->columns, add);
    }
}

/* Of `count` layers, the same columns of each beside each other. */
static void forward(const Stack *of, const Layer *layers, long count, long column, const Rows *io, const Piece *piece) {
    long each = piece->columns / count;
    for (long start = 0; start < of->inputs; start += 2 * DEPTH) {
        long pairs = least(2 * DEPTH, of->inputs - start) / 2;
        for (long n = 0; n < count; n++)
            lay_across(layers[n].w + column * of->inputs + start, of->inputs / 2, each, piece->laid + n * each, PANEL, pairs);
        sum_in(io->x + start, io->x_stride, piece->laid, PANEL, pairs, piece, start > 0);
    }
    for (const Layer *layer = layers; layer < layers + count; layer++) {
        Piece part = *piece;
        part.columns = each, part.sums += (layer - layers) * each;
        if (layer->ranks)
            sum_in(io->between + layer->first, of->ranks, layer->up + column, layer->columns, layer->ranks / 2, &part, 1);
    }
}

static void back(const Stack *of, long column, const Rows *io, const Piece *piece) {
    const num *dy = io->x;
    for (const Layer *layer = of->layers; layer < of->layers + of->count; layer++)
        for (long start = 0; start < layer->columns; start += 2 * DEPTH) {
            long depth = least(2 * DEPTH, layer->columns - start);
            pack_down(layer->w + start * of->inputs + column, of->inputs, depth, piece->laid, PANEL, piece->columns);
            sum_in(dy, io->x_stride, piece->laid, PANEL, depth / 2, piece, dy > io->x);
            dy += depth;
        }
    if (of->ranks) sum_in(io->between, of->ranks, of->up + column, of->inputs, of->ranks / 2, piece, 1);
}

/* The sums, rounded, to their columns of y. */
static void write_out(const Rows *io, const Piece *piece, long column) {
    for (long row = 0; row < piece->count; row++) {
        const float *from = piece->sums + row * PANEL;
        const num *onto = io->onto ? io->onto + (piece->from + row) * io->onto_stride + column : 0;
        num *to = io->y + (piece->from + row) * io->y_stride + column;
        for (long n = 0; n < piece->columns; n += LANE) {
            __m512 sum = _mm512_loadu_ps(from + n);
            if (onto) sum = _mm512_add_ps(sum, load(onto + n, LANE));
            store(to + n, sum, LANE);
        }
    }
}

/* The sums of gates and ups, and what is gated. */
static void write_gates(const Rows *io, const Piece *piece, long column) {
    long each = piece->columns / 2, half = io->y_stride / 2;
    for (long row = 0; row < piece->count; row++) {
        const float *from = piece->sums + row * PANEL;
        num *g = io->y + (piece->from + row) * io->y_stride + column, *to = io->inner + (piece->from + row) * half + column;
        for (long n = 0; n < each; n += LANE) {
            stripe gate = _mm512_loadu_ps(from + n), up = _mm512_loadu_ps(from + each + n);
            store(g + n, gate, LANE), store(g + half + n, up, LANE);
            store(to + n, gated(gate, up, io->gelu), LANE);
        }
    }
}

/* From the sums, which are the gradient of what is gated, those of gates and ups; and what is gated once more. */
static void write_gates_back(const Rows *io, const Piece *piece, long column) {
    long half = io->y_stride / 2;
    for (long row = 0; row < piece->count; row++) {
        num *g = io->y + (piece->from + row) * io->y_stride + column, *to = io->inner + (piece->from + row) * half + column;
        for (long n = 0; n < piece->columns; n += LANE) {
            stripe gate = load(g + n, LANE), up = load(g + half + n, LANE);
            store(to + n, gated_back(&gate, &up, _mm512_loadu_ps(piece->sums + row * PANEL + n), io->gelu), LANE);
            store(g + n, gate, LANE), store(g + half + n, up, LANE);
        }
    }
}

void frozen_product(const Stack *of, int way_back, const Rows *io) {
    long threads = omp_get_max_threads(), together = io->inner && !way_back ? 2 : 1, wide = PANEL / together, panels = 0;
    if (way_back) panels = (of->inputs + wide - 1) / wide;
    for (long n = 0; n < of->count && !way_back; n += together) panels += (of->layers[n].columns + wide - 1) / wide;
    long parts = (ITEMS * threads + panels - 1) / panels, least_parts = (io->rows + CHUNK - 1) / CHUNK;
    if (parts < least_parts) parts = least_parts;
    long part = up_to((io->rows + parts - 1) / parts, TILE);
    parts = (io->rows + part - 1) / part;
#pragma omp parallel for schedule(dynamic, 1)
    for (long item = 0; item < panels * parts; item++) {
        pair laid[DEPTH * PANEL] __attribute__((aligned(64)));
        float sums[CHUNK * PANEL] __attribute__((aligned(64)));
        Piece piece = {item % parts * part, 0, 0, laid, sums};
        piece.count = least(part, io->rows - piece.from);
        long column = item / parts * wide, before = 0;
        const Layer *layer = of->layers;
        if (way_back) {
            piece.columns = least(PANEL, of->inputs - column);
            back(of, column, io, &piece);
        } else {
            while (column >= up_to(layer->columns, wide)) column -= up_to(layer->columns, wide), before += layer++->columns;
            piece.columns = least(wide, layer->columns - column) * together;
            forward(of, layer, together, column, io, &piece);
        }
        if (!io->inner) write_out(io, &piece, before + column);
        else if (way_back) write_gates_back(io, &piece, column);
        else write_gates(io, &piece, column);
    }
}

int multiplies_frozen(void) { return 1; }
#else
int multiplies_frozen(void) { return 0; } /* this processor, or this type of numbers, has no such products */
#endif
