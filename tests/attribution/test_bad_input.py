"""Errors for bad input."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from torch import nn

from captum_tgrad import (
    CamAttribution,
    FullGradAttribution,
    LayerTGradAttribution,
    TGradAttribution,
)
from captum_tgrad.metrics import insertion

IMAGE = torch.ones(2, 3, 4, 4)
MODEL = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 5)).eval()
TRAINING = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 5))
BROKEN = IMAGE.clone()
BROKEN[1, 0, 0, 0] = float("nan")


@pytest.mark.parametrize(
    ("inputs", "target", "error", "message"),
    [
        ([1.0, 2.0], 0, TypeError, "inputs must be a torch.Tensor.* torch.tensor"),
        ({"ids": IMAGE}, 0, TypeError, r"dict: pass a tensor of it, such as inputs\['ids'\], and"),
        ([IMAGE, IMAGE], 0, TypeError, r"for several inputs, a tuple: \(a, b\)"),
        (Image.new("RGB", (4, 4)), 0, TypeError, "a Pillow image: preprocess it"),
        ((IMAGE, 3), 0, TypeError, r"inputs\[1\] must be a torch.Tensor, got int"),
        (IMAGE.int(), 0, TypeError, "LayerTGradAttribution.*channel_dim=-1"),
        (IMAGE.to(torch.complex64), 0, TypeError, "complex64.*additional_forward_args.$"),
        (IMAGE[:0], 0, ValueError, "at least one sample"),
        (IMAGE[:, :, :0], 0, ValueError, "at least one sample"),
        (torch.tensor(1.0), 0, ValueError, "at least one sample"),
        (torch.ones(1, 1, 2, 2, 2, 2), 0, ValueError, "more than three spatial"),
        (IMAGE.to_sparse(), 0, TypeError, r"sparse_coo tensor.*inputs.to_dense"),
        (IMAGE.to("meta"), 0, ValueError, "meta device and has no values"),
        (IMAGE.to(torch.float8_e4m3fn), 0, TypeError, "float8"),
        ((IMAGE, IMAGE.to("meta")), 0, ValueError, r"inputs\[1\] is on the meta device"),
        ((IMAGE, IMAGE[:1]), 0, ValueError, "same batch size"),
        (BROKEN, 0, ValueError, "NaN or inf in sample 1"),
        (BROKEN * float("inf"), 0, ValueError, "NaN or inf in sample 0, 1"),
        (IMAGE, None, ValueError, "target is missing.*from 0 to 4"),
        (IMAGE, 5, ValueError, "target 5 is out of range.*from 0 to 4"),
        (IMAGE, -6, ValueError, "out of range"),
        (IMAGE, [0, 1, 2], ValueError, "one target per sample, got 3 for 2"),
        (IMAGE, torch.tensor([0, 1, 2]), ValueError, "one target per sample, got 3 for 2"),
        (IMAGE, torch.tensor([0, 9]), ValueError, "target 9 is out of range"),
        (IMAGE, (), ValueError, r"target \(\) has 0 indices"),
        (IMAGE, (0, 1), ValueError, "has 2 indices.* a list with one for each sample"),
        (IMAGE, torch.tensor([0.0, 1.0]), TypeError, "must hold integers.* baselines"),
        (IMAGE, torch.eye(5)[:2], TypeError, r"must hold integers.* target.argmax\(1\)"),
        (IMAGE, "espresso", TypeError, "target must be an int.*'espresso'. .* its index.$"),
        (IMAGE, torch.tensor([0, 1], dtype=torch.uint8), TypeError, r"uint8.* target.long\(\)"),
        (IMAGE, torch.tensor([[0, 1], [1, 0]]), ValueError, "a list of tuples for several indices"),
        (IMAGE, np.int64(1), TypeError, r"target must be an int.* int\(target\)"),
        (IMAGE, np.array([0, 1]), TypeError, r"target must be an int.* torch.as_tensor\(target\)"),
        (IMAGE, [np.int64(0), np.int64(1)], TypeError, r"Convert it with torch.as_tensor"),
        (IMAGE, (np.int64(0), 1), TypeError, r"tuple\(map\(int, target\)\)"),
    ],
)
def test_inputs_and_targets(inputs, target, error, message):
    with pytest.raises(error, match=message):
        TGradAttribution(MODEL).attribute(inputs, target=target)


def test_a_positional_baseline_is_named():
    """As in ``IntegratedGradients.attribute(inputs, baselines, target)``."""
    method = TGradAttribution(MODEL)
    for each in (method, LayerTGradAttribution(MODEL, MODEL[0]), CamAttribution(MODEL, GradCAM)):
        with pytest.raises(TypeError, match=r"takes 2 positional arguments.* baselines .*leave"):
            each.attribute(IMAGE, 0, 1)
    with pytest.raises(
        TypeError, match=r"TGradAttribution.attribute\(\) got target twice.*baselines"
    ):
        method.attribute(IMAGE, torch.zeros_like(IMAGE), target=1)
    with pytest.raises(TypeError, match="pass the model, not its output"):
        TGradAttribution(MODEL(IMAGE))


@pytest.mark.parametrize(
    ("forward_func", "target", "error", "message"),
    [
        (lambda x: {"out": MODEL(x)}, 0, TypeError, r"lambda x: model\(x\)\['out'\]"),
        (lambda x: {"loss": 1, "logits": MODEL(x)}, 0, TypeError, r"model\(x\)\['logits'\]"),
        (lambda x: (MODEL(x), x), 0, TypeError, r"lambda x: model\(x\)\[0\]"),
        (lambda x: SimpleNamespace(loss=None, out=MODEL(x)), 0, TypeError, r"x: model\(x\)\.out\."),
        (lambda x: SimpleNamespace(hidden=x, logits=MODEL(x)), 0, TypeError, r"model\(x\)\.logits"),
        (lambda x: torch.fft.fft(MODEL(x)), 0, TypeError, r"real numbers, got torch.complex64"),
        (lambda x: MODEL(x).sum(), None, ValueError, "one number per sample"),
        (
            lambda x: MODEL(x)[:1],
            0,
            ValueError,
            r"the batch.* single sample.*inputs.unsqueeze\(0\)",
        ),
        (lambda x: MODEL(x)[:, 0], 1, ValueError, "Pass target=None"),
        (lambda x: MODEL(x).detach(), 0, ValueError, "has no gradient"),
        (lambda x: MODEL(x).argmax(1), None, ValueError, "int64, which has.* Return logits"),
        (lambda x: x, 1, ValueError, "mask"),
        (TRAINING, 0, ValueError, r"batch norm '1' is in training mode.*model.eval\(\)"),
        (lambda x: TRAINING(x), 0, ValueError, "training mode"),
    ],
)
def test_forward_functions(forward_func, target, error, message):
    with pytest.raises(error, match=message):
        TGradAttribution(forward_func).attribute(IMAGE, target=target)


def test_a_model_elsewhere():
    with pytest.raises(
        ValueError, match=r"inputs are on cpu, the model is on meta.* has no values: load"
    ):
        TGradAttribution(copy.deepcopy(MODEL).to("meta")).attribute(IMAGE, target=0)


TOKENS = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(0, 1), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("method", "model", "inputs"),
    [
        (TGradAttribution(TRAINING), TRAINING, IMAGE),
        (LayerTGradAttribution(TOKENS, TOKENS[0]), TOKENS, torch.tensor([[1], [3]])),
    ],
    ids=["images", "behind tokens"],
)
def test_a_refused_batch_norm_has_not_counted_the_batch(method, model, inputs):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="training mode"):
        method.attribute(inputs, target=0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_batch_statistics_without_training_mode():
    model = nn.Sequential(
        nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(48, 2)
    )
    with pytest.raises(ValueError, match="track_running_stats=True"):
        TGradAttribution(model.eval()).attribute(IMAGE, target=0)


def test_mixed_samples_are_refused_rather_than_guessed():
    def mixing(x):
        rows = x.flatten(1).reshape(-1, 2, 3)  # 16 rows, which nothing outside the reshape places
        return (torch.cumsum(rows, 0) + 1).reshape(len(x), 48)[:, :1]

    method = TGradAttribution(mixing)
    with pytest.raises(ValueError, match="one at a time"):
        method.attribute(IMAGE, target=0)
    method.attribute(IMAGE[:1], target=0)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_single_sample_of_a_convolution(dimensions):
    """Convolutions accept it, so that torch fails in the linear layer."""
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](3, 4, 1)
    model = nn.Sequential(convolution, nn.Flatten(), nn.Linear(4 * 2**dimensions, 2)).eval()
    sample = torch.rand(3, *[2] * dimensions)
    with pytest.raises(ValueError, match=r"for one sample, pass inputs.unsqueeze\(0\)"):
        TGradAttribution(model).attribute(sample, target=0)
    with pytest.raises(ValueError, match=r"for one sample, pass inputs.unsqueeze\(0\)"):
        insertion(model, sample, sample, baselines=0, target=0)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):  # a batch of another size
        TGradAttribution(model).attribute(torch.rand(2, 3, *[3] * dimensions), target=0)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_channels_last(dimensions):
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](3, 4, 1)
    model = nn.Sequential(convolution, nn.Flatten(), nn.Linear(4 * 2**dimensions, 2)).eval()
    batch = torch.rand(5, *[2] * dimensions, 3)
    for given, way_out in (
        (batch, r"pass inputs.movedim\(-1, 1\)"),
        (batch[0], r"pass inputs.movedim\(-1, 0\).unsqueeze\(0\)"),
    ):
        with pytest.raises(ValueError, match=f"expects the 3 channels in dimension 1.*{way_out}"):
            TGradAttribution(model).attribute(given, target=0)
        with pytest.raises(ValueError, match=way_out):
            insertion(model, given, torch.rand(given.shape), baselines=0, target=0)
    TGradAttribution(model).attribute(batch.movedim(-1, 1), target=0)
    TGradAttribution(model).attribute(batch[0].movedim(-1, 0).unsqueeze(0), target=0)


def test_a_convolution_inside_that_fails_keeps_its_error():
    """The width of the images is by chance the number of channels that it expects."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(8, 4, 1), nn.Flatten())
    with pytest.raises(RuntimeError, match="to have 8 channels, but got 4"):
        TGradAttribution(model).attribute(torch.rand(1, 3, 8, 8), target=0)


