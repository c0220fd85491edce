"""``f(x)`` as a sum of terms: the trace of a forward pass, the rule for a bias, the terms."""
