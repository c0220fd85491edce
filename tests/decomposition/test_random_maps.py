"""Maps of random networks, against loops over single elements."""

import itertools
import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import FullGradAttribution, LayerTGradAttribution, TGradAttribution
from captum_tgrad.decomposition.maps import enlarging, redistribution, reduction, summing
from tests import levels_reference, reference

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLS = ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d))
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.fixture
def random_sizes(monkeypatch):
    """Sets the size of blocks and of sparse matrices to that of a large or a small network."""

    def set_sizes(rng):
        for cache in (reduction._cache, enlarging._cache, summing._plans):
            cache._values.clear()
        monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", rng.choice([1, 7, 50, 2**20]))
        monkeypatch.setattr(summing, "_WORTH_A_CHECK", rng.choice([0, 2**16]))
        monkeypatch.setattr(redistribution, "_MOST_IN_DENSE", rng.choice([0, 2**20]))

    yield set_sizes
    for cache in (reduction._cache, enlarging._cache, summing._plans):
        cache._values.clear()


class _Branches(nn.Module):
    """One branch for each input, and a product or a sum of their outputs."""

    def __init__(self, rng, sizes):
        super().__init__()
        self.branches = nn.ModuleList([_branch(rng, size) for size in sizes])
        self.join, self.last = rng.choice([_Sum, _Product])(), nn.Linear(2, 3)

    def forward(self, *inputs):
        first, *others = [b(x) for b, x in zip(self.branches, inputs, strict=True)]
        return self.last(self.join(first, *others) if others else first)


class _Sum(nn.Module):
    def forward(self, one, other):
        return one + other


class _Product(nn.Module):
    def forward(self, one, other):
        return one * other


def _branch(rng, size):
    """Up to four layers with strides that need not divide the size, which is often odd."""
    layers, channels, rank = [], 2, len(size) - 1
    for _ in range(rng.randint(1, 4)):
        kernel = [rng.randint(1, 3) for _ in size]
        window = {
            "kernel_size": tuple(kernel),
            "stride": tuple(rng.randint(1, width) for width in kernel),
            "padding": tuple(rng.randint(0, width // 2) * (width % 2) for width in kernel),
        }
        larger = tuple(length + rng.randint(0, length) for length in size)
        new = 1 + rng.randrange(3)
        layer = rng.choice([
            CONV[rank](channels, new, **window),
            rng.choice(POOLS)[rank](**window),
            nn.Upsample(larger, mode=reference.INTERPOLATION_MODES[len(size)]),
            NORM[rank](channels),
            rng.choice([nn.ReLU, nn.SiLU, nn.Tanh, nn.ReLU6, nn.GELU])(),
        ])  # fmt: skip
        try:
            shape = layer.eval()(torch.zeros(1, channels, *size)).shape
        except RuntimeError:  # the kernel is larger than the map
            continue
        if 1 not in shape[2:] and shape.numel() < 700:
            layers.append(layer)
            channels, size = shape[1], shape[2:]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(size), 2))


def _inputs(rng, sizes, samples):
    """Contiguous, channels last, or every second element of a larger tensor."""
    layout = rng.choice(["contiguous", "channels last", "strided"])
    inputs = []
    for size in sizes:
        x = torch.randn(samples, 2, *size[:-1], 2 * size[-1], dtype=torch.float64)[..., ::2]
        if layout != "strided":
            last = CHANNELS_LAST.get(x.dim(), torch.contiguous_format)
            x = x.contiguous(
                memory_format=last if layout == "channels last" else torch.contiguous_format
            )
        inputs.append(x)
    return tuple(inputs)


