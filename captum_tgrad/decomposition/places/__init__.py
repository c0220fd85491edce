"""The places of a tensor: the sample and the position on the inputs of each element.

An axis is a dimension of an input, and a cell is an interval of an axis. A claim gives elements
cells on one axis. Places are the claims on all axes. Variables for them are named ``given``.
"""
