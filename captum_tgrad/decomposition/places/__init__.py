"""The places of a tensor: the sample and the position on the inputs of each element.

An axis is a dimension of an input, and a cell is an interval of an axis. Coordinates give each
element a cell on one axis. Places are the coordinates on all axes; an element may have several on
one axis.

Where to start reading:

- ``coordinates``, ``merging`` and ``places`` define these; ``origin`` stores the places of a tensor
  on the tensor.
- ``propagation`` computes the places of the results of a call. Most operations have a rule, in
  ``rules``: ``elementwise`` combines coordinates, ``moving``, ``padding`` and ``indexing`` run the
  operation on cell numbers (``movement``), ``grids`` computes a new grid, and ``mixing`` finds
  cells for sums. ``test_runs`` handles operations without a rule.
- ``reduction`` sums a tensor into the cells of a map, and ``enlarging`` interpolates maps.

The position of an element is often ambiguous. These distinctions are made late, by the operation
that needs them:

- A constant among other elements, such as padding, has no cell. Before the next operation that is
  not a move, it gets the cell of the pixel that it replaces (``gaps``). ``masks`` then tells
  sums that it is a constant.
- Every n-th element may be a crop or a coarser grid. Grid operations make its cells wider
  (``subsampling``).
- Adjacent copies of an element share its cell or divide it (``copies``).
- A sum of several elements has coordinates for each of them if they are few, else the smallest cell
  that holds them (``sums_along_dims``, ``sums_by_index``, ``windows``).
- Neighbors that are added to an element, as in a graph, do not change its position
  (``graph_nodes``).
"""
