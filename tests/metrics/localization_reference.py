"""Slow, literal versions of the localization metrics; they share no code with the package."""

import numpy as np


def mask_of_boxes(boxes, height, width):
    """The pixels whose middle is in one of the boxes, one pixel at a time."""
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            for x0, y0, x1, y1 in boxes:
                if x0 <= column + 0.5 < x1 and y0 <= row + 0.5 < y1:
                    mask[row, column] = True
    return mask


def pointing_game(saliency, mask, tolerance):
    """TorchRay's rule for one map without ties: the disk around its peak meets the mask."""
    row, column = np.unravel_index(saliency.argmax(), saliency.shape)
    if mask[row, column]:  # in TorchRay, a tolerance of 0 lets nothing hit
        return 1.0
    for other_row, other_column in zip(*mask.nonzero(), strict=True):
        if (other_row - row) ** 2 + (other_column - column) ** 2 < tolerance**2:
            return 1.0
    return 0.0


def rank_accuracy(saliency, mask, k=None):
    """The share of the k highest places in the mask, for one map without ties."""
    highest = np.argsort(-saliency.flatten())[: mask.sum() if k is None else k]
    return mask.flatten()[highest].sum() / len(highest)


def share(saliency, mask):
    """The share of the sum of one map in the mask."""
    inside = total = 0.0
    for value, within in zip(saliency.flatten(), mask.flatten(), strict=True):
        total += value
        inside += value if within else 0.0
    return inside / total
