"""The short-time Fourier transform and its inverse, run as simpler operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.helpers import records, values_of


def _short_time_fourier(call: Call) -> Tensor:
    """``stft`` without its padding: the Fourier transform of each frame times the window."""
    x, size, step, length, window, normalized, onesided, as_complex, aligned = values_of(call)
    if aligned is not None or isinstance(onesided, str):  # the form that has a padding mode
        raise NoRuleError
    length = size if length is None else length
    if window is None and length != size:
        window = x.new_ones(length)
    frames = x.unfold(-1, size, size // 4 if step is None else step)
    if window is not None:
        before = (size - length) // 2
        frames = frames * F.pad(window, (before, size - length - before))
    if onesided is None:
        onesided = not frames.is_complex()
    transform = torch.fft.rfft if onesided else torch.fft.fft
    result = transform(frames, norm="ortho" if normalized else None).transpose(-2, -1)
    if as_complex is None:
        as_complex = frames.is_complex()
    return result if as_complex else torch.view_as_real(result)


def _inverse_short_time_fourier(call: Call) -> Tensor:
    """``istft``: the inverse transforms of all frames times the window, added up."""
    values = values_of(call)
    x, size, step, length, window, is_centered, normalized, _, until, as_complex = values
    if as_complex or x.dim() not in (2, 3):
        raise NoRuleError
    step, length = step or size // 4, length or size
    window = x.new_ones(length).real if window is None else window
    before = (size - length) // 2
    window = F.pad(window, (before, size - length - before))
    half = x[..., : size // 2 + 1, :]  # of a whole spectrum, torch reads only this part
    frames = torch.fft.irfft(half.mT, n=size, norm="ortho" if normalized else None) * window
    end, start = size + step * (x.shape[-1] - 1), size // 2 if is_centered else 0
    kept = slice(start, end - start if until is None else start + until)

    def added_up(frames: Tensor) -> Tensor:
        return F.fold(frames.mT, (1, end), (1, size), stride=(1, step))[..., 0, 0, kept]

    result = added_up(frames) / added_up((window * window).expand(x.shape[-1], size))
    return F.pad(result, (0, until - result.shape[-1])) if until else result


SHORT_TIME_FOURIER = records(
    "stft",
    "input, n_fft, hop_length=None, win_length=None, window=None, normalized=False, onesided=None, "
    "return_complex=None, align_to_window=None",
    parts=_short_time_fourier,
)["stft"]
"""The native ``stft``, which gets a padded signal."""

OPERATIONS: dict[str, Operation] = {
    **records(
        "istft",
        "input, n_fft, hop_length=None, win_length=None, window=None, center=True, "
        "normalized=False, onesided=None, length=None, return_complex=False",
        parts=_inverse_short_time_fourier,
    ),
}