@pytest.mark.parametrize("seed", range(24))
def test_maps_of_layers_of_any_resolution_equal_the_reference(random_sizes, seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    longest = {1: 30, 2: 11, 3: 5}
    ranks = rng.choice([[1], [2], [3], [2, 1], [2, 2], [3, 2]])
    sizes = [[rng.randint(2, longest[rank]) for _ in range(rank)] for rank in ranks]
    inputs = _inputs(rng, sizes, samples=rng.choice([1, 3]))
    network = _Branches(rng, sizes).double().eval()
    for module in network.modules():
        if isinstance(module, NORM):
            module.running_mean.uniform_(-1, 1)
    target = [rng.randrange(3) for _ in inputs[0]]
    literal = reference.decompose(network, inputs, target)
    random_sizes(rng)
    for aggregation, expected_of in (
        ("paper", reference.tgrad_attribution),
        ("levels", levels_reference.levels_attribution),
    ):
        for sign in ("positive", "negative", "all"):
            found = TGradAttribution(network).attribute(
                inputs, target, sign=sign, aggregation=aggregation
            )
            expected = tuple(expected_of(literal, sign, n) for n in range(len(inputs)))
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


class _Moved:
    """A tensor whose elements were moved, copied, and added, and the pixels of each element.

    Args:
        rng: Draws the operations.
        size: The spatial size of the input, with at least five pixels along each axis: with fewer,
            random pixels are often at equal distances, which makes them a coarser grid.
        samples: The batch size.
    """

    def __init__(self, rng, size, samples):
        self.size, self.samples = size, samples
        self.steps, size = [], list(size)
        beside = rng.choice(["crop", "pad"])
        for kind in rng.choices(
            [beside, "flip", "swap", "pick", "pick of each"], k=rng.randint(0, 4)
        ):
            axis, count = rng.randrange(len(size)), math.prod(size)
            before, after = rng.randint(0, 1), rng.randint(0, 1)
            if kind == "crop" and size[axis] > before + after + 3:
                size[axis] -= before + after
                self.steps.append((_crop, 2 + axis, before, size[axis]))
            elif kind == "pad":
                widths = [0, 0] * (len(size) - 1 - axis) + [before, after]
                size[axis] += before + after
                self.steps.append((_pad, widths))
            elif kind == "flip":
                self.steps.append((_flip, 2 + axis))
            elif kind == "swap":
                size[0], size[-1] = size[-1], size[0]
                self.steps.append((_swap,))
            elif kind.startswith("pick"):
                size = [count - rng.randrange(3)]
                of_one = [rng.choices(range(count), k=size[0]) for _ in range(samples)]
                every = of_one if kind == "pick of each" else of_one[:1] * samples
                self.steps.append((_pick, torch.tensor(every)))
        self.orders = []
        for _ in range(rng.choice([0, 0, 1, 2])):
            self.orders.append(torch.tensor([rng.sample(range(math.prod(size)), math.prod(size))]))

    def summands(self, x, fill):
        for step, *arguments in self.steps:
            x = step(x, fill, *arguments)
        return [x.flatten(2), *(_pick(x, fill, order.expand(len(x), -1)) for order in self.orders)]

    def __call__(self, x):
        return sum(self.summands(x, 0))

    def pixels(self):
        """For each sample and each element of a channel, the set of its pixels."""
        numbers = torch.arange(math.prod(self.size)).view(1, 1, *self.size)
        summands = self.summands(numbers.expand(self.samples, 1, *self.size), -1)
        every = torch.stack(summands)[:, :, 0].permute(1, 2, 0).tolist()
        return [[set(pixels) - {-1} for pixels in elements] for elements in every]


def _crop(x, _fill, dim, start, length):
    return x.narrow(dim, start, length)


def _pad(x, fill, widths):
    return F.pad(x, widths, value=fill)


def _flip(x, _fill, dim):
    return x.flip(dim)


def _swap(x, _fill):
    return x.transpose(2, -1)


def _pick(x, _fill, numbers):
    return torch.stack([one.flatten(1)[:, each] for one, each in zip(x, numbers, strict=True)])


def _literal_map(elements, moved):
    """The sums of non-negative ``elements``, shape ``(N, C, M)``, in pixels, and the share placed.

    Evidence without a pixel is spread over all rows and columns in which a sample has elements.
    """
    found, placed = torch.zeros(len(elements), *moved.size, dtype=torch.float64), []
    for sample, (values, pixels) in enumerate(zip(elements, moved.pixels(), strict=True)):
        without, total = 0.0, 0.0
        used = [set() for _ in moved.size]
        for value, own in zip(values.sum(0).tolist(), pixels, strict=True):
            total += value
            without += 0 if own else value
            for pixel in own:
                at = tuple(int(i) for i in torch.unravel_index(torch.tensor(pixel), moved.size))
                found[(sample, *at)] += value / len(own)
                for along, number in zip(used, at, strict=True):
                    along.add(number)
        cells = list(itertools.product(*used))
        for at in cells:
            found[(sample, *at)] += without / len(cells)
        placed.append(1 - without / total if total else 1.0)
    return found, torch.tensor(placed, dtype=torch.float64)


def _drawn(seed, dtype=torch.float64):
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    size = rng.choice([(13,), (5, 6), (7, 5), (5, 5, 5)])
    moved = _Moved(rng, size, samples=rng.choice([1, 2, 3]))
    x = torch.randn(moved.samples, 3, *size, generator=generator).to(dtype)
    shape = moved(x).shape
    # Not contiguous: its channels come last in memory.
    weight = torch.randn(*shape[::-1], generator=generator).permute(2, 1, 0).to(dtype)
    return rng, moved, x, weight


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(12))
def test_each_element_of_a_term_is_at_its_pixels(random_sizes, seed, dtype):
    rng, moved, x, weight = _drawn(seed, dtype)
    constant = torch.randn(weight.shape[1:], generator=torch.Generator().manual_seed(seed)).to(
        dtype
    )
    random_sizes(rng)
    network = TGradAttribution(lambda x: (weight * (moved(x) + constant)).sum((1, 2)))
    term = network.decompose(x).biases[-1]
    elements = weight.double() * constant.double()
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype != torch.float64 else {}
    for found, evidence in ((term.positive, elements), (term.negative, -elements)):
        expected, _ = _literal_map(evidence.clamp_min(0), moved)
        torch.testing.assert_close(found[:, 0].double(), expected, **tolerance)
    torch.testing.assert_close(term.score.double(), elements.sum((1, 2)), **tolerance)
    torch.testing.assert_close(
        term.placed.double(), _literal_map(elements.abs(), moved)[1], **tolerance
    )


