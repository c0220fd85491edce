"""Slow, literal versions of the metrics; they share no code with the package.

One sample, one point and one forward pass at a time, with numpy where the original has it.
"""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import conv2d


def rise_blur(size, sigma, channels=3):
    """The substrate of the RISE code: a dense kernel from scipy, applied with zeros outside."""
    delta = np.zeros((size, size))
    delta[size // 2, size // 2] = 1
    kernel = np.zeros((channels, channels, size, size))
    for channel in range(channels):
        kernel[channel, channel] = gaussian_filter(delta, sigma)
    weight = torch.from_numpy(kernel)
    return lambda image: conv2d(image, weight.to(image), padding=size // 2)


def rise_curve(model, image, saliency, mode, pixels_per_step, substrate, target=None):
    """The causal metric of the RISE paper on one image: the score at every step.

    Args:
        model: Returns probabilities.
        image: (1, C, H, W).
        saliency: (H, W), numpy.
        mode: "deletion" or "insertion".
        pixels_per_step: How many pixels change from one score to the next.
        substrate: From the image to what its pixels are replaced by.
        target: A class; None for the predicted one.
    """
    pixels = saliency.size
    channels = image.shape[1]
    with torch.no_grad():
        if target is None:
            target = int(model(image)[0].argmax())
        if mode == "deletion":
            current, finish = image.clone().numpy(), substrate(image).numpy()
        else:
            current, finish = substrate(image).numpy().copy(), image.numpy()
        order = np.argsort(-saliency.reshape(-1), kind="stable")
        scores = []
        for step in range((pixels + pixels_per_step - 1) // pixels_per_step + 1):
            scores.append(float(model(torch.from_numpy(current))[0, target]))
            chosen = order[pixels_per_step * step : pixels_per_step * (step + 1)]
            for channel in range(channels):
                current[0, channel].reshape(-1)[chosen] = finish[0, channel].reshape(-1)[chosen]
    return np.array(scores)


def rise_area(scores):
    """The area as the RISE code has it, for points at equal distances."""
    return (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def masked_by_rank(start, finish, importance, count):
    """One example with its ``count`` most important features from ``finish``, by a dense mask.

    Args:
        start: (C, *spatial).
        finish: Likewise.
        importance: (*spatial,), without ties.
        count: How many features are replaced.
    """
    flat = importance.flatten()
    rank = torch.tensor([int((flat > value).sum()) for value in flat])
    mask = (rank < count).reshape(importance.shape)
    return torch.where(mask, finish, start)
