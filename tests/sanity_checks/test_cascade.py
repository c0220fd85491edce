"""The randomization test as a user calls it."""

import copy
import gc
import random
import weakref

import numpy as np
import pytest
import scipy.stats
import torch
from captum.attr import (
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerActivation,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from pytorch_grad_cam import EigenCAM, GradCAM
from torch import nn
from torch.nn.modules import module as torch_module

from captum_tgrad import CamAttribution, TGradAttribution
from captum_tgrad.sanity_checks import cascading_randomization, smooth_mprt
from tests.model_state import state_of
from tests.sanity_checks.networks import Bare, images, network

LAYERS = [None, "6", "3", "1", "0"]


class Noting:
    """A factory that keeps the weights of each network that is explained."""

    def __init__(self):
        self.states, self.models = [], []

    def __call__(self, model):
        class Method(Saliency):
            def attribute(method, *args, **kwargs):  # noqa: N805 - self is the factory's
                self.states.append(copy.deepcopy(model.state_dict()))
                return super().attribute(*args, **kwargs)

        self.models.append(weakref.ref(model))
        return Method(model)


def changed_layers(before, after):
    """The layers with changed tensors, and whether none of their tensors stayed as it was."""
    changed = {
        name: not torch.equal(value, after[name])
        for name, value in before.items()
        if "num_batches" not in name
    }
    layers = {name.split(".")[0] for name, differs in changed.items() if differs}
    assert all(differs == (name.split(".")[0] in layers) for name, differs in changed.items())
    return layers


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_one_layer_after_the_other_all_of_it(mode):
    model, noting = network(), Noting()
    steps = list(cascading_randomization(model, noting, images(), 1, mode=mode))
    assert [step.layer for step in steps] == LAYERS
    assert [(step.index, step.steps) for step in steps] == [(n, 5) for n in range(5)]
    trained = model.state_dict()
    changed = [changed_layers(trained, state) for state in noting.states]
    if mode == "cascading":
        assert changed == [set(), {"6"}, {"6", "3"}, {"6", "3", "1"}, {"6", "3", "1", "0"}]
    else:
        assert changed == [set(), {"6"}, {"3"}, {"1"}, {"0"}]
    assert not {id(state["6.weight"]) for state in noting.states} & {id(trained["6.weight"])}


def test_finding_the_layers_updates_no_statistics():
    model, noting = network().train(), Noting()
    next(cascading_randomization(model, noting, images(), 1))
    assert changed_layers(model.state_dict(), noting.states[0]) == set()


def test_maps_and_similarities_are_those_of_the_randomized_networks():
    model, noting, x = network(), Noting(), images()
    steps = list(cascading_randomization(model, noting, x, [1, 3], attribute_kwargs={"abs": False}))
    trained = Saliency(model).attribute(x, [1, 3], abs=False).sum(1, keepdim=True)
    for step, state in zip(steps, noting.states, strict=True):
        twin = network()
        twin.load_state_dict(state)
        expected = Saliency(twin).attribute(x, [1, 3], abs=False).sum(1, keepdim=True)
        torch.testing.assert_close(step.map, expected)
        for sample in range(2):
            rho = scipy.stats.spearmanr(trained[sample].flatten(), expected[sample].flatten())
            assert float(step.spearman[sample]) == pytest.approx(rho.statistic, abs=1e-6)
    assert steps[0].spearman.tolist() == pytest.approx([1, 1])
    assert steps[0].ssim_absolute.tolist() == pytest.approx([1, 1])
    assert all(float(step.spearman.max()) < 0.99 for step in steps[1:])


METHODS = {
    "t_grad": TGradAttribution,
    "integrated_gradients": IntegratedGradients,
    "noise_tunnel": lambda copy: NoiseTunnel(Saliency(copy)),
    "layer_grad_cam": lambda copy: LayerGradCam(copy, copy[3]),
    "layer_activation": lambda copy: LayerActivation(copy, copy[3]),
    "guided_grad_cam": lambda copy: GuidedGradCam(copy, copy[3]),
    "grad_cam": lambda copy: CamAttribution(copy, GradCAM, [copy[3]]),
    "wrapped": lambda copy: Saliency(lambda x: copy(x).softmax(1)),
    "bound": lambda copy: Saliency(copy.forward),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
@pytest.mark.parametrize("name", METHODS)
def test_any_attribution(name):
    class Targetless(LayerActivation):
        def attribute(self, inputs, target):
            return super().attribute(inputs)

    factory = METHODS[name]
    if name == "layer_activation":
        factory = lambda copy: Targetless(copy, copy[3])  # noqa: E731
    steps = list(cascading_randomization(network(), factory, images(), 1))
    assert [step.layer for step in steps] == LAYERS
    coarse = name.startswith("layer")
    assert all(step.map.shape == ((2, 1, 8, 10) if coarse else (2, 1, 12, 14)) for step in steps)
    assert float(steps[0].spearman[0]) == pytest.approx(1)
    assert float(steps[1].spearman[0]) < 1 - 1e-6 or name == "layer_activation"
    assert not torch.allclose(steps[0].map, steps[-1].map, rtol=0.1)


def test_features_and_bare_parameters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    steps = list(cascading_randomization(model, Saliency, torch.rand(4, 6), 0))
    assert [step.map.shape for step in steps] == [(4, 6)] * 3
    assert bool(steps[1].ssim.isnan().all())
    bare = list(cascading_randomization(Bare(), Saliency, images(), 0))
    assert [step.layer for step in bare] == [None, "body", "Bare"]
    assert bool((bare[1].spearman < 0.9).all())
    # The network is linear: its gradient knows nothing of the shift.
    assert torch.equal(bare[1].map, bare[2].map)


@pytest.mark.parametrize(
    ("channel_dim", "shape"), [(-1, (2, 1, 10)), ((2,), (2, 1, 10)), (None, (2, 1, 10, 6))]
)
def test_the_channels_are_summed_wherever_they_are(channel_dim, shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Flatten(), nn.Linear(80, 3))
    tokens, options = torch.rand(2, 10, 6), {"channel_dim": channel_dim}
    first, *_ = cascading_randomization(
        model, TGradAttribution, tokens, 0, attribute_kwargs=options
    )
    assert first.map.shape == shape
    attributions = TGradAttribution(model).attribute(tokens, 0, **options)
    expected = attributions if channel_dim is None else attributions.sum(-1)
    torch.testing.assert_close(first.map, expected[:, None])


def test_a_map_that_the_network_does_not_make_stays_as_it_is():
    class Picture(Saliency):
        def attribute(self, inputs, target=None):
            self.forward_func(inputs)
            return inputs.clone()

    steps = list(cascading_randomization(network(), Picture, images(), 1))
    assert all(step.spearman.tolist() == pytest.approx([1, 1]) for step in steps)
    # Without its own last convolution's weights, EigenCAM sees nothing of the classifier.
    factory = lambda copy: CamAttribution(copy, EigenCAM, [copy[3]])  # noqa: E731
    eigen = list(cascading_randomization(network(), factory, images()))
    assert torch.equal(eigen[0].map, eigen[1].map)
    assert not torch.equal(eigen[0].map, eigen[2].map)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_layers_inside_a_scripted_module():
    model = network()
    scripted = nn.Sequential(torch.jit.script(model[:5]), *model[5:]).eval()
    steps = list(cascading_randomization(model, Saliency, images(), target=1))
    found = list(cascading_randomization(scripted, Saliency, images(), target=1))
    assert [step.layer for step in steps] == [None, "6", "3", "1", "0"]
    assert [step.layer for step in found] == [None, "2", "0.3", "0.1", "0.0"]
    for one, other in zip(steps, found, strict=True):
        torch.testing.assert_close(other.map, one.map)


def test_a_model_that_overwrites_its_inputs_gives_the_same():
    method, centered = TGradAttribution, images() - 0.5
    expected, actual = (
        list(cascading_randomization(nn.Sequential(nn.ReLU(inplace), network()), method, x, 1))
        for inplace, x in ((False, centered), (True, centered.clone().requires_grad_()))
    )
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one.map, other.map)


def test_the_method_gets_the_models_own_modes():
    model, modes = network().train(), []
    model[3].eval()

    def factory(copied):
        modes.append([module.training for module in copied.modules()])
        return Saliency(copied)

    list(cascading_randomization(model, factory, images(), 1))
    assert modes == [[module.training for module in model.modules()]] * len(modes)
    assert len(set(modes[0])) == 2


def test_tensors_made_under_inference_mode():
    class Scaled(nn.Sequential):
        def forward(self, x, factor):
            return super().forward(x) * factor

    model = Scaled(*network())
    with torch.inference_mode():
        x, target, factor = images(), torch.tensor([1, 3]), torch.tensor([[2.0], [3.0]])
    arguments = [x.clone(), target.clone(), factor.clone()]
    expected, actual = (
        list(cascading_randomization(model, Saliency, *each[:2], additional_forward_args=each[2]))
        for each in (arguments, (x, target, factor))
    )
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one.map, other.map)