def test_the_only_class_is_0():
    with pytest.raises(ValueError, match=r"target 1 is out of range.*must be 0 or None"):
        TGradAttribution(nn.Linear(3, 1)).attribute(torch.rand(2, 3), target=1)


def test_an_object_that_has_a_model():
    with pytest.raises(TypeError, match="got SimpleNamespace: pass its model"):
        TGradAttribution(SimpleNamespace(model=nn.Linear(3, 1)))
    with pytest.raises(TypeError, match="got SimpleNamespace: pass its model"):
        insertion(SimpleNamespace(model=nn.Linear(3, 1)), torch.ones(1, 3), torch.ones(1, 3))


class _Squeezing(nn.Module):
    """Ends in ``squeeze``, which without ``dimensions`` also drops that of a batch of one."""

    def __init__(self, classes, *dimensions):
        super().__init__()
        self.dimensions = dimensions
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3))).squeeze(*self.dimensions)


METHODS_AND_METRICS = {
    "t_grad": lambda model, x, **target: TGradAttribution(model).attribute(x, **target),
    "layer": lambda model, x, **target: LayerTGradAttribution(model, model.conv).attribute(
        x, **target
    ),
    "cam": lambda model, x, **target: CamAttribution(model, GradCAM).attribute(x, **target),
    "metric": lambda model, x, **target: (
        insertion(model, x, x, baselines=0, n_steps=2, max_examples_per_batch=1, **target).insertion
    ),
}


