"""The paper's network, torchvision's VGG-16, with random weights: every method of its figures."""

import copy
import json
from dataclasses import replace

import pytest
import pytorch_grad_cam
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn.functional import interpolate
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.functional import to_tensor

from captum_tgrad import TGradAttribution
from captum_tgrad.attribution.cam_checks import Probe
from captum_tgrad.cli.main import main
from captum_tgrad.evaluation import METHODS, evaluate
from captum_tgrad.metrics.registry import NUMBERS
from captum_tgrad.zoo import sample_image
from tests.attribution.test_cam import without_overwriting
from tests.evaluation.networks import classifier

PAPER = [name for name in METHODS if name not in ("t_grad_levels", "random")]
CAMS = {
    "grad_cam_plus_plus": pytorch_grad_cam.GradCAMPlusPlus,
    "eigen_cam": pytorch_grad_cam.EigenCAM,
    "score_cam": pytorch_grad_cam.ScoreCAM,
    "x_grad_cam": pytorch_grad_cam.XGradCAM,
}
SIDE, CLASSES, TARGET = 64, 10, 3

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]


def with_random_biases(model):
    """Torchvision starts with biases of 0, which T-Grad would have no terms of."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture
def narrow():
    """torchvision's VGG-16 with few channels: its layers have their names and their order."""
    torch.manual_seed(0)
    with torch.device("meta"):  # the linear layers would take 400 MB
        model = torchvision.models.vgg16(init_weights=False)
    model.features = make_layers([size if size == "M" else size // 32 for size in cfgs["D"]])
    for index, (inputs, outputs) in {0: (16 * 7 * 7, 32), 3: (32, 32), 6: (32, CLASSES)}.items():
        model.classifier[index] = nn.Linear(inputs, outputs)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return with_random_biases(model)


def images(count=1):
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def equation_8(model, image):
    """Eq. 8 for a network whose biases are those of convolutions and linear layers."""
    model = copy.deepcopy(model)
    outputs, biases = [], []

    def after(module, arguments, output):
        outputs.append(output)
        biases.append(module.bias.reshape(1, -1, *[1] * (output.dim() - 2)))

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # it would overwrite what the gradient is taken of
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(after)
    image = image.clone().requires_grad_()
    score = model(image)[0, TARGET]
    gradients = torch.autograd.grad(score, [image, *outputs])
    explained, total = 0, torch.zeros(1, 1, SIDE, SIDE).to(image)
    for gradient, values in zip(gradients, [image, *biases], strict=True):
        product = gradient * values
        explained += product.sum()
        saliency = product.relu().sum(1, keepdim=True)
        if saliency.dim() == 2:  # nowhere on the image
            saliency = torch.ones(1, 1, 1, 1).to(saliency)
        saliency = interpolate(saliency, (SIDE, SIDE), mode="bilinear", align_corners=False)
        if saliency.any():
            total += saliency / saliency.sum() * product.sum().relu()
    return score, explained, total


def test_t_grad_is_equation_8(narrow):
    model, image = narrow.double(), images().double()
    score, explained, expected = equation_8(model, image)
    torch.testing.assert_close(explained, score, rtol=1e-10, atol=1e-10)  # eq. 6
    found = TGradAttribution(model).attribute(image, TARGET)
    torch.testing.assert_close(found.sum(1, keepdim=True), expected, rtol=1e-10, atol=1e-10)


def test_every_bias_of_vgg_is_a_term(narrow):
    found = TGradAttribution(narrow).decompose(images(), TARGET)
    layers = [
        name
        for name, module in narrow.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    assert len(layers) == 16
    assert [term.name for term in found.biases] == layers


def test_the_layer_is_the_last_convolution(narrow):
    assert Probe(narrow, images()).last_convolution() is narrow.features[28]
    assert not any(isinstance(module, nn.Conv2d) for module in narrow.features[29:])


def test_grad_cam_by_hand(narrow):
    features, rest = narrow.features[:29], narrow.features[29:]
    activation = features(images()).detach().requires_grad_()
    pooled = narrow.avgpool(rest(activation.clone()))
    score = narrow.classifier(pooled.flatten(1))[0, TARGET]
    (gradient,) = torch.autograd.grad(score, activation)
    weights = gradient.mean((2, 3), keepdim=True)
    expected = (weights * activation).sum(1, keepdim=True).relu().detach()
    assert expected.any()
    found = METHODS["grad_cam"].build(narrow)(images(), [TARGET])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", CAMS)
def test_class_activation_maps_of_that_layer(narrow, name):
    found = METHODS[name].build(narrow)(images(), [TARGET])[0]
    for index in (26, 28):
        model = without_overwriting(narrow)
        with CAMS[name](model, [model.features[index]]) as cam:
            expected = torch.from_numpy(cam(images(), [ClassifierOutputTarget(TARGET)]))
        assert torch.allclose(found, expected, atol=1e-5) == (index == 28)


def test_every_method_of_the_paper_is_evaluated(narrow):
    assert len(PAPER) == 11
    small = replace(
        classifier(narrow),
        preprocess=lambda picture: to_tensor(picture.resize((SIDE, SIDE))),
    )
    found = evaluate(small, images(2), PAPER, n_steps=4)
    assert not found.skipped
    assert_complete(found.summary, PAPER, 2)


def assert_complete(summary, methods, count):
    """Every method has every number of every image."""
    assert list(summary["methods"]) == list(methods)
    for method in summary["methods"].values():
        assert method["images"] == count
        assert all(method[number]["images"] == count for number in NUMBERS)


@pytest.mark.slow
def test_the_command_for_the_paper_s_figures(tmp_path, monkeypatch):
    # Minutes, most of them Score-CAM's: it is run once to warm up, and once for its time.
    monkeypatch.setattr("captum_tgrad.evaluation.running.timed_method._LONG", 0.0)
    torch.manual_seed(0)
    network = with_random_biases(torchvision.models.vgg16(weights=None))
    torch.save(network.state_dict(), tmp_path / "vgg16.pth")
    (tmp_path / "val").mkdir()
    sample_image().save(tmp_path / "val" / "cup.png")
    out = tmp_path / "paper"
    of_paper = ["--model", "torchvision:vgg16", "--methods", "all", "--limit", "1"]
    here = ["--weights", str(tmp_path / "vgg16.pth"), "--n-steps", "2", "--out", str(out)]
    assert main(["evaluate", str(tmp_path / "val"), *of_paper, *here]) == 0
    assert_complete(json.loads((out / "summary.json").read_text()), METHODS, 1)
    assert (out / "metrics.png").stat().st_size