@pytest.mark.filterwarnings("ignore:Using `torch.compile.module.` when there are global hooks")
def test_a_compiled_model_and_a_compiled_part():
    model = network()
    expected = list(cascading_randomization(model, Saliency, images(), 1))
    compiled = torch.compile(network(), backend="eager")
    part = nn.Sequential(torch.compile(model[:5], backend="eager"), *model[5:])
    compiled(images()), part(images())
    whole = list(cascading_randomization(compiled, Saliency, images(), 1))
    partly = list(cascading_randomization(part, Saliency, images(), 1))
    names = [None, "2", "0._orig_mod.3", "0._orig_mod.1", "0._orig_mod.0"]
    assert [step.layer for step in whole] == LAYERS
    assert [step.layer for step in partly] == names
    for steps in (whole, partly):
        for one, other in zip(steps, expected, strict=True):
            torch.testing.assert_close(one.map, other.map)


def test_options_that_change_during_the_iteration():
    options = {"abs": False}
    steps = cascading_randomization(network(), Saliency, images(), 1, attribute_kwargs=options)
    options["abs"] = True
    expected = Saliency(network()).attribute(images(), 1, abs=False).sum(1, keepdim=True)
    torch.testing.assert_close(next(steps).map, expected)
    assert all(bool((step.map < 0).any()) for step in steps)


