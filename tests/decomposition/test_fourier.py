"""Spectrograms inside of a network: ``stft`` has the map of the convolution that it equals."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, assert_same_maps, randn

torch.manual_seed(0)
FRAME, STEP = 16, 4
FIRST = nn.Conv1d(1, 1, 5, padding=2).double()
LAST = nn.Conv1d(FRAME // 2 + 1, 6, 3, padding=1).double()
HEAD = torch.randn(6, 3).double()
HANN = torch.hann_window(FRAME).double()
SIGNALS = torch.randn(2, 1, 64).double()
ANGLES = (
    torch.arange(FRAME // 2 + 1)[:, None] * torch.arange(FRAME).double() * (2 * math.pi / FRAME)
)


def _classified(transform, x):
    """Scores from the squares of the real and the imaginary parts, (N, frequencies, frames, 2)."""
    pairs = transform(F.relu(FIRST(x))[:, 0])
    return F.relu(LAST(pairs.square().sum(-1))).mean(2) @ HEAD


def _by_convolution(x, window=HANN, pad=FRAME // 2, scale=1.0):
    x = F.pad(x[:, None], (pad, pad), "reflect")
    parts = [
        F.conv1d(x, (wave * window * scale)[:, None], stride=STEP)
        for wave in (ANGLES.cos(), -ANGLES.sin())
    ]
    return torch.stack(parts, -1)


def _of_frames(x):
    frames = F.pad(x[:, None], (FRAME // 2,) * 2, "reflect")[:, 0].unfold(-1, FRAME, STEP)
    return torch.view_as_real(torch.fft.rfft(frames * HANN).transpose(1, 2))


def _stft(x, **options):
    return torch.view_as_real(torch.stft(x, FRAME, STEP, return_complex=True, **options))


def _native(x):
    padded = F.pad(x[:, None], (FRAME // 2,) * 2, "reflect")[:, 0]
    options = None, HANN, False, True, True
    return torch.view_as_real(torch.ops.aten.stft.default(padded, FRAME, STEP, *options))


SHORT = torch.hamming_window(10).double()
FORMS = {
    "frames": (_of_frames, {}),
    "stft": (lambda x: _stft(x, window=HANN), {}),
    "pairs": (lambda x: torch.stft(x, FRAME, STEP, window=HANN, return_complex=False), {}),
    "no window": (_stft, {"window": torch.ones(FRAME).double()}),
    "short window": (
        lambda x: _stft(x, window=SHORT, win_length=10),
        {"window": F.pad(SHORT, (3, 3))},
    ),
    "short frames": (
        lambda x: _stft(x, win_length=10),
        {"window": F.pad(torch.ones(10).double(), (3, 3))},
    ),
    "not centered": (lambda x: _stft(x, window=HANN, center=False), {"pad": 0}),
    "normalized": (lambda x: _stft(x, window=HANN, normalized=True), {"scale": FRAME**-0.5}),
    "two-sided": (lambda x: _stft(x, window=HANN, onesided=False)[:, : FRAME // 2 + 1], {}),
    "complex window": (
        lambda x: torch.view_as_real(torch.stft(x, FRAME, STEP, window=HANN + 0j))[
            :, : FRAME // 2 + 1
        ],
        {},
    ),
    "native": (_native, {}),
}


@pytest.mark.filterwarnings("ignore:stft with return_complex=False")
@pytest.mark.parametrize("name", FORMS)
def test_a_spectrogram_has_the_map_of_a_convolution(name):
    form, options = FORMS[name]
    transforms = form, lambda h: _by_convolution(h, **options)
    assert_same_maps(*(partial(_classified, each) for each in transforms), SIGNALS, 1)


def test_an_stft_that_pads_by_itself_is_not_taken_for_one_without_padding():
    def padded(x):
        own = {"center": True, "pad_mode": "reflect", "return_complex": True}
        pairs = torch.ops.aten.stft.center(x, FRAME, STEP, None, HANN, **own)
        return torch.view_as_real(pairs)

    with pytest.warns(UserWarning, match="loses the positions of its input: 'stft'"):
        whole = TGradAttribution(lambda x: _classified(padded, x)).decompose(SIGNALS[:1], target=1)
    torch.testing.assert_close(whole.output, _classified(padded, SIGNALS[:1])[:, 1].detach())
    assert_complete(whole)


def test_a_fourier_transform_of_patches_has_the_map_of_a_convolution():
    images, weight = torch.randn(2, 1, 12, 16).double(), torch.randn(3, 4).double()
    waves = torch.fft.rfft2(torch.eye(16).double().view(4, 4, 4, 4)).flatten(2)  # (4, 4, waves)
    kernels = torch.cat([waves.real, waves.imag], 2).permute(2, 0, 1)[:, None]

    def read(pairs):  # (N, rows, columns, 24)
        return (F.relu(pairs.square().mean(3) - 5) * weight).sum((1, 2))

    def transformed(x):
        spectrum = torch.fft.rfft2(x[:, 0].unfold(1, 4, 4).unfold(2, 4, 4)).flatten(3)
        return read(torch.cat([spectrum.real, spectrum.imag], 3))

    def convolved(x):
        return read(F.conv2d(x, kernels, stride=4).movedim(1, 3))

    found = assert_same_maps(transformed, convolved, images)
    assert float(found.map().std()) > 0.05


def test_a_fourier_transform_of_the_whole_image_loses_places():
    with pytest.warns(UserWarning, match="loses the positions"):
        TGradAttribution(lambda x: (torch.fft.rfft2(x).abs() + 1).flatten(1).sum(1)).attribute(
            torch.randn(2, 3, 12, 16)
        )


THERE_AND_BACK = [
    {"window": HANN},
    {"window": HANN, "length": 50},
    {"window": HANN, "length": 64, "normalized": True},
    {"window": HANN, "onesided": False},
    {"window": SHORT, "win_length": 10},
    {"window": torch.ones(FRAME).double(), "center": False},
]


def _there_and_back(h, length=None, **options):
    spectra = torch.stft(h, FRAME, STEP, return_complex=True, **options)
    return torch.istft(spectra, FRAME, STEP, length=length, **options)


def _read(signal):
    weight = torch.rand(80, generator=torch.Generator().manual_seed(0)).double()
    return (F.relu(signal + 0.3) * weight[: signal.shape[-1]]).sum(1)


@pytest.mark.parametrize("options", THERE_AND_BACK)
def test_a_spectrogram_there_and_back_has_the_map_of_the_signal(options):
    def transformed(x):
        return _read(_there_and_back(F.relu(FIRST(x))[:, 0] + 0.5, **options))

    def plain(x):
        return _read(F.relu(FIRST(x))[:, 0, : options.get("length")] + 0.5)

    assert_same_maps(transformed, plain, SIGNALS)


def test_of_a_whole_spectrum_istft_reads_one_half():
    def inverse(x):
        spectra = torch.view_as_complex(x.reshape(len(x), FRAME, -1, 2))
        return _read(torch.istft(spectra, FRAME, STEP, window=HANN, onesided=False))

    x = randn(2, FRAME * 8 * 2)
    torch.testing.assert_close(TGradAttribution(inverse).decompose(x).output, inverse(x))


@pytest.mark.filterwarnings("ignore:The length of signal is shorter")
def test_a_masked_spectrogram_keeps_frames_and_the_values_of_istft():
    def masked(x):
        h = F.relu(FIRST(x))[0, 0] + 0.5  # without a batch dimension
        spectra = torch.stft(h, FRAME, STEP, window=HANN, return_complex=True)
        spectra = spectra * torch.sigmoid(spectra.abs() - 1)
        return _read(torch.istft(spectra, FRAME, STEP, window=HANN, length=80)[None])

    whole = TGradAttribution(masked).decompose(SIGNALS[:1])
    torch.testing.assert_close(whole.output, masked(SIGNALS[:1]).detach())
    assert_complete(whole)
    (last,) = [term for term in whole.terms if term.name == "add#2"]
    assert float(last.placed) > 0.8  # not the zeros after the end of the signal
