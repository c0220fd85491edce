"""Imputes missing pixels by weighted means of their neighbors, as in ROAD."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_imputation(images: Tensor, missing: Tensor) -> Tensor:
    """Replaces pixels by the solution of the linear equations of Rong et al.

    Every missing pixel is the mean of its eight neighbors, missing or not, weighted 1/6 where they
    share a side and 1/12 at a corner; neighbors beyond the border do not count. The equations are
    symmetric and positive definite, and the method of conjugate gradients solves those of all
    images and channels at once, in float64, to the precision of the images' type.

    Args:
        images: ``(N, C, H, W)``, of a floating-point type.
        missing: Which pixels are replaced, ``(N, H, W)``, bool; not all of an image.
    """
    unknown = missing[:, None].double()
    # The sum of the weights around each pixel.
    degree = _around(torch.ones_like(unknown[:1]))

    def equations(values: Tensor) -> Tensor:
        return (degree * values - _around(values)) * unknown  # the pixel itself cancels

    known = images * (1 - unknown)
    right = _around(known) * unknown
    # Starting from the mean of the known pixels saves iterations.
    start = known.sum((2, 3), keepdim=True) / (1 - unknown).sum((2, 3), keepdim=True)
    precision = torch.finfo(images.dtype).eps / 10
    solution = _conjugate_gradients(
        equations, Multilevel(unknown), right, start * unknown, precision
    )
    return torch.where(missing[:, None], solution.to(images.dtype), images)


def _around(values: Tensor) -> Tensor:
    """The weighted sum of each pixel and its eight neighbors, with 0 beyond the border."""
    # 1 2 1    The rows and the columns one after the other. The equations are 12 times those of
    # 2 4 2    Rong et al.
    # 1 2 1
    return _one_two_one(_one_two_one(values, 2), 3)


def _one_two_one(values: Tensor, dimension: int) -> Tensor:
    count = values.shape[dimension] - 1
    found = 2 * values
    found.narrow(dimension, 1, count).add_(values.narrow(dimension, 0, count))
    found.narrow(dimension, 0, count).add_(values.narrow(dimension, 1, count))
    return found


def _conjugate_gradients(
    equations: Callable[[Tensor], Tensor],
    preconditioner: Callable[[Tensor], Tensor],
    right: Tensor,
    values: Tensor,
    precision: float,
) -> Tensor:
    """Solves ``equations(values) == right``, every image and channel by itself.

    Both maps of ``(N, C, H, W)`` are symmetric and positive definite; the closer the preconditioner
    is to the inverse, the fewer iterations. The residual becomes less than ``precision`` times
    ``right`` or the first residual, whichever is larger.
    """
    residual = right - equations(values)
    corrected = preconditioner(residual)
    direction, size = corrected, _inner(residual, corrected)
    # Where all known neighbors are 0, ``right`` is 0: no residual would be small enough.
    small = torch.maximum(_inner(right, preconditioner(right)), size) * precision**2
    for _ in range(right[0, 0].numel()):
        if bool((size <= small).all()):
            break
        image = equations(direction)
        # In a solved system, the divisor is 0.
        step = torch.where(size > small, size / _inner(direction, image), 0)
        values = values + step * direction
        residual = residual - step * image
        corrected = preconditioner(residual)
        before, size = size, _inner(residual, corrected)
        direction = corrected + torch.where(before > small, size / before, 0) * direction
    return values


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((2, 3), keepdim=True)


class Multilevel:
    """A preconditioner for equations between neighboring pixels, near their inverse.

    The method of conjugate gradients alone takes as many iterations as a hole is wide. With
    corrections of several resolutions added, it takes about 50 for any hole in an image of 224 x
    224. The map of residuals is symmetric and positive definite.

    Each resolution has every second row and column of the one before. A correction at one of its
    places is interpolated linearly between places; those that would reach a known pixel are left to
    the finer resolutions.

    Args:
        unknown: 1 where there is an equation and 0 elsewhere, ``(N, 1, H, W)``.

    Source: Bramble, Pasciak and Xu, "Parallel Multilevel Preconditioners", 1990.
    """

    def __init__(self, unknown: Tensor) -> None:
        self._used = [unknown]
        while bool(self._used[-1].any()) and min(self._used[-1].shape[2:]) > 2:
            known_nearby = F.max_pool2d(1 - self._used[-1], 3, stride=2, padding=1)
            self._used.append(1 - known_nearby)

    def __call__(self, residual: Tensor, level: int = 0) -> Tensor:
        """The corrections of all resolutions from this level on, ``(N, C, H, W)``."""
        corrected = residual * self._used[level]
        if level + 1 < len(self._used):
            coarse = self(_gathered(_gathered(residual, 2), 3), level + 1)
            height, width = residual.shape[2:]
            corrected = corrected + _spread(_spread(coarse, height, 2), width, 3)
        return corrected


def _spread(coarse: Tensor, size: int, dimension: int) -> Tensor:
    """From every second place to all: the mean of two neighbors between them."""
    first = coarse.transpose(0, dimension)
    following = torch.cat([first[1:], first[-1:]])
    found = first.new_empty(size, *first.shape[1:])
    found[::2] = first
    found[1::2] = ((first + following) / 2)[: size // 2]
    return found.transpose(0, dimension)


def _gathered(fine: Tensor, dimension: int) -> Tensor:
    """From all places to every second: the transposed map of ``_spread``."""
    first = fine.transpose(0, dimension)
    found, halves = first[::2].clone(), first[1::2] / 2
    found[: len(halves)] += halves
    found[1:] += halves[: len(found) - 1]
    if len(halves) == len(found):  # the last place is spread beyond its neighbors
        found[-1] += halves[-1]
    return found.transpose(0, dimension)
