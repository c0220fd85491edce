"""Decomposes ``f(x)`` into a sum of terms: traces the forward pass and finds each bias."""
