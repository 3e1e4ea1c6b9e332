/* How the tokens of a pack look at each other, as both passes of attention are told. */

#pragma once
#include "numbers.h"

/* q, k and v of all heads in a row of the pack; of block b, `starts` says where its
   places begin in `places`, and `counts` how many of the last are queries. */
typedef struct {
    const num *qkv;
    const int64_t *places, *starts, *counts;
    const float *cos, *sin;
    float scale;
    long window, blocks, heads, groups, size;
    char *scratch;
    long scratch_bytes;
} Look;