def _scaled(evidence, score):
    """Scales each sample of ``evidence`` to the sum ``ReLU(score)``."""
    total = evidence.flatten(1).sum(1)
    factor = torch.where(total > 0, score.clamp_min(0) / total, 0)
    return evidence * factor.view(-1, *[1] * (evidence.dim() - 1))


def _rescaled(sample):
    """From 0 to 1."""
    sample = sample.abs() - sample.abs().min()
    return sample / sample.max()


@pytest.mark.parametrize("seed", range(100, 124))
def test_attributions_add_up_the_pixels_of_all_elements(random_sizes, seed):
    rng, moved, x, weight = _drawn(seed)

    def network(x):
        return (weight * moved(x).sigmoid()).sum((1, 2))

    value = moved(x)
    sigmoid = value.sigmoid()
    elements = weight * (sigmoid - value * sigmoid * (1 - sigmoid))
    own = torch.autograd.functional.jvp(network, x, x)[1]  # the score of the input
    own_elements = x * torch.autograd.functional.vjp(network, x, torch.ones_like(own))[1]
    random_sizes(rng)
    method, channels = TGradAttribution(network), x.shape[1]
    for sign, factor in (("positive", 1), ("negative", -1)):
        evidence = _literal_map((factor * elements).clamp_min(0), moved)[0]
        shared = _scaled(evidence, factor * elements.sum((1, 2))).unsqueeze(1) / channels
        expected = _scaled((factor * own_elements).clamp_min(0), factor * own) + shared
        torch.testing.assert_close(method.attribute(x, sign=sign), expected)
    rescaled = torch.stack([*map(_rescaled, elements)])
    expected = torch.stack([*map(_rescaled, own_elements)])
    expected = expected + _literal_map(rescaled, moved)[0].unsqueeze(1) / channels
    torch.testing.assert_close(FullGradAttribution(network).attribute(x), expected)


