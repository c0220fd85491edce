"""The grid pointing game: localization of a class in a grid of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_count, check_number
from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.input_checks import broken_samples
from captum_tgrad._support.random_state import own_randomness
from captum_tgrad.metrics.engine import checks
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.findings import Findings
from captum_tgrad.metrics.engine.image_grids import confident_images, layouts, tiled
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode, importance_maps
from captum_tgrad.metrics.engine.metric import by_name, protocol_of
from captum_tgrad.metrics.mass_in_mask import share_in_mask
from captum_tgrad.metrics.results import GridPointingGameResult


def grid_pointing_game(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    methods: Any | Mapping[str, Any],
    target: TargetType = None,
    grid: int = 3,
    n_grids: int | None = None,
    max_examples_per_batch: int = 8,
    *,
    confidence: float = 0.99,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
    seed: int = 0,
) -> GridPointingGameResult | dict[str, GridPointingGameResult]:
    """The share of each map in the grid cell that shows its class.

    Confidently classified images of different classes form a grid of ``grid`` by ``grid`` cells,
    and the class of every cell is explained in turn. The result is
    ``sum of m in the cell / sum of m``, where ``m`` is the positive part of the map. A map without
    positive values scores 0, as in sukrutrao/Attribution-Evaluation, where each image is also in at
    most one grid. The metric needs no boxes, but the model must accept images ``grid`` times as
    large.

    Source: Böhle, Fritz and Schiele, "Convolutional Dynamic Alignment Networks for Interpretable
    Classifications", 2021; Rao, Böhle and Schiele, "Towards Better Understanding Attribution
    Methods", 2022. The code of the latter requires a confidence of 0.99.

    Args:
        forward_func: The model, from images ``(N, C, H, W)`` to logits or probabilities,
            ``(N, classes)``. It selects the confidently classified images.
        inputs: The images to choose from, ``(N, C, H, W)``.
        methods: A Captum attribution, or a function from images and targets, ``(N, C, H, W)`` and
            ``(N,)``, to attributions. A dict of these, by name, measures all methods on the same
            grids.
        target: The class of each image, or one class for all. Images with another predicted class
            are excluded. None: the predicted class.
        grid: The number of images in a row, and of rows.
        n_grids: The number of grids. Images are reused if needed, the least used first. None: as
            many grids as possible without reusing an image.
        max_examples_per_batch: The maximum number of images in one call of the model or a method.
        confidence: The minimum probability, 0 to 1, of a confidently classified image.
        channel_reduce: As for ``pointing_game``.
        interpolate_mode: As for ``pointing_game``.
        nan_policy: How to treat NaN and inf in a map: ``"raise"``, or ``"omit"``: its cell is NaN
            and is excluded from the mean of the grid.
        seed: The seed for the choice of images and for methods that use random numbers. The global
            random state is not changed.

    Returns:
        The shares and the contents of the grids; for a dict of methods, a dict of results.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Too few images or classes are classified confidently; a shape, a number or a
            name is invalid; or there is NaN or inf.

    Example:
        >>> import torch
        >>> from captum.attr import InputXGradient
        >>> def model(images):  # one logit for each channel
        ...     return images.sum((2, 3))
        >>> images = torch.eye(4).reshape(4, 4, 1, 1).expand(-1, -1, 6, 6)
        >>> result = grid_pointing_game(model, images, InputXGradient(model), grid=2)
        >>> result.grid_pointing_game, result.chance
        (tensor([1.]), tensor([0.2500]))
    """
    images, *others = checks.check_model_and_inputs(forward_func, inputs, nan_policy)
    if others:
        raise ValueError(f"inputs must be one tensor of images, got a tuple of {len(others) + 1}.")
    grid = check_count(grid, "grid")
    if n_grids is not None:
        check_count(n_grids, "n_grids")
    check_count(max_examples_per_batch, "max_examples_per_batch")
    if images.dim() != 4:
        raise ValueError(f"inputs must be images (N, C, H, W), got shape {tuple(images.shape)}.")
    seed = check_count(seed, "seed", least=0)
    confidence = check_number(confidence, "confidence")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be a probability from 0 to 1, got {confidence}.")
    named = checks.methods_of(methods, "methods")
    _check_methods(named)
    findings = Findings()
    findings.training(forward_func)
    classes, sure = confident_images(
        forward_func, images, target, confidence, max_examples_per_batch
    )
    own_cell = _own_cell(images, grid)
    chosen = layouts(classes, sure, grid**2, n_grids, seed)
    entries = {
        "grid": grid,
        "n_grids": len(chosen),
        "confidence": confidence,
        "target": "predicted" if target is None else "given",
        "channel_reduce": channel_reduce,
        "interpolate_mode": interpolate_mode,
        "nan_policy": nan_policy,
        "seed": seed,
    }
    results = []
    for name, method in named.items():
        how = (channel_reduce, interpolate_mode, f"the result of {name}")
        shares = []
        with own_randomness(seed, images.device):
            for each in chosen:
                image = tiled(images[each], grid)
                maps = _maps(image, classes[each], method, max_examples_per_batch, *how)
                share = share_in_mask(maps.clamp_min(0), own_cell)
                shares.append(share.masked_fill(broken_samples(maps), torch.nan))
        cells = torch.stack(shares)
        holds_nan = f"the result of {name} holds NaN or inf in a cell of grid"
        checks.check_omitted(cells.isnan().any(1), nan_policy, holds_nan, which="cells")
        mean, chance = cells.nanmean(1), cells.new_full((len(cells),), 1 / grid**2)
        protocol = protocol_of("grid_pointing_game", entries)
        results.append(
            GridPointingGameResult(mean, chance, cells, chosen, classes[chosen], protocol)
        )
    findings.warn()
    return by_name(methods, results)


def _check_methods(methods: Mapping[str, Any]) -> None:
    for name, method in methods.items():
        if isinstance(method, type):
            raise TypeError(f"{name} is a class: construct it, as in {method.__name__}(model).")
        if not callable(getattr(method, "attribute", method)):
            raise TypeError(
                f"{name} must be a Captum attribution, or a function from images and targets to"
                f" attributions, got {type(method).__name__}."
            )


def _maps(image: Tensor, classes: Tensor, method: Any, chunk: int, *how: Any) -> Tensor:
    """The map of each class for a grid, ``(1, C, H, W)``: ``(classes, H, W)``."""
    maps: list[Any] = []
    for targets in torch.split(classes, chunk):
        images = image.repeat(len(targets), 1, 1, 1)  # its own: a method may write into it
        if hasattr(method, "attribute"):
            attributions = method.attribute(images, target=targets)
        else:
            attributions = method(images, targets)
        maps += importance_maps(attributions, (image.expand(len(targets), -1, -1, -1),), *how)
    return torch.cat(maps)


def _own_cell(images: Tensor, grid: int) -> Tensor:
    """The pixels of each cell of a grid of images, ``(cells, H, W)``, bool."""
    cells = torch.eye(grid**2, dtype=torch.bool, device=images.device).reshape(-1, grid, grid)
    height, width = images.shape[2:]
    return cells.repeat_interleave(height, 1).repeat_interleave(width, 2)
