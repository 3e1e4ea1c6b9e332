"""Is a language model needed, and is B better than A? Cheap rows, paired comparisons, the pick."""
