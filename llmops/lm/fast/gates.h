/* SwiGLU and GEGLU, a stripe at a time. Both activations are g times the logistic function of z: z = g (SiLU), or that of
   GELU with tanh. */

#pragma once
#include "numbers.h"

#define CUBIC 0.044715f
#define SLOPE 1.5957691216f /* 2 sqrt(2 / pi) */

static inline stripe bend(stripe g, int gelu) {
    if (gelu) g = SLOPE * (g + CUBIC * g * g * g);
    return g;
}

static inline stripe bend_slope(stripe g) { return SLOPE * (1.0f + 3.0f * CUBIC * g * g); }

/* act(gate) * up. */
static inline stripe gated(stripe gate, stripe up, int gelu) { return gate * logistic(bend(gate, gelu)) * up; }

/* The gradients of gate and up from `d`, that of act(gate) * up, over them; returns the latter. */
static inline stripe gated_back(stripe *gate, stripe *up, stripe d, int gelu) {
    stripe g = *gate, s = logistic(bend(g, gelu)), act = g * s, back = act * (1.0f - s), found = act * *up;
    if (gelu) back = back * bend_slope(g);
    *gate = d * *up * (s + back);
    *up = d * act;
    return found;
}