def test_the_seed_is_that_of_the_new_values():
    one, again, another = (
        list(cascading_randomization(network(), Saliency, images(), 1, seed=seed))[1].map
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, another)


@pytest.mark.parametrize(("outputs", "expected"), [(1, None), (2, [1, 1])])
def test_a_missing_target_is_chosen_among_several_classes_only(outputs, expected):
    targets = []

    class Listening(Saliency):
        def attribute(self, inputs, target=None):
            targets.append(target if target is None else target.tolist())
            return super().attribute(inputs, target)

    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 14, outputs))
    model[1].bias.data.copy_(100 * torch.arange(outputs))
    list(cascading_randomization(model, Listening, images()))
    assert targets == [expected] * 2


def test_maps_keep_no_graph():
    class Weighted(Saliency):
        def attribute(self, inputs, target=None):
            return inputs * self.forward_func(inputs)[:, :1, None, None]

    steps = list(cascading_randomization(network(), Weighted, images(), 1))
    assert not any(step.map.requires_grad for step in steps)


def test_without_a_target_the_class_predicted_by_the_trained_network_stays():
    model, x = network(), images(3)
    predicted = model(x).argmax(1)
    steps = list(cascading_randomization(model, Saliency, x))
    same = list(cascading_randomization(model, Saliency, x, predicted))
    assert all(torch.equal(a.map, b.map) for a, b in zip(steps, same, strict=True))
    wrapped = cascading_randomization(model, lambda m: Saliency(lambda x: m(x).amax(1)), x)
    assert len(list(wrapped)) == 5


def test_further_arguments_and_a_scalar_output():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x, factor):
            return (self.body(x) * factor[:, None]).sum(1)

    factor = torch.tensor([1.0, -2.0])
    steps = list(
        cascading_randomization(Scaled(), Saliency, images(), additional_forward_args=factor)
    )
    assert len(steps) == 5


def draws(*_):
    torch.rand(())


class DrawsFromAll(Saliency):
    def __init__(self, model):
        random.random(), np.random.rand(), torch.rand(())
        super().__init__(model)

    def attribute(self, *args, **kwargs):
        random.random(), np.random.rand(), torch.rand(())
        return super().attribute(*args, **kwargs)


def test_the_same_seed_gives_the_same_and_leaves_the_generators_alone():
    def run(seed):
        noisy = lambda copy: NoiseTunnel(Saliency(copy))  # noqa: E731
        return list(cascading_randomization(network(), noisy, images(), 1, seed=seed))

    def others_random_numbers():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = run(0)
    model = network()
    model.register_forward_pre_hook(draws)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = others_random_numbers()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    assert len(list(cascading_randomization(model, DrawsFromAll, images(), 1))) == 5
    assert others_random_numbers() == expected
    torch.manual_seed(12)
    again, another = run(0), run(1)
    assert all(torch.equal(a.map, b.map) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1].map, another[1].map)


