"""The fast decoder: the blocks of Llama and Gemma 3 by hand, forward and backward, for frozen weights on a CPU."""
