/* What log-probabilities of words are of, as both types of numbers are told. */

#pragma once
#include "numbers.h"

/* States (rows) and words, `inputs` numbers each; a final soft cap (0: none) bends the logits. */
typedef struct {
    const num *x, *w;
    long stride, rows, inputs, words;
    float cap;
} Words;