def _literal_shares(evidence, moved, channels):
    """Divides the value of each pixel equally among the elements there; shape ``(N, C, M)``."""
    found = []
    for values, pixels in zip(evidence.flatten(1), moved.pixels(), strict=True):
        counts = torch.zeros_like(values)
        for own in pixels:
            for pixel in own:
                counts[pixel] += channels / len(own)
        each = [sum(float(values[p] / counts[p]) / len(own) for p in own) for own in pixels]
        found.append(torch.tensor([each] * channels, dtype=torch.float64))
    return torch.stack(found)


class _Weighted(nn.Module):
    def __init__(self, moved, weight):
        super().__init__()
        self.moved, self.weight = _Call(moved), weight

    def forward(self, x):
        return (self.weight * self.moved(x).sigmoid()).sum((1, 2))


class _Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def _all_placed(seed):
    return all(all(pixels) for pixels in _drawn(seed)[1].pixels())


@pytest.mark.parametrize("seed", [seed for seed in range(200, 230) if _all_placed(seed)])
def test_attributions_of_a_layer_are_divided_among_the_elements_of_a_pixel(random_sizes, seed):
    rng, moved, x, weight = _drawn(seed)
    layer = moved(x)
    slope = layer.sigmoid() * (1 - layer.sigmoid())
    own = weight * slope * layer
    elements = weight * layer.sigmoid() - own
    random_sizes(rng)
    model = _Weighted(moved, weight)
    method = LayerTGradAttribution(model, model.moved)
    for sign, factor in (("positive", 1), ("negative", -1)):
        evidence = _literal_map((factor * elements).clamp_min(0), moved)[0]
        shared = _scaled(evidence, factor * elements.sum((1, 2)))
        expected = _scaled((factor * own).clamp_min(0), factor * own.sum((1, 2)))
        expected = expected + _literal_shares(shared, moved, layer.shape[1])
        found = method.attribute(x, sign=sign).reshape(layer.shape)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(3, 5), (5, 3), (6, 4), (3, 4, 4)])
@pytest.mark.parametrize("seed", range(2))
def test_a_sum_of_shuffled_images_is_at_all_of_its_pixels_on_short_axes_too(size, seed):
    # The summands of an element often reach from one end of a short axis to the other.
    rng = random.Random(seed)
    moved, count = _Moved(rng, size, samples=2), math.prod(size)
    moved.steps = []
    moved.orders = [torch.tensor([rng.sample(range(count), count)]) for _ in range(3)]
    weight = torch.randn(2, 3, count, generator=torch.Generator().manual_seed(seed)).double()
    network = TGradAttribution(lambda x: (weight * (moved(x) + 1)).sum((1, 2)))
    term = network.decompose(torch.rand(2, 3, *size).double()).biases[-1]
    expected, _ = _literal_map(weight.clamp_min(0), moved)
    torch.testing.assert_close(term.positive[:, 0], expected)
    torch.testing.assert_close(term.placed, torch.ones(2).double())


@pytest.mark.parametrize("length", [4, 5, 6, 7])
def test_all_elements_of_a_circular_sum_are_placed(length):
    def network(x):
        return (x + x.roll(1, -1) + x.roll(-1, -1)).sigmoid().sum((1, 2))

    term = TGradAttribution(network).decompose(torch.rand(1, 1, length).double())["sigmoid"]
    torch.testing.assert_close(term.placed, torch.ones(1).double())
    assert term.positive.shape == (1, 1, length)
