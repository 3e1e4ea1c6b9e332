/* The adapters of a group of projections, as `adapt.c` has them. */

#pragma once
#include "pairs.h"

#ifdef PAIRS
/* One layer's adapter: A (rank x inputs) and B (columns x rank), and the place of its columns among the outputs of the
   group and of its ranks, filled up, among all. */
typedef struct {
    const float *a, *b;
    float scale;
    long rank, column, columns, first, ranks;
} Part;

/* Of all layers; factors stand one part after the other. A's down is of all ranks together, and so is A's up. */
typedef struct {
    const Part *parts;
    long count, inputs, outputs, ranks;
    num *a_down, *a_up, *b_down, *b_up;
} Group;

void adapt(const Group *of, int back, const num *x, num *between, num *y, long rows);
#endif
