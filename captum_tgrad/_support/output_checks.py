"""Checks of the output of ``forward_func``, and of the target that selects from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_NO_BASELINES = "If you passed baselines as the second argument, leave them out."
_WRAPPER = (
    "Wrap the model in a function that returns one number per sample and class, or per sample:"
    " for example lambda x: {example}."
)


def with_gradient(output: Any, samples: int) -> Tensor:
    """As ``with_batch``; also raises ValueError if the output has no gradient."""
    found = with_batch(output, samples)
    if not found.requires_grad:
        if not found.is_floating_point():
            raise ValueError(
                f"forward_func returned {found.dtype}, which has no gradient. Return logits"
                " instead of class indices or masks."
            )
        raise ValueError(
            "The output of forward_func has no gradient with respect to inputs: the model runs"
            " under torch.no_grad(), detaches, or does not use its inputs. Remove torch.no_grad()"
            " and detach() from the forward pass."
        )
    return found


def with_batch(output: Any, samples: int, or_else: str = "") -> Tensor:
    """The output, ``(N, ...)``; that of one sample may be a scalar, of a model that squeezes.

    Raises TypeError or ValueError for other outputs; ``or_else`` is further advice.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"forward_func must return a tensor, got {type(output).__name__}. "
            + _WRAPPER.format(example=logits_expression(output))
            + or_else
        )
    if output.is_complex():
        raise TypeError(
            f"forward_func must return real numbers, got {output.dtype}. "
            + _WRAPPER.format(example="model(x).abs()")
            + or_else
        )
    if output.dim() == 0 and samples == 1:
        return output.reshape(1)
    if output.dim() == 0:
        raise ValueError(
            "forward_func returned a scalar for the whole batch; it must return one number per"
            " sample, shape (N,) or (N, classes)."
        )
    if output.shape[0] != samples:
        raise ValueError(
            f"forward_func returned shape {tuple(output.shape)} for a batch of {samples}; its first"
            " dimension must be the batch. If inputs is a single sample, pass inputs.unsqueeze(0)."
            " If the model squeezes, pass lambda x: model(x).reshape(len(x), -1)."
        )
    return output


def logits_expression(output: Any) -> str:
    """The expression that gets the logits from an output that is not a tensor."""
    if isinstance(output, (tuple, list)):
        return "model(x)[0]"
    if isinstance(output, np.ndarray):
        return "torch.from_numpy(model(x))"
    by_key = isinstance(output, dict)
    fields = output if by_key else getattr(output, "__dict__", {})
    names = [name for name, value in fields.items() if by_key or isinstance(value, Tensor)]
    # An output of Hugging Face may have a loss or hidden states before its logits.
    name = names[0] if names and "logits" not in names else "logits"
    return f"model(x)[{name!r}]" if by_key else f"model(x).{name}"


def check_target(target: Any, output: Tensor) -> None:
    """Raises TypeError or ValueError unless ``target`` selects one number per sample."""
    samples, shape = output.shape[0], tuple(output.shape)
    if target is None:
        if output.numel() != samples:
            raise ValueError(
                f"target is missing: forward_func returned shape {shape}, several outputs per"
                " sample. " + _how_to_select(output)
            )
        return
    if output.dim() == 1:
        raise ValueError(
            f"target is {target!r}, but forward_func returned one number per sample, shape"
            f" {shape}. Pass target=None."
        )
    for indices in dict.fromkeys(targets_per_sample(target, samples)):
        _check_indices(indices, output)


def check_target_count(target: Any, samples: int) -> None:
    """Raises ValueError if there are several targets, but not one for each sample."""
    several = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1)
    if several and len(target) != samples:
        raise ValueError(
            f"target must hold one target per sample, got {len(target)} for {samples}; or pass an"
            " int for all samples."
        )


