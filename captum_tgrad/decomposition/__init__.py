"""Decomposes ``f(x)`` into a sum of terms, one for the input and one for each bias.

In the forward pass, ``tracing`` handles every call of a torch function. For each call that depends
on the input, it records the bias ``b``, by the closed form in ``operations`` or by ``one_rule``,
and the ``places`` of the results. Operations that it cannot see are in ``hidden``.

In the backward pass, ``pending_terms`` gets the gradient ``g`` at the output of each operation.
``maps`` sums ``g * b`` by place, and combines the maps of all terms into one.
"""
