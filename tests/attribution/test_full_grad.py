"""FullGrad against its formula, written out literally on the reference's terms."""

import pytest
import torch
from pytorch_grad_cam import FullGrad
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from captum_tgrad import FullGradAttribution
from tests import reference
from tests.networks import TINY_NETWORKS

IMAGES = [
    tiny
    for tiny in TINY_NETWORKS.values()
    if len(tiny.shapes) == 1 and len(tiny.shapes[0]) == 4 and tiny.conventional
]


def _post_processed(sample):
    """Absolute value, rescaled to [0, 1] over channels and places."""
    sample = sample.abs()
    sample = sample - sample.min()
    return sample / sample.max() if sample.max() > 0 else sample


def _literal(decomposition, spatial):
    maps = []
    for sample in range(len(decomposition.output)):
        total = _post_processed(decomposition.inputs[0].samples[sample]).sum(1, keepdim=True)
        for term in decomposition.nonzero_biases:
            element = term.samples[sample]
            if element.dim() == 4 and element.shape[2:].numel() > 1:
                summed = term.at_places(_post_processed(element)).unsqueeze(0)
                total = total + reference.resized(summed, spatial)
        maps.append(total)
    return torch.cat(maps)


@pytest.mark.parametrize("tiny", IMAGES, ids=lambda tiny: tiny.id)
def test_equals_the_literal_formula(tiny):
    network, (inputs,) = tiny.build(), tiny.inputs
    expected = _literal(reference.decompose(network, inputs, tiny.target), inputs.shape[2:])
    actual = FullGradAttribution(network).attribute(inputs, tiny.target)
    assert actual.shape == inputs.shape
    torch.testing.assert_close(actual.sum(1, keepdim=True), expected, rtol=1e-6, atol=1e-6)


def _convolutional(channels: int) -> nn.Sequential:
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * channels, 3),
    )
    network[1].running_mean.fill_(-0.3)
    network[1].running_var.fill_(2.0)
    network[1].bias.data.fill_(0.2)
    for layer in (network[0], network[4]):
        layer.weight.data.abs_()  # units that are alive
    return network.eval()


def _of_pytorch_grad_cam(network, images):
    with FullGrad(network, []) as method:
        return torch.tensor(method(images, [ClassifierOutputTarget(1)] * len(images)))


def _scaled(maps):
    """As that library returns every map: from 0 to 1."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True)


def test_equals_pytorch_grad_cam_where_the_layers_have_one_channel():
    network, images = _convolutional(1), torch.rand(2, 1, 16, 16)
    expected = _of_pytorch_grad_cam(network, images)
    actual = FullGradAttribution(network).attribute(images, 1).sum(1)
    torch.testing.assert_close(_scaled(actual), expected, rtol=1e-4, atol=1e-5)


def test_pytorch_grad_cam_rescales_each_channel_on_its_own():
    # The paper's post-processing acts on a whole term, so the two part where there are channels.
    network, images = _convolutional(4), torch.rand(1, 4, 16, 16)
    expected = _of_pytorch_grad_cam(network, images)
    actual = _scaled(FullGradAttribution(network).attribute(images, 1).sum(1))
    assert float((actual - expected).abs().max()) > 0.01

    terms = reference.decompose(network, images, 1)
    planes = [terms.inputs[0].samples[0][0].abs()]
    planes += [term.samples[0][0].abs() for term in terms.biases if term.samples[0].dim() == 4]
    total = torch.zeros(16, 16, dtype=torch.float64)
    for term in planes:
        large = interpolate(_scaled(term)[None].nan_to_num(), (16, 16), mode="bilinear")
        total += large[0].sum(0)
    torch.testing.assert_close(_scaled(total[None]).float(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operation", [torch.tanh, torch.square, lambda part: part + 1])
def test_an_operation_on_no_elements_adds_nothing(operation):
    def forward(x):
        return torch.cat([operation(x[:, :0]), x], 1).square().flatten(1).sum(1)

    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = FullGradAttribution(lambda x: x.square().flatten(1).sum(1)).attribute(x)
    torch.testing.assert_close(FullGradAttribution(forward).attribute(x), plain)


def _repeated_rows(x):
    return torch.cat([x, x[:, :, :2], x[:, :, 1:2]], 2)


def _at_two_scales(x):
    return torch.cat([x.flatten(2), avg_pool2d(x, 2).flatten(2)], 2)


def _with_a_class_token(x):
    return torch.cat([torch.zeros_like(x[:, :, :1, 0]).detach(), x.flatten(2)], 2)


def _rows_of_each_sample(x):
    row = torch.arange(len(x))[:, None, None, None].expand(-1, 1, 2, 4)
    return torch.cat([x, x.gather(2, row)], 2)


@pytest.mark.parametrize(
    "rearranged", [_repeated_rows, _at_two_scales, _with_a_class_token, _rows_of_each_sample]
)
def test_cells_with_different_numbers_of_elements_equal_the_literal_formula(rearranged):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, 4, 4, generator=generator, dtype=torch.float64)
    b = 1 + torch.rand(rearranged(x).shape[1:], generator=generator, dtype=torch.float64)
    actual = FullGradAttribution(lambda x: (rearranged(x) + b).flatten(1).sum(1)).attribute(x)
    rescaled = (b - b.min()) / (b.max() - b.min())
    # Each element's value goes back to the pixels from which the element comes.
    pixels = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((rearranged(pixels) * rescaled).sum(), pixels)
    if rearranged is _with_a_class_token:
        expected = expected + rescaled[0, 0] / 16
    (gradient,) = torch.autograd.grad(rearranged(pixels).sum(), pixels)
    expected += torch.stack([_post_processed(each) for each in gradient * x])
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("n", [1, 3])
def test_inputs_that_share_a_tensor_have_the_maps_of_separate_calls(n):
    network = _convolutional(2).double()
    first, second = torch.rand(n, 2, 16, 16).double(), torch.rand(n, 2, 16, 16).double()

    def separate(a, b):
        return network(a) * network(b)

    def joined(a, b):
        return network(torch.cat([a, b])).view(2, n, -1).prod(0)

    expected = FullGradAttribution(separate).attribute((first, second), 1)
    actual = FullGradAttribution(joined).attribute((first, second), 1)
    for found, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_rounding_leaves_no_negative_attributions():
    x = torch.zeros(1, 30, 2, 2)
    x[..., 1, 1] = 1
    for value in torch.linspace(0.01, 1, 40).tolist():
        bias = torch.full((30, 2, 2), value)
        bias[:, 1, 1] = 2
        method = FullGradAttribution(lambda x, bias=bias: (x + bias).flatten(1).sum(1))
        assert float(method.attribute(x).min()) >= 0  # sum |c| - n min |c| may be below 0
