"""Adapts cells for operations that work on a whole grid, as a convolution does.

Elements of ``x[::2]`` or of a crop keep the cells of their pixels, and copies of an element keep
its cell, so that later operations can join parts or take them apart. Before a convolution, strided
elements get wider cells, adjacent copies get parts of their cell, and constants around a crop get
the cells of the pixels that they replace.
"""

from __future__ import annotations

from functools import lru_cache

from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.gaps import gaps_filled
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.sums import windows_of_sum
from captum_tgrad.decomposition.places.windows import narrowed


def on_whole_grid(places: Places) -> Places:
    """The places of a tensor for an operation that works on its whole grid."""
    return gaps_filled(with_copies_refined(windows_joined(places)))


@lru_cache(maxsize=64)  # the tensors of a dense block are joined again and again
def windows_joined(places: Places) -> Places:
    """Replaces windows by adjacent cells, and three or more coordinates at equal distances as well.

    The sum of an image and its shifted copies then has the places of a convolution.
    """
    joined = {
        axis: _joined_in_windows(own, axis) if axis.is_spatial else own
        for axis, own in places.coordinates.items()
    }
    if joined == places.coordinates:
        return places
    pairs = [(axis, c) for axis, own in joined.items() for c in own]
    return make_places(places.shape, pairs)


def _joined_in_windows(coordinates: tuple[Coordinates, ...], axis: Axis) -> tuple[Coordinates, ...]:
    if len(coordinates) == 1:
        return (narrowed(coordinates[0], axis),)
    if len(coordinates) < 3 or len({coords.dims for coords in coordinates}) > 1:
        return coordinates
    windows = windows_of_sum(coordinates, axis)
    if windows is None:
        return coordinates
    # A window that covers the whole axis has no cell, but its elements have.
    are_lost = [bool((windows.index < own.index.sign()).any()) for own in coordinates]
    return coordinates if any(are_lost) else (windows,)


def windows_kept(whole: Places, joined: Places) -> Places:
    """The places of several tensors in one, with their windows if these can still be joined.

    ``joined`` are the places if the windows of each tensor were joined before. The parts of one
    image have windows that continue each other. Those beside the pixels themselves do not.
    """
    return joined if windows_joined(whole) is whole else whole
