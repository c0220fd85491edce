"""Filters in the frequency domain have the map of the convolution that they equal."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_as_alone, assert_complete, assert_same_maps

torch.manual_seed(0)
H, W, LENGTH = 12, 16, 24
FIRST = nn.Conv2d(3, 4, 3, padding=1).double()
IMAGES = torch.randn(2, 3, H, W).double()
KERNEL = torch.randn(4, 1, 3, 3).double()
OFFSET, WEIGHT = torch.randn(4, 1, 1).double(), torch.randn(4, H, W).double()
SIGNALS, LINE_WEIGHT = torch.randn(3, 2, LENGTH).double(), torch.randn(4, LENGTH).double().abs()
FIRST_OF_LINE = nn.Conv1d(2, 4, 3, padding=1).double()


def _on_images(function):
    return lambda x: (F.relu(function(F.relu(FIRST(x))) + OFFSET) * WEIGHT).sum((1, 2, 3))


def _on_crop(function):
    """Of an odd size, which has no middle frequency."""
    return _on_images(lambda h: F.pad(function(h[..., :11, :13]), (0, 3, 0, 1)))


def _on_lines(function):
    def forward(x):
        h = function(F.relu(FIRST_OF_LINE(x)))[..., :LENGTH]
        return (F.relu(h + OFFSET[:, 0]) * LINE_WEIGHT[:, : h.shape[-1]]).sum((1, 2))

    return forward


def _check_equal(form, plain, x):
    found = assert_same_maps(form, plain, x, atol=1e-12)
    assert float(found.map().std()) > 0
    assert_as_alone(form, x)


def _around_zero(kernel, size):
    """The taps of a convolution as a filter, whose middle is at 0."""
    taps = kernel[:, 0].flip(1, 2)
    taps = F.pad(taps, (0, size[1] - taps.shape[2], 0, size[0] - taps.shape[1]))
    return taps.roll([-(side // 2) for side in kernel.shape[2:]], (1, 2))


TAPS = _around_zero(KERNEL, (H, W))
HALF, FULL = torch.fft.rfft2(TAPS), torch.fft.fft2(TAPS)


def _circular(h):
    return F.conv2d(F.pad(h, (1, 1, 1, 1), mode="circular"), KERNEL, groups=4)


def _channels_last(h):
    spectrum = torch.fft.rfft2(h.permute(0, 2, 3, 1), dim=(1, 2), norm="ortho")
    spectrum = spectrum * HALF.permute(1, 2, 0)
    return torch.fft.irfft2(spectrum, (H, W), (1, 2), "ortho").permute(0, 3, 1, 2)


def _channels_moved(h):
    spectrum = torch.fft.rfft2(h.permute(0, 2, 3, 1), dim=(1, 2)).permute(0, 3, 1, 2)
    return torch.fft.irfft2(spectrum * HALF)


def _one_by_one(h):
    spectrum = torch.fft.fft(torch.fft.rfft(h), dim=2) * HALF
    return torch.fft.irfft(torch.fft.ifft(spectrum, dim=2))


def _shifted_spectrum(h):
    filtered = torch.fft.fftshift(torch.fft.fft2(h)) * torch.fft.fftshift(FULL)
    return torch.fft.ifft2(torch.fft.ifftshift(filtered)).real


def _real_arithmetic(h):
    real, imaginary = torch.view_as_real(torch.fft.rfft2(h)).unbind(-1)
    products = real * HALF.real - imaginary * HALF.imag, real * HALF.imag + imaginary * HALF.real
    return torch.fft.irfft2(torch.view_as_complex(torch.stack(products, -1)))


def _mixed_channels(h):
    return torch.fft.irfft2(torch.einsum("nchw,chw,cd->ndhw", torch.fft.rfft2(h), HALF, EYE))


def _by_heads(h):
    spectrum = torch.einsum("nchw,kchw->nkchw", torch.fft.rfft2(h[:, :, 1:]), HEADS)
    return F.pad(torch.fft.irfft2(spectrum, (H - 1, W)).sum(1), (0, 0, 1, 0))


def _by_heads_of_convolutions(h):
    h = F.pad(h[:, :, 1:], (1, 1, 1, 1), mode="circular")
    return F.pad(F.conv2d(h, KERNEL, groups=4), (0, 0, 1, 0))


def _in_place(h):
    spectrum = torch.fft.rfft2(h)
    spectrum *= HALF
    return torch.fft.irfft2(spectrum)


def _checkpointed(h):
    return checkpoint(lambda h: torch.fft.irfft2(torch.fft.rfft2(h) * HALF), h, use_reentrant=False)


HEADS = torch.fft.rfft2(_around_zero(KERNEL, (H - 1, W)))
HEADS = torch.stack([HEADS * share for share in (0.25, 0.75)])
EYE = torch.eye(4).to(torch.complex128)
FORMS = [
    lambda h: torch.fft.irfft2(torch.fft.rfft2(h) * HALF),
    lambda h: torch.fft.irfftn(torch.fft.rfftn(h, dim=(2, 3)) * HALF, dim=(2, 3)),
    _channels_last, _channels_moved, _one_by_one, _shifted_spectrum, _real_arithmetic,
    _mixed_channels, _in_place, _checkpointed,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_filter_has_the_map_of_a_circular_convolution(form):
    _check_equal(_on_images(form), _on_images(_circular), IMAGES)


def test_a_filter_in_single_precision_keeps_places_in_a_network_in_double_precision():
    def form(h):
        return torch.fft.irfft2(torch.fft.rfft2(h).cfloat() * HALF.cfloat())

    found, expected = (
        TGradAttribution(_on_images(each)).attribute(IMAGES) for each in (form, _circular)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_sum_of_channels_of_the_spectrum_has_the_map_of_a_convolution():
    def form(h):
        return torch.fft.irfft2((torch.fft.rfft2(h) * HALF).sum(1)).unsqueeze(1)

    def plain(h):
        return F.conv2d(F.pad(h, (1, 1, 1, 1), mode="circular"), KERNEL.transpose(0, 1))

    _check_equal(_on_images(form), _on_images(plain), IMAGES)


def test_filters_of_a_crop_by_heads_have_the_map_of_a_convolution():
    _check_equal(_on_images(_by_heads), _on_images(_by_heads_of_convolutions), IMAGES)


@pytest.mark.parametrize(
    "before",
    [
        lambda h: h + h.flip(3),
        lambda h: F.max_pool2d(h, 2).repeat_interleave(2, 2).repeat_interleave(2, 3),
        lambda h: h.roll(3, 2),
        lambda h: h * (torch.arange(W) < 11).double(),
    ],
)
def test_a_filter_of_moved_elements_has_the_map_of_a_circular_convolution(before):
    forms = (_on_images(lambda h, form=form: form(before(h))) for form in (FORMS[0], _circular))
    _check_equal(*forms, IMAGES)


@pytest.mark.parametrize("size", [3, 4, 15, LENGTH - 1, LENGTH])
@pytest.mark.parametrize("padded", [2 * LENGTH - 1, 2 * LENGTH, 64])
def test_a_long_convolution_has_the_map_of_a_causal_convolution(size, padded):
    kernel = torch.randn(4, size, generator=torch.Generator().manual_seed(size)).double()

    def by_filter(h):
        spectrum = torch.fft.rfft(h, n=padded) * torch.fft.rfft(kernel, n=padded)
        return torch.fft.irfft(spectrum, n=padded)

    def causal(h):
        return F.conv1d(F.pad(h, (size - 1, 0)), kernel.flip(1)[:, None], groups=4)

    _check_equal(_on_lines(by_filter), _on_lines(causal), SIGNALS)


def test_a_phase_moves_elements():
    wave = torch.exp(-2j * math.pi * 5 * torch.arange(LENGTH // 2 + 1).double() / LENGTH)
    forms = (lambda h: torch.fft.irfft(torch.fft.rfft(h) * wave), lambda h: h.roll(5, 2))
    _check_equal(*map(_on_lines, forms), SIGNALS)


def test_a_learned_filter_has_the_map_of_a_convolution_as_large_as_the_image():
    weight = torch.view_as_complex(torch.randn(4, 11, 7, 2).double())
    kernel = torch.fft.irfft2(weight, (11, 13)).roll((5, 6), (1, 2)).flip(1, 2)[:, None]

    def filtered(h):
        return torch.fft.irfft2(torch.fft.rfft2(h) * weight, (11, 13))

    def convolved(h):
        return F.conv2d(F.pad(h, (6, 6, 5, 5), mode="circular"), kernel, groups=4)

    _check_equal(_on_crop(filtered), _on_crop(convolved), IMAGES)


def _low_frequencies(h, size):
    """A layer of a Fourier neural operator, with its result at another resolution."""
    spectrum, (rows, columns) = torch.fft.rfft2(h, norm="forward"), size
    result = spectrum.new_zeros(len(h), 4, rows, columns // 2 + 1)
    for part in (slice(0, 3), slice(-3, None)):
        low = spectrum[..., part, :3]
        result[..., part, :3] = torch.einsum("nchw,cdhw->ndhw", low, MODES[..., part, :])
    return torch.fft.irfft2(result, size, norm="forward")


MODES = torch.view_as_complex(torch.randn(4, 4, 6, 3, 2).double())


def test_low_frequencies_have_the_map_of_a_dense_convolution():
    impulse = torch.zeros(4, 4, 11, 13).double()
    impulse[..., 0, 0] = torch.eye(4)
    kernel = _low_frequencies(impulse, (11, 13)).roll((5, 6), (2, 3)).flip(2, 3).transpose(0, 1)
    _check_equal(
        _on_crop(lambda h: _low_frequencies(h, (11, 13))),
        _on_crop(lambda h: F.conv2d(F.pad(h, (6, 6, 5, 5), mode="circular"), kernel)),
        IMAGES,
    )


def test_a_finer_result_of_low_frequencies_is_at_the_elements_that_it_refines():
    x, head = IMAGES[:1, :, :8, :8], torch.randn(4, 16, 16).double()

    def forward(x):
        return (F.silu(_low_frequencies(F.pad(x, (0, 0, 0, 0, 0, 1)), (16, 16))) * head).sum(
            (1, 2, 3)
        )

    (term,) = [t for t in TGradAttribution(forward).decompose(x).terms if t.name == "silu"]
    z = _low_frequencies(F.pad(x, (0, 0, 0, 0, 0, 1)), (16, 16))
    slope = torch.autograd.functional.jvp(F.silu, z, z)[1]
    evidence = (head * (F.silu(z) - slope)).relu().sum(1)
    torch.testing.assert_close(term.positive[:, 0], evidence, rtol=1e-8, atol=1e-12)
    assert float(evidence.std()) > 0


def test_frames_that_are_filtered_and_added_up_keep_their_places():
    window = torch.hann_window(8).double()

    def added_up(filtered):
        def forward(h):
            frames = filtered(h.flatten(0, 1).unfold(1, 8, 4) * window)
            return F.fold(frames.transpose(1, 2), (1, LENGTH), (1, 8), stride=(1, 4)).view_as(h)

        return _on_lines(forward)

    _check_equal(
        added_up(lambda frames: torch.fft.irfft(torch.fft.rfft(frames))),
        added_up(lambda frames: frames),
        SIGNALS,
    )


@pytest.mark.parametrize("move", [lambda s: s.flip(1), lambda s: s.roll(2, 1), lambda s: s[:, 2:]])
def test_frames_that_are_moved_in_the_frequency_domain_stay_frames(move):
    def frames_of(x):
        return F.relu(FIRST_OF_LINE(x))[:, 0].unfold(1, 8, 8)

    def read(frames):
        weight = LINE_WEIGHT.view(4, 3, 8)[:, :, 0].mT[: frames.shape[1]]  # (frames, 4)
        return (F.relu(frames.reshape(len(frames), -1, 4, 2).mean(3) + 0.5) * weight).sum((1, 2))

    def filtered(x):
        return read(torch.fft.irfft(move(torch.fft.rfft(frames_of(x)))))

    def plain(x):
        return read(move(frames_of(x)))

    torch.testing.assert_close(filtered(SIGNALS), plain(SIGNALS))
    found, expected = (
        {term.name: term.positive for term in TGradAttribution(each).decompose(SIGNALS).terms}
        for each in (filtered, plain)
    )
    in_frames = expected["add"].unflatten(-1, (found["add"].shape[-1], -1)).sum(-1)
    torch.testing.assert_close(found["add"], in_frames, rtol=1e-8, atol=1e-12)
    assert float(in_frames.std()) > 0


def test_another_filter_has_another_map():
    class Filter(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.eye(LENGTH)[0].double())

        def forward(self, x):
            spectrum = torch.fft.rfft(F.relu(x)) * torch.fft.rfft(self.kernel)
            return (F.relu(torch.fft.irfft(spectrum) + OFFSET[0]) * LINE_WEIGHT[:2]).sum((1, 2))

    network = Filter().eval()
    method = TGradAttribution(network)
    for _ in range(2):
        before = method.attribute(SIGNALS)
    with torch.no_grad():
        network.kernel.copy_(torch.eye(LENGTH)[3])
    found = method.attribute(SIGNALS)
    assert not found.equal(before)
    assert found.equal(TGradAttribution(network).attribute(SIGNALS))


def _with_a_bias(h):
    return torch.fft.irfft(torch.fft.rfft(h) + OFFSET[:, 0])


def test_a_bias_of_frequencies_has_no_place_but_later_terms_do():
    with pytest.warns(UserWarning, match="loses the positions of its input: 'fft_rfft'"):
        whole = TGradAttribution(_on_lines(_with_a_bias)).decompose(SIGNALS)
    placed = {term.name: float(term.placed.min()) for term in whole.terms}
    assert placed["add"] == 0
    assert placed["add#2"] == placed["conv1d"] == 1
    assert_complete(whole)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: torch.fft.irfft(torch.fft.rfft(h).conj()),
        lambda h: torch.fft.fft(torch.fft.fft(h)).real / LENGTH,
        lambda h: torch.fft.irfft(torch.fft.rfft(h) * torch.fft.rfft(h.roll(1, 1)).conj()),
        lambda h: torch.fft.irfft(torch.complex(*map(F.relu, _parts(torch.fft.rfft(h))))),
        lambda h: torch.fft.irfft(torch.fft.rfft(h).flip(2)),
    ],
    ids=["reversed", "transformed twice", "correlation", "not linear", "reversed frequencies"],
)
def test_what_is_no_convolution_loses_places(function):
    with pytest.warns(UserWarning, match="loses the positions"):
        whole = TGradAttribution(_on_lines(function)).decompose(SIGNALS)
    (last,) = [term for term in whole.terms if term.name.startswith("add")][-1:]
    assert float(last.placed.max()) == 0
    assert_complete(whole, atol=1e-9)


def _parts(spectrum):
    return spectrum.real, spectrum.imag


def test_a_transposed_image_has_no_places():
    def transposed(h):
        return torch.fft.ifft2(torch.fft.fft2(h[..., :W, :W]).mT).real

    x = torch.randn(2, 3, W, W).double()
    weight = torch.rand(4, W, W).double()
    with pytest.warns(UserWarning, match="loses the positions"):
        whole = TGradAttribution(
            lambda x: (F.relu(transposed(F.relu(FIRST(x))) + 1) * weight).sum((1, 2, 3))
        ).decompose(x)
    assert_complete(whole, atol=1e-9)


def test_a_filter_over_the_batch_mixes_samples():
    spectrum = torch.fft.fftn(torch.rand(3, 2, LENGTH).double())

    def forward(x):
        return F.relu(torch.fft.ifftn(torch.fft.fftn(x) * spectrum).real + 1).sum((1, 2))

    with pytest.raises(ValueError, match="cannot be told apart"):
        TGradAttribution(forward).attribute(SIGNALS)