class FailsLater(Saliency):
    calls = 0

    def attribute(self, *args, **kwargs):
        type(self).calls += 1
        if self.calls == 3:
            raise RuntimeError("half-way")
        return super().attribute(*args, **kwargs)


@pytest.mark.parametrize("mode", ["cascading", "independent"])
@pytest.mark.parametrize("ending", ["end", "error", "abandoned"])
def test_the_users_model_is_bit_for_bit_as_before(mode, ending):
    FailsLater.calls = 0
    model = network()
    model[0].train()
    model[0].weight.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    model[1].register_forward_hook(lambda *_: None)
    x = images().requires_grad_()
    values, before = x.detach().clone(), state_of(model)
    factory = FailsLater if ending == "error" else Saliency
    steps = cascading_randomization(model, factory, x, 1, mode=mode)
    if ending == "end":
        assert len(list(steps)) == 5
    elif ending == "abandoned":
        next(steps)
        next(steps)
        del steps
    else:
        with pytest.raises(RuntimeError, match="half-way"):
            list(steps)
    assert state_of(model) == before
    assert torch.equal(x, values)
    assert x.requires_grad
    assert x.grad is None


@pytest.mark.parametrize("ending", ["end", "error", "abandoned"])
def test_the_copy_is_dropped(ending):
    noting = Noting()
    steps = cascading_randomization(network(), noting, images(), 1)
    next(steps)
    assert noting.models[0]() is not None
    if ending == "end":
        list(steps)
    elif ending == "error":
        with pytest.raises(RuntimeError, match="stop"):
            steps.throw(RuntimeError("stop"))
    del steps
    gc.collect()
    assert all(model() is None for model in noting.models)


@pytest.mark.parametrize("method", [TGradAttribution, Saliency])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_any_gradient_mode_gives_the_same_and_is_not_left(context, method):
    expected = list(cascading_randomization(network(), method, images(), 1))
    with context():
        steps = cascading_randomization(network(), method, images(), 1)
        for step, other in zip(steps, expected, strict=True):
            assert torch.equal(step.map, other.map)
            assert not torch.is_grad_enabled()


model_itself = network()


@pytest.mark.parametrize(
    "factory",
    [
        lambda _: Saliency(model_itself),
        lambda _: Saliency(lambda x: model_itself(x)),
        lambda _: Saliency(model_itself.forward),
        lambda copy: LayerGradCam(copy, model_itself[3]),
        lambda _: NoiseTunnel(Saliency(model_itself)),
        lambda copy: Saliency(lambda x: copy(x) + model_itself(x)),
        lambda _: Saliency(
            lambda x: x[:, :1, :8, :10].repeat(1, 4, 1, 1).flatten(1) @ model_itself[6].weight.T
        ),
    ],
)
def test_a_method_of_another_model_than_the_copy(factory):
    with pytest.raises(ValueError, match=r"attribution_factory returned a method .* the model it"):
        cascading_randomization(model_itself, factory, images(), 1)
    assert not torch_module._global_forward_pre_hooks


@pytest.mark.parametrize("function", [cascading_randomization, smooth_mprt])
def test_a_layer_of_another_model_inside_of_other_methods(function):
    def factory(copied):
        return NoiseTunnel(LayerGradCam(copied, model_itself[3]))

    with pytest.raises(ValueError, match="holds modules of your model itself"):
        function(model_itself, factory, images(), 1)


def test_what_a_factory_may_not_return():
    with pytest.raises(TypeError, match="must return a Captum attribution"):
        cascading_randomization(network(), lambda copy: copy, images(), 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factory", [Saliency, InputXGradient, TGradAttribution])
def test_captum_does_not_warn_about_the_copy_of_the_inputs(factory):
    x = images()
    assert len(list(cascading_randomization(network(), factory, x, 1))) == 5
    assert not x.requires_grad


def test_a_step_prints_its_numbers_and_not_its_map():
    step = next(cascading_randomization(network(), TGradAttribution, images(), 1))
    assert repr(step).startswith("RandomizationStep(layer=None, index=0, steps=5, spearman=tensor(")


def test_steps_can_be_looked_up_and_put_into_sets():
    one, other = (
        list(cascading_randomization(network(), TGradAttribution, images(), 1)) for _ in range(2)
    )
    assert one[1] not in other
    assert len({*one, *other}) == 10


class Returning(Saliency):
    value = None

    def attribute(self, inputs, target=None):
        self.forward_func(inputs)
        return self.value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2)), TypeError, "return_convergence_delta"),
        (torch.zeros(2), ValueError, r"returned shape \(2,\) for 2 samples"),
        (torch.zeros(3, 1, 4, 4), ValueError, r"returned shape \(3, 1, 4, 4\) for 2 samples"),
    ],
)
def test_what_a_method_may_not_return(value, error, message):
    Returning.value = value
    with pytest.raises(error, match=message):
        cascading_randomization(network(), Returning, images(), 1)


