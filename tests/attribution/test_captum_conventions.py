"""What a Captum user expects beside the maps: names, arguments, the convergence delta."""

from collections import OrderedDict, defaultdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import captum_tgrad
from captum_tgrad.attribution import (
    CamAttribution,
    FullGradAttribution,
    LayerTGradAttribution,
    TGradAttribution,
)

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 5)).double()
X = torch.rand(2, 3, 6, 6).double()
METHODS = [
    TGradAttribution(MODEL),
    FullGradAttribution(MODEL),
    LayerTGradAttribution(MODEL, MODEL[1]),
]
methods = pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)


def test_the_methods_are_where_captum_has_its_own():
    assert captum_tgrad.TGradAttribution is TGradAttribution
    assert captum_tgrad.CamAttribution is CamAttribution


@pytest.mark.parametrize("name", ["attribution", "evaluation", "metrics", "visualization", "zoo"])
def test_public_packages_are_attributes(name):
    assert getattr(captum_tgrad, name).__name__ == f"captum_tgrad.{name}"
    assert name in dir(captum_tgrad)


def test_only_public_names_are_listed():
    assert not {"import_module", "Any", "TYPE_CHECKING", "annotations"} & set(dir(captum_tgrad))
    with pytest.raises(AttributeError, match="no attribute 'insertion'"):
        captum_tgrad.insertion  # noqa: B018


@methods
@pytest.mark.parametrize("target", [[-1, -3], torch.tensor([-1, -3]), [(-1,), (-3,)]])
def test_negative_targets_count_from_the_last_class(method, target):
    for sample, number in enumerate([-1, -3]):
        alone = method.attribute(X[sample : sample + 1], target=number)
        assert torch.allclose(method.attribute(X, target=target)[sample], alone[0], atol=1e-12)


@methods
def test_the_convergence_delta_is_the_residual(method):
    attributions = method.attribute(X, target=3)
    delta = method.compute_convergence_delta(attributions, 0, X, target=3)
    torch.testing.assert_close(delta, torch.zeros(2).double(), rtol=0, atol=1e-12)


def test_the_convergence_delta_shows_what_is_missing():
    def with_a_hidden_one(x):
        y = MODEL(x)
        y.data += 1
        return y

    method = TGradAttribution(with_a_hidden_one)
    with pytest.warns(UserWarning, match="Incomplete decomposition"):
        delta = method.compute_convergence_delta(None, 0, X, target=3)
    torch.testing.assert_close(delta, torch.ones(2).double())


@pytest.mark.parametrize("log_softmax", [F.log_softmax, nn.LogSoftmax(1), torch.log_softmax])
def test_a_log_probability_close_to_zero_is_too_coarse(log_softmax):
    classifier = nn.Linear(8, 5)
    options = {} if isinstance(log_softmax, nn.Module) else {"dim": 1}
    x = torch.randn(2, 8)
    target = classifier(x).argmax(1)
    with pytest.warns(UserWarning, match="ends in a log-softmax.*: return the logits"):
        TGradAttribution(lambda x: log_softmax(60 * classifier(x), **options)).attribute(
            x, target=target
        )


@methods
@pytest.mark.parametrize(
    "argument", ["baselines", "n_steps", "method", "internal_batch_size", "multiply_by_inputs"]
)
def test_what_path_methods_take_is_not_needed(method, argument):
    kind = type(method)
    said = f"has no argument {argument!r}: leave it out.* without baselines"
    for name in ("attribute", "decompose"):
        with pytest.raises(TypeError, match=rf"{kind.__name__}\.{name}\(\) {said}"):
            getattr(method, name)(X, target=3, **{argument: 0})
    layer = (MODEL[1],) if kind is LayerTGradAttribution else ()
    with pytest.raises(TypeError, match=rf"^{kind.__name__}\(\) {said}"):
        kind(MODEL, *layer, **{argument: 0})


@methods
def test_a_mistyped_argument(method):
    with pytest.raises(TypeError, match=r"\.attribute\(\) .*'targets': did you mean target\?"):
        method.attribute(X, targets=3)


@methods
def test_a_baseline_in_the_place_of_the_target(method):
    with pytest.raises(TypeError, match=r"target must hold integers.* baselines .* leave them out"):
        method.attribute(X, torch.zeros_like(X))
    with pytest.raises(TypeError, match=r"target must hold integers.* baselines .* leave them out"):
        method.attribute(X, torch.zeros_like(X), 3)
    with pytest.raises(TypeError, match=r"got 0\.0\. .* baselines .* leave them out"):
        method.attribute(X, 0.0, 3)


def test_a_layer_takes_device_ids():
    layer = LayerTGradAttribution(MODEL, MODEL[1], device_ids=None)
    assert layer.attribute(X, target=3).shape == (2, 4, 4, 4)
    with pytest.raises(ValueError, match=r"device_ids are \[0, 1\].* model.module"):
        LayerTGradAttribution(MODEL, MODEL[1], device_ids=[0, 1])


class Outputs(OrderedDict):
    """As in ``transformers``, its items are attributes as well."""

    @property
    def scale(self):
        return self["scale"]


@pytest.mark.parametrize(
    "given", [Outputs(scale=torch.full((2, 1), 2.0).double()), defaultdict(lambda: 2.0)]
)
def test_a_dict_in_the_additional_arguments_keeps_its_class(given):
    def forward(x, options):
        scale = options.scale if isinstance(options, Outputs) else options["scale"]
        return MODEL(x) * scale

    found = TGradAttribution(forward).attribute(X, 1, additional_forward_args=(given,))
    expected = TGradAttribution(lambda x: MODEL(x) * 2).attribute(X, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