@pytest.mark.parametrize("name", METHODS_AND_METRICS)
def test_a_model_that_squeezes_a_batch_of_one(name):
    """One output for each sample is accepted; several are not, as they may be samples."""
    compute, x = METHODS_AND_METRICS[name], torch.rand(2, 3, 6, 6).double()
    model = _Squeezing(1).double().eval()
    expected = compute(_Squeezing(1, 1).double().eval(), x)
    torch.testing.assert_close(compute(model, x), expected)
    torch.testing.assert_close(compute(model, x[:1]), expected[:1])
    model = _Squeezing(3).double().eval()
    said = r"shape \(3,\) for a batch of 1; .* model squeezes, pass lambda x: model\(x\)\.reshape"
    with pytest.raises(ValueError, match=said):
        compute(model, x[:1], target=1)


@pytest.mark.parametrize("options", [{"sign": "both"}, {"aggregation": "mean"}])
def test_options_are_checked_before_the_model_runs(options):
    model = copy.deepcopy(MODEL)
    model.register_forward_hook(lambda *_: pytest.fail("the model ran"))
    for method in (TGradAttribution(model), LayerTGradAttribution(model, model[0])):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            method.attribute(IMAGE, 0, **options)


def test_forward_func_is_checked_at_construction():
    for method in (
        TGradAttribution,
        FullGradAttribution,
        lambda model: LayerTGradAttribution(model, MODEL[0]),
        lambda model: CamAttribution(model, GradCAM),
    ):
        with pytest.raises(TypeError, match=r"forward_func must be a module .* got str"):
            method("model.pth")
        with pytest.raises(TypeError, match="forward_func is the class Flatten"):
            method(nn.Flatten)