def test_a_method_may_return_one_map_in_a_tuple():
    Returning.value = (torch.rand(2, 3, 4, 4),)
    first = next(cascading_randomization(network(), Returning, images(), 1))
    torch.testing.assert_close(first.map, Returning.value[0].sum(1, keepdim=True))


def test_what_a_method_may_not_return_after_a_step():
    Returning.value = torch.rand(2, 1, 4, 4)
    steps = cascading_randomization(network(), Returning, images(), 1)
    next(steps)
    Returning.value = None
    with pytest.raises(TypeError, match="got NoneType after '6' was randomized"):
        next(steps)


def test_maps_that_change_their_shape():
    class Growing(Returning):
        value = None

        def attribute(self, inputs, target=None):
            type(self).value = torch.rand(2, 1, 8, 9 if self.value is None else 10)
            return super().attribute(inputs)

    steps = cascading_randomization(network(), Growing, images(), 1)
    next(steps)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 8, 10\) after '6' was randomized"):
        next(steps)


class Called(Saliency):
    __call__ = Saliency.attribute


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": nn.Sequential(nn.Flatten())}, ValueError, "no layers to randomize"),
        ({"model": lambda x: x}, TypeError, "model must be a torch.nn.Module"),
        ({"model": nn.Flatten}, TypeError, "model is the class Flatten: pass an instance"),
        ({"model": "vgg.pth"}, TypeError, "model must be a module .* got str: load weights"),
        ({"model": torch.jit.script(nn.ReLU())}, TypeError, "model is a scripted module, whose"),
        (
            {"attribution_factory": Saliency(network())},
            TypeError,
            "attribution_factory must be a class .* got a Saliency object: pass Saliency",
        ),
        (
            {"attribution_factory": Saliency(network()).attribute},
            TypeError,
            "attribution_factory must be a class .* got a Saliency object: pass Saliency",
        ),
        (
            {"attribution_factory": Called(network())},
            TypeError,
            "factory must be .* a Called object",
        ),
        ({"attribution_factory": 3}, TypeError, "attribution_factory must be .* got a int object"),
        ({"inputs": [images()]}, TypeError, "inputs must be a torch.Tensor, got a list"),
        ({"inputs": images() * torch.nan}, ValueError, "NaN or inf"),
        ({"inputs": images()[:0]}, ValueError, "at least one sample"),
        ({"inputs": images().long()}, TypeError, "floating-point"),
        ({"inputs": images().double()}, ValueError, "inputs are in torch.float64, but the model's"),
        (
            {"mode": "both"},
            ValueError,
            "mode must be 'cascading', 'bottom_up' or 'inde",
        ),
        ({"seed": "1"}, TypeError, "seed must be an integer of 0 or more, got str"),
        ({"seed": -1}, ValueError, "seed must be an integer of 0 or more, got -1"),
        ({"layers": []}, ValueError, "layers is empty: name at least one module, or pass None"),
        ({"attribute_kwargs": {"target": 1}}, TypeError, "'target': pass it as target instead"),
        ({"layers": "6"}, TypeError, "layers must be a list of names"),
        ({"layers": 6}, TypeError, "layers must be a list of names of modules, .* got int"),
        ({"layers": network()}, TypeError, "layers must be a list of names .* got Sequential"),
        ({"layers": iter(())}, ValueError, "layers is empty: name at least one module"),
        (
            {"layers": torch.tensor(6)},
            TypeError,
            "layers must be a list .* for all layers, got Tens",
        ),
        ({"layers": torch.arange(2)}, TypeError, "layers must hold names .* got Tensor"),
        ({"layers": [6]}, TypeError, "layers must hold names of modules, .* got int"),
        ({"layers": ["fc"]}, ValueError, "no module of that name"),
        ({"layers": ["6", "5"]}, ValueError, "'5', but the forward pass uses none"),
    ],
)
def test_mistakes(changes, error, message):
    arguments = {"model": network(), "attribution_factory": Saliency, "inputs": images()}
    with pytest.raises(error, match=message):
        cascading_randomization(**{**arguments, **changes}, target=1)
