"""CamAttribution leaves the model unchanged, finds the layer and reports bad input."""

import pickle
import threading

import pytest
import torch
from pytorch_grad_cam import (
    SESS,
    AblationCAM,
    DeepFeatureFactorization,
    EigenCAM,
    FullGrad,
    GradCAM,
    GuidedBackpropReLUModel,
    RefineCAM,
    ScoreCAM,
    ShapleyCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from captum_tgrad import CamAttribution
from tests.attribution.test_cam import (
    TARGETS,
    assert_same_maps,
    images,
    network,
    without_overwriting,
)
from tests.model_state import state_of

CAM_CLASSES = [AblationCAM, EigenCAM, FullGrad, GradCAM, ScoreCAM, ShapleyCAM]
every_cam = pytest.mark.parametrize("cam_class", CAM_CLASSES)


class FailsLater(nn.Module):
    """Fails from the n-th call on, in the middle of what the library does with the model."""

    calls = 0
    allowed = 10**9

    def forward(self, x):
        type(self).calls += 1
        if self.calls > self.allowed:
            raise RuntimeError("half-way")
        return x


@pytest.fixture
def model():
    FailsLater.calls, FailsLater.allowed = 0, 10**9
    model = network().insert(5, FailsLater())
    model.train()
    model[1].eval()  # a module's own flag, which a blanket eval() or train() would lose
    model[0].weight.requires_grad_(False)
    model[9].weight.grad = torch.ones_like(model[9].weight)
    model[1].register_forward_hook(lambda *_: None)
    return model


@every_cam
@pytest.mark.parametrize(
    ("allowed", "target", "error"),
    [
        (10**9, TARGETS, None),
        (10**9, 99, ValueError),
        (10**9, [0, 1], ValueError),
        (0, 1, RuntimeError),  # in the probe
        (1, 1, RuntimeError),  # in the library's first pass
        (3, 1, RuntimeError),  # in AblationCAM while a layer is replaced, in ScoreCAM's scores
    ],
)
def test_model_and_inputs_are_as_before(cam_class, allowed, target, error, model):
    x = images().requires_grad_()
    values, before = x.detach().clone(), state_of(model)
    FailsLater.allowed = allowed
    method = CamAttribution(model, cam_class, [model[4]])
    many = cam_class in (AblationCAM, ScoreCAM)
    if error is None or (allowed == 3 and not many):
        assert not method.attribute(x, target=target).requires_grad
    else:
        with pytest.raises(error):
            method.attribute(x, target=target)
    assert state_of(model) == before
    assert torch.equal(x, values)
    assert x.requires_grad
    assert x.grad is None
    assert x._backward_hooks is None


def test_the_librarys_default_layer_keeps_no_activations(model):
    default = AblationCAM.__init__.__defaults__[1]
    default.activations = "as before"
    CamAttribution(model, AblationCAM).attribute(images(), 1)
    assert default.activations == "as before"
    given = type(default)()
    CamAttribution(model, AblationCAM, ablation_layer=given).attribute(images(), 1)
    assert "activations" not in vars(given)


@every_cam
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_any_gradient_mode_gives_the_same(cam_class, context, model):
    method = CamAttribution(model, cam_class)
    expected = method.attribute(images(), TARGETS)
    with context():
        assert torch.equal(method.attribute(images(), torch.tensor(TARGETS)), expected)


@every_cam
def test_frozen_parameters_give_the_same(cam_class, model):
    expected = CamAttribution(model, cam_class).attribute(images(), TARGETS)
    model.requires_grad_(False)
    assert torch.equal(CamAttribution(model, cam_class).attribute(images(), TARGETS), expected)


def test_weights_are_those_of_now(model):
    method = CamAttribution(model, GradCAM, [model[4]])
    before = method.attribute(images(), TARGETS)
    with torch.no_grad():
        model[4].weight.mul_(-1)
    after = method.attribute(images(), TARGETS)
    assert not torch.allclose(before, after, atol=0.05)
    assert torch.equal(
        after, CamAttribution(model, GradCAM, [model[4]]).attribute(images(), TARGETS)
    )


def test_an_input_that_the_model_overwrites_is_kept():
    model, x = network().insert(0, nn.ReLU(inplace=True)), images()
    values = x.clone()
    maps = CamAttribution(model, GradCAM, [model[5]]).attribute(x, TARGETS)
    assert torch.equal(x, values)
    twin = without_overwriting(model)
    own = GradCAM(twin, [twin[5]])(x.clone(), [ClassifierOutputTarget(t) for t in TARGETS])
    assert_same_maps(maps, torch.from_numpy(own)[:, None])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_a_weight_that_is_computed_can_be_copied():
    model = network()
    nn.utils.weight_norm(model[4])
    model(images())
    expected = CamAttribution(network(), GradCAM).attribute(images(), TARGETS)
    maps = CamAttribution(model, GradCAM).attribute(images(), TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)


def test_a_compiled_model_is_the_model(model):
    compiled = torch.compile(model, backend="eager")
    expected = CamAttribution(model, GradCAM).attribute(images(), TARGETS)
    assert torch.equal(CamAttribution(compiled, GradCAM).attribute(images(), TARGETS), expected)


def test_threads_do_not_disturb_each_other(model):
    method = CamAttribution(model, ScoreCAM)
    expected, results = method.attribute(images(), TARGETS), []
    threads = [
        threading.Thread(target=lambda: results.append(method.attribute(images(), TARGETS)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(torch.equal(result, expected) for result in results)


class ListedBackwards(nn.Module):
    """Its convolutions run in the reverse of the order they are listed in; a gate comes last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.gate = nn.Conv2d(6, 6, 1)
        self.last = nn.Conv2d(8, 6, 3)
        self.first = nn.Conv2d(3, 8, 3)
        self.never = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        pooled = self.last(self.first(x).relu()).mean((2, 3), keepdim=True)
        return self.head((pooled * self.gate(pooled)).flatten(1))


def test_the_last_convolution_is_the_last_that_runs_and_has_places():
    torch.manual_seed(1)
    model = ListedBackwards().eval()
    expected = CamAttribution(model, GradCAM, [model.last]).attribute(images(), 2)
    assert float(expected.max()) > 0.9
    assert torch.equal(CamAttribution(model, GradCAM).attribute(images(), 2), expected)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(1440, 3)), "it has none"),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten()),
            "has a spatial output",
        ),
    ],
)
def test_a_model_without_a_convolution_to_take(model, reason):
    with pytest.raises(ValueError, match=f"target_layers is missing.*{reason}"):
        CamAttribution(model, GradCAM).attribute(images(), 0)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("cam_class", "options"), [(FullGrad, {}), (SESS, {"num_scales": 2})])
def test_full_grad_needs_no_layer(model, cam_class, options):
    options = {"base_method": FullGrad, **options} if options else {}
    none, empty = (
        CamAttribution(model, cam_class, layers, **options).attribute(images(), TARGETS)
        for layers in (None, [])
    )
    assert float(none.max()) > 0.9
    assert torch.equal(none, empty)


def test_refine_cam_constructs_a_full_grad_for_each_layer(model):
    none, last = (
        CamAttribution(model, RefineCAM, layers, base_method=FullGrad).attribute(images(), TARGETS)
        for layers in (None, [model[4]])
    )
    assert torch.equal(none, last)
    with pytest.raises(ValueError, match="target_layers is empty"):
        CamAttribution(model, RefineCAM, [], base_method=FullGrad)


def test_a_list_of_layers_that_changes_later(model):
    layers = [model[4]]
    method = CamAttribution(model, GradCAM, layers)
    expected = method.attribute(images(), TARGETS)
    layers[:] = [model[0]]
    assert torch.equal(method.attribute(images(), TARGETS), expected)


def test_a_layer_may_be_without_parameters():
    model = nn.Sequential(nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    maps = CamAttribution(model, GradCAM, [model[0]]).attribute(images(), [0, 1, 2])
    assert float(maps.max()) > 0.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((network(), GuidedBackpropReLUModel), TypeError, "captum.attr.GuidedBackprop"),
        ((network(), DeepFeatureFactorization), TypeError, "not a class activation map"),
        ((network(), "GradCAM"), TypeError, "cam_class must be a class"),
        ((network(), network()), TypeError, "cam_class must be a class"),
        ((lambda x: x, GradCAM), TypeError, "forward_func must be a torch.nn.Module, .* function"),
        ((GradCAM, network()), TypeError, "forward_func must be .* Pass the model first"),
        ((network(), GradCAM, network()[4]), TypeError, "must be a list of modules"),
        ((network(), GradCAM, []), ValueError, "target_layers is empty: give at least one module"),
        ((network(), GradCAM, ["4"]), TypeError, r"target_layers\[0\] must be a module .* got str"),
        ((network(), GradCAM, [network()[4]]), ValueError, "is not a module of the model"),
    ],
)
def test_mistakes_in_constructing(arguments, error, message):
    with pytest.raises(error, match=message):
        CamAttribution(*arguments)


def test_an_argument_that_the_class_does_not_take():
    with pytest.raises(TypeError, match=r"GradCAM cannot be constructed with.*kernel.*It accepts"):
        CamAttribution(network(), GradCAM, kernel="rbf")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([images()], TypeError, "inputs must be a torch.Tensor, got a list"),
        (images().int(), TypeError, "inputs has dtype torch.int32"),
        ((images(), images()), ValueError, "inputs has 2 tensors"),
        (torch.rand(2, 5), ValueError, r"inputs has shape \(2, 5\)"),
        (images()[:0], ValueError, "at least one sample"),
        (images() * torch.nan, ValueError, "NaN or inf in sample 0, 1, 2"),
    ],
)
def test_mistakes_in_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        CamAttribution(network(), GradCAM).attribute(inputs, 1)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (5, ValueError, "target 5 is out of range"),
        ([0, 1], ValueError, "target must hold one target per sample, got 2 for 3"),
        (1.5, TypeError, "target must be an int"),
        ((1, 2), ValueError, "has 2 indices"),
    ],
)
def test_mistakes_in_targets(target, error, message):
    with pytest.raises(error, match=message):
        CamAttribution(network(), GradCAM).attribute(images(), target)


def test_a_model_that_returns_no_tensor():
    class Named(nn.Sequential):
        def forward(self, x):
            return {"out": super().forward(x)}

    with pytest.raises(TypeError, match="must return a tensor, got dict"):
        CamAttribution(Named(*network()), GradCAM).attribute(images(), 1)


def test_a_model_that_cannot_be_copied():
    model = network()
    model.lock = threading.Lock()
    with pytest.raises(TypeError, match=r"model cannot be copied.*Pass the submodule") as caught:
        CamAttribution(model, GradCAM).attribute(images(), 1)
    assert isinstance(caught.value.__cause__, (TypeError, pickle.PicklingError))


def test_a_layer_that_was_replaced_after_the_construction():
    model = network()
    method = CamAttribution(model, GradCAM, [model[4]])
    model[4] = nn.Conv2d(8, 6, 3)
    with pytest.raises(ValueError, match=r"target_layers\[0\] .Conv2d. is not a module of the"):
        method.attribute(images(), TARGETS)


def test_errors_that_are_due_to_the_inputs_or_the_arguments():
    method = CamAttribution(network(), GradCAM)
    with pytest.raises(ValueError, match=r"inputs are in torch\.float64, but the model's"):
        method.attribute(images().double(), TARGETS)
    with pytest.raises(TypeError, match="additional_forward_args are passed to forward_func after"):
        method.attribute(images(), TARGETS, 0.5)
