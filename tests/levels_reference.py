"""The slow, literal map by levels that the tests measure that of the package against.

It starts from the literal terms of ``tests.reference`` and shares no code with the package: one
sample, one term and one place at a time, in float64.
"""

import math

import torch
from torch import Tensor

from tests.reference import Decomposition, phi, tgrad_attribution


def levels_attribution(
    decomposition: Decomposition, sign: str = "positive", input_index: int = 0
) -> Tensor:
    """The attribution of one input; the channels share the map equally."""
    if sign == "all":
        positive = levels_attribution(decomposition, "positive", input_index)
        return positive - levels_attribution(decomposition, "negative", input_index)
    values = decomposition.inputs[input_index].values
    spatial = values.shape[2:]
    if len(spatial) == 0:
        return tgrad_attribution(decomposition, sign, input_index)
    attribution = torch.zeros_like(values)
    for sample in range(len(values)):
        level_map = _of_sample(decomposition, sample, sign, input_index, spatial)
        for channel in range(values.shape[1]):
            attribution[sample, channel] = level_map / values.shape[1]
    return attribution


def _of_sample(
    decomposition: Decomposition, sample: int, sign: str, input_index: int, spatial: torch.Size
) -> Tensor:
    """Shape ``spatial``."""
    signed = 1 if sign == "positive" else -1
    terms = [term for term in decomposition.terms if term.reaches[input_index]]
    all_evidence = sum(float(term.samples[sample].abs().sum()) for term in terms)
    total = 0.0
    levels: dict[int, Tensor] = {}
    for term in terms:
        values = signed * term.samples[sample]
        score = float(values.sum())
        if score <= 0:
            continue
        total += score / sum(term.reaches)
        evidence = float(values.abs().sum())
        cells = term.at_places(values)
        placed = cells.dim() - 1 == len(spatial) and cells.numel() > 1
        placed = placed and not term.is_beside_the_image(values)
        if not placed or evidence <= 1e-12 * all_evidence:
            continue
        purity = score / evidence
        weighted = purity * phi(cells.clamp(min=0)[None], spatial)[0, 0]
        octave = _octave(spatial, cells.shape[1:])
        levels[octave] = levels.get(octave, torch.zeros(spatial, dtype=cells.dtype)) + weighted
    # What has canceled to rounding is none.
    levels = {octave: level for octave, level in levels.items() if level.sum() > 2**8 * 2.3e-16}
    if not levels:
        return torch.full(spatial, total / math.prod(spatial), dtype=torch.float64)
    scaled = {octave: level / level.sum() for octave, level in levels.items()}
    combined = sum(scaled.values())
    if len(scaled) > 1:
        combined = combined * scaled[max(scaled)] ** 0.75
    return total * combined / combined.sum()


def _octave(spatial: torch.Size, cells: torch.Size) -> int:
    """The power of two that the side of a cell is next to, the smaller one in the middle."""
    ratio = math.prod(spatial) / math.prod(cells)  # the side to the power of the dimensions
    octave = -20
    while ratio > 2 ** (len(spatial) * (octave + 0.5)) * (1 + 1e-9):
        octave += 1
    return octave
