"""Adapts cells for operations that work on a whole grid, as a convolution does.

Elements of ``x[::2]`` or of a crop keep the cells of their pixels, and copies of an element keep
its cell, so that later operations can join parts or take them apart. Before a convolution, strided
elements get wider cells, adjacent copies get parts of their cell, and constants around a crop get
the cells of the pixels that they replace.
"""

from __future__ import annotations

from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.gaps import gaps_filled
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.sums import windows_of_sum


def on_whole_grid(places: Places) -> Places:
    """The places of a tensor for an operation that works on its whole grid."""
    return gaps_filled(with_copies_refined(windows_joined(places)))


def windows_joined(places: Places) -> Places:
    """Merges three or more coordinates at equal distances into windows.

    The sum of an image and its shifted copies then has the places of a dilated convolution.
    """
    if all(len(coordinates) < 3 for coordinates in places.coordinates.values()):
        return places
    joined = [
        (axis, coords)
        for axis, coordinates in places.coordinates.items()
        for coords in _joined_in_windows(coordinates, axis)
    ]
    return make_places(places.shape, joined)


def _joined_in_windows(coordinates: tuple[Coordinates, ...], axis: Axis) -> tuple[Coordinates, ...]:
    if (
        len(coordinates) < 3
        or not axis.is_spatial
        or len({coords.dims for coords in coordinates}) > 1
    ):
        return coordinates
    windows = windows_of_sum(coordinates, axis)
    return coordinates if windows is None else (windows,)
