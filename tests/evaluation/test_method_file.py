"""Methods from a file are the classes that it names, with the arguments that it gives."""

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch

from captum_tgrad import CamAttribution
from captum_tgrad.evaluation import read_methods
from tests.evaluation.networks import classifier, images, network, reusing_network

TOML = """
[deep_lift]
class = "captum.attr.DeepLift"
title = "DeepLIFT"
constructor = { multiply_by_inputs = false }
attribute = { baselines = "black" }

[activation]
class = "captum.attr.LayerGradientXActivation"
layer = "4"

[layer_cam]
class = "pytorch_grad_cam.LayerCAM"
layer = "0"

[occlusion]
class = "captum.attr.Occlusion"
attribute = { sliding_window_shapes = [3, 2, 2], strides = [3, 2, 2] }

[shap]
class = "captum.attr.GradientShap"
random = true
attribute = { baselines = "black", stdevs = 0.2 }
"""
TARGET = torch.tensor([2, 0])


@pytest.fixture
def methods(tmp_path):
    (tmp_path / "methods.toml").write_text(TOML)
    return read_methods(tmp_path / "methods.toml")


def test_a_table_gives_the_class_with_its_arguments(methods):
    model, inputs = network(), images(2)
    black = torch.full_like(inputs, -1.0)
    found = {
        name: methods[name].build(classifier(model))(inputs, TARGET, [1, 2]) for name in methods
    }
    x = inputs.clone().requires_grad_()
    deep_lift = captum.attr.DeepLift(model, multiply_by_inputs=False)
    layer = captum.attr.LayerGradientXActivation(model, model[4])
    occlusion = captum.attr.Occlusion(model)
    expected = {
        "deep_lift": deep_lift.attribute(x, baselines=black, target=TARGET),
        "activation": layer.attribute(x, TARGET).sum(1, keepdim=True),
        "layer_cam": CamAttribution(model, pytorch_grad_cam.LayerCAM, [model[0]]).attribute(
            inputs, TARGET
        ),
        "occlusion": occlusion.attribute(inputs, (3, 2, 2), (3, 2, 2), target=TARGET),
    }
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each.detach(), rtol=1e-4, atol=1e-5)
    assert methods["deep_lift"].title == "DeepLIFT"
    assert methods["deep_lift"].settings["constructor"] == {"multiply_by_inputs": False}


def test_a_random_class_has_its_random_numbers_from_the_seed(methods):
    explainer, inputs = methods["shap"].build(classifier()), images(2)
    state, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    together = explainer(inputs, TARGET, [1, 2])
    torch.testing.assert_close(explainer(inputs[1:], TARGET[1:], [2]), together[1:])
    assert not explainer(inputs[1:], TARGET[1:], [3]).allclose(together[1:])
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], of_numpy)


def test_a_class_that_fails_leaves_the_model_as_it_was(methods):
    model = reusing_network()
    explainer = methods["deep_lift"].build(model)
    with pytest.raises((AssertionError, RuntimeError, IndexError), match=r"(?s).*"):
        explainer(images(2), TARGET)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is not a TOML file"),
        ("x = 1", "must be a table with class"),
        ('[x]\nclass = "captum.attr.Salency"', "did you mean Saliency"),
        ('[x]\nclass = "captum.nowhere.Saliency"', "cannot be imported"),
        ('[x]\nclass = "nowhere.Saliency"', r"is from 'nowhere', .* \(--allow-imports nowhere"),
        (
            '[x]\nclass = "Saliency"',
            r"is from '', but only classes from captum, captum_tgrad, pyto",
        ),
        ('[x]\nclass = "captums.Saliency"', "is from 'captums'"),
        # What a module of theirs has imported is not theirs.
        ('[x]\nclass = "captum.attr._utils.visualization.Figure"', "is from 'matplotlib'"),
        ('[x]\nclass = "captum_tgrad.cli.jobs.Path"', "is from 'pathlib'"),
        ('[x]\nclass = "captum.concept.TCAV"', "is not an attribution: use a class with a method"),
        (
            '[x]\nclass = "captum_tgrad.evaluation.storage.json_lines.JsonLines"',
            "is not an attribution",
        ),
        ('[x]\nclass = "captum.attr.Saliency"\nlayers = "0"', r"has unknown keys layers: use"),
        ('[x]\nclass = "captum.attr.Saliency"\nattribute = 3', "attribute in .* must be a table"),
        ('[x]\nclass = "captum.attr.Saliency"\nrandom = 1', "random in .* must be true or false"),
        ('[x]\nclass = "captum.attr.Saliency"\nlayer = 1', "layer in .* must be a string"),
        ('[x]\nclass = "captum.attr.Saliency"\ntitle = 1', "title in .* must be a string"),
        ('[x]\nclass = "captum.attr.LayerGradCam"', r'needs layer = "MODULE"'),
        (
            '[x]\nclass = "captum.attr.IntegratedGradients"\nattribute = { n_step = 5 }',
            r"attribute in .* has 'n_step', .* did you mean n_steps\?",
        ),
        (
            '[x]\nclass = "captum.attr.IntegratedGradients"\nattribute = { n_steps = "five" }',
            r"attribute in .* has n_steps = 'five': pass an integer",
        ),
        (
            '[x]\nclass = "captum.attr.DeepLift"\nconstructor = { eps = true }',
            "constructor in .* has eps = True: pass a number",
        ),
        (
            '[x]\nclass = "captum.attr.IntegratedGradients"\nconstructor = { by = 1 }',
            "constructor in .* has 'by', .* it has multiply_by_inputs",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, said):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_methods(tmp_path / "bad.toml")


def test_an_absent_file_and_an_absent_layer_are_named(tmp_path, methods):
    with pytest.raises(FileNotFoundError, match="not found: pass a TOML file"):
        read_methods(tmp_path / "absent.toml")
    (tmp_path / "layer.toml").write_text(
        '[x]\nclass = "captum.attr.LayerActivation"\nlayer = "conv"'
    )
    method = read_methods(tmp_path / "layer.toml")["x"]
    with pytest.raises(
        ValueError, match="layer 'conv' not found in the model: its layers are 0, 1, 2"
    ):
        method.build(network())


def test_a_package_has_to_be_allowed_and_nothing_of_it_runs_before(tmp_path, monkeypatch):
    package = tmp_path / "site" / "their_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import pathlib, captum.attr\npathlib.Path(__file__).with_name('ran').touch()\n"
        "class Mine(captum.attr.Saliency): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "methods.toml").write_text('[mine]\nclass = "their_package.Mine"\n')
    with pytest.raises(ValueError, match=r"\(--allow-imports their_package, or allow_imports="):
        read_methods(tmp_path / "methods.toml")
    assert not (package / "ran").exists()
    for allowed in ("their_package", ["other", "their_package"]):
        methods = read_methods(tmp_path / "methods.toml", allow_imports=allowed)
        found = methods["mine"].build(classifier())(images(1), TARGET[:1])
        expected = captum.attr.Saliency(network()).attribute(images(1), TARGET[:1])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
