"""The places of a tensor: the sample and the position on the inputs of each element.

An axis is a dimension of an input, and a cell is an interval of an axis. Coordinates give each
element a cell on one axis. Places are the coordinates on all axes; an element may have several on
one axis.

Where to start reading:

- ``coordinates`` and ``places`` define these. ``merging`` merges coordinates of one element that
  agree. ``origin`` stores the places of a tensor on the tensor.
- ``propagation`` computes the places of the results of a call. Most operations have a rule, in
  ``rules``: ``elementwise`` combines coordinates; ``moving``, ``padding`` and ``indexing`` run the
  operation on cell numbers (``movement``); ``mixing`` finds the cells of ``sums``, most of which it
  writes as an einsum equation (``contraction``); ``grids`` computes a new grid (``regridding``).
  ``trial_runs`` handles operations without a rule.

The position of an element is often ambiguous. These distinctions are made late, by the operation
that needs them, and have a module each:

- ``gaps``: a constant among other elements, such as padding, has no cell. Before the next operation
  that is not a move, it gets the cell of the pixel that it replaces. ``masks`` then tells sums that
  it is a constant.
- ``subsampling``: every n-th element may be a crop or a coarser grid. Operations on a grid, such as
  convolutions, make its cells wider.
- ``copies``: adjacent copies of an element share its cell or divide it.
- ``sums``: a sum of several elements has coordinates for each of them if they are few, else the
  smallest cell that holds them (``spans``). ``windows`` replaces overlapping cells, as of a
  convolution that is written as a sum, by adjacent ones.
- ``graph_nodes``: neighbors that are added to an element, as in a graph, do not change its
  position.

``whole_grid`` applies them to a tensor of which the whole grid is needed, as for a map.
"""