def targets_per_sample(target: Any, samples: int) -> list[tuple[int, ...]]:
    """The indices in ``target``, one tuple for each sample."""
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            hint = f"For class indices, pass target.long(). {_NO_BASELINES}"
            if _is_one_hot(target):
                hint = "For one-hot targets, pass target.argmax(1)."
            raise TypeError(f"target must hold integers, got dtype {target.dtype}. {hint}")
        if target.dtype not in (torch.int32, torch.int64):
            raise TypeError(
                f"target has dtype {target.dtype}, which torch cannot index with. Pass"
                " target.long()."
            )
        if target.dim() > 1 and target.numel() != 1:
            hint = "a list of tuples for several indices per sample"
            if target.shape == (samples, 1):
                hint = "target.squeeze(1)"
            elif _is_one_hot(target):
                hint += "; for one-hot targets, pass target.argmax(1)"
            raise ValueError(
                f"target has shape {tuple(target.shape)}; pass a one-dimensional tensor, or {hint}."
            )
        target = target.flatten().tolist()
        target = target[0] if len(target) == 1 else target
    check_target_count(target, samples)
    per_sample = target if isinstance(target, list) else [target]
    indices = [entry if isinstance(entry, tuple) else (entry,) for entry in per_sample]
    for entry in indices:
        if not all(isinstance(index, int) and not isinstance(index, bool) for index in entry):
            raise TypeError(
                f"target must be an int, a tuple of ints, or a list or tensor with one of them per"
                f" sample; got {target!r}.{_target_hint(target)}"
            )
    return indices if isinstance(target, list) else indices * samples


def _is_one_hot(target: Tensor) -> bool:
    return target.dim() == 2 and set(target.flatten().tolist()) == {0, 1}


def selectable(target: Any) -> Any:
    """A valid ``target``, in a form in which Captum selects negative indices.

    For an int or tuples, Captum indexes. For a list or a tensor of ints, it calls ``torch.gather``,
    which takes no negative index.
    """
    if isinstance(target, Tensor) and target.numel() == 1:
        return target.item()
    entries = target.tolist() if isinstance(target, Tensor) else target
    if isinstance(entries, list) and any(isinstance(each, int) and each < 0 for each in entries):
        return [(each,) if isinstance(each, int) else each for each in entries]
    return target


def _target_hint(target: Any) -> str:
    """What to pass instead of a baseline, a class name, or NumPy's integers."""
    if isinstance(target, float):
        return f" {_NO_BASELINES}"
    if isinstance(target, str):
        return " For a class name, pass its index."
    try:
        dtype = np.asarray(target).dtype
    except ValueError:  # tuples of different lengths
        return ""
    if dtype.kind not in "iu":
        return ""
    if isinstance(target, tuple):
        return " Convert it with tuple(map(int, target))."
    number = isinstance(target, np.integer)
    return f" Convert it with {'int(target)' if number else 'torch.as_tensor(target)'}."


def _check_indices(indices: tuple[int, ...], output: Tensor) -> None:
    shape = tuple(output.shape)
    if len(indices) != output.dim() - 1:
        count = "1 index" if len(indices) == 1 else f"{len(indices)} indices"
        raise ValueError(
            f"target {indices[0] if len(indices) == 1 else indices} has {count}, but forward_func"
            f" returned shape {shape}. " + _how_to_select(output)
        )
    for index, size in zip(indices, shape[1:], strict=True):
        if not -size <= index < size:
            valid = "0 or None" if shape[1:] == (1,) else f"from 0 to {size - 1}"
            raise ValueError(
                f"target {index} is out of range: forward_func returned shape {shape}, so it must"
                f" be {valid}."
            )


def _how_to_select(output: Tensor) -> str:
    if output.dim() == 2:
        last = output.shape[1] - 1
        return f"Pass target=, a class from 0 to {last}, or a list with one for each sample."
    if output.dim() == 4:
        return (
            "Pass target=(class, row, column), or sum the score over the region of interest: for"
            " example lambda x: (model(x) * mask).sum((2, 3)), with target=class."
        )
    return (
        f"Pass a tuple of {output.dim() - 1} indices as target, or reduce the output: for example"
        " lambda x: model(x).flatten(2).mean(2)."
    )
