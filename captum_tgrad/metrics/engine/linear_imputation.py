"""Imputes missing pixels by weighted means of their neighbors, as in ROAD."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_tgrad.metrics.engine.multilevel import Multilevel


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
    # The sum of the weights of the neighbors of each pixel.
    degree = _neighbors(torch.ones_like(unknown[:1]))

    def equations(values: Tensor) -> Tensor:
        return (degree * values - _neighbors(values)) * unknown

    known = images.double() * (1 - unknown)
    right = _neighbors(known) * unknown
    # Starting from the mean of the known pixels saves iterations.
    start = known.sum((2, 3), keepdim=True) / (1 - unknown).sum((2, 3), keepdim=True)
    precision = torch.finfo(images.dtype).eps / 10
    solution = _conjugate_gradients(
        equations, Multilevel(unknown), right, start * unknown, precision
    )
    return torch.where(missing[:, None], solution.to(images.dtype), images)


def _neighbors(values: Tensor) -> Tensor:
    """The weighted sum of the eight neighbors of each pixel, with 0 beyond the border."""
    # 1 2 1    The rows and the columns one after the other, without the 4 in the middle.
    # 2   2
    # 1 2 1
    return (_one_two_one(_one_two_one(values, 2), 3) - 4 * values) / 12


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
