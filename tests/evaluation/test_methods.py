"""The methods by name are those of Captum and grad-cam, called directly."""

import captum.attr
import pytest
import pytorch_grad_cam
import torch

from captum_tgrad import CamAttribution, FullGradAttribution, TGradAttribution
from captum_tgrad.evaluation import METHODS, Explainer, Method, get_method
from captum_tgrad.evaluation.methods.method import black_image, image_seed
from tests.evaluation.networks import classifier, dense_network, images, network

TARGET = [2, 0, 3]


def _noisy(model, image, target, seed):
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        image = image.clone().requires_grad_()
        return tunnel.attribute(
            image, target=target, nt_samples=50, nt_samples_batch_size=32, stdevs=0.1
        )


# What each name stands for: a call of the library it comes from.
DIRECT = {
    "t_grad": lambda model, x, t: TGradAttribution(model).attribute(x, t),
    "t_grad_levels": lambda model, x, t: TGradAttribution(model).attribute(
        x, t, aggregation="levels"
    ),
    "full_grad": lambda model, x, t: FullGradAttribution(model).attribute(x, t),
    "saliency": lambda model, x, t: captum.attr.Saliency(model).attribute(x, t),
    "input_x_gradient": lambda model, x, t: captum.attr.InputXGradient(model).attribute(x, t),
    "integrated_gradients": lambda model, x, t: (
        captum.attr.IntegratedGradients(model)
        .attribute(x, baselines=torch.full_like(x, -1.0), target=t, n_steps=50)
        .float()
    ),
    "smooth_grad": lambda model, x, t: torch.cat(
        [_noisy(model, x[i : i + 1], t[i : i + 1], seed) for i, seed in enumerate((5, 6, 7))]
    ),
    "grad_cam": lambda model, x, t: captum.attr.LayerGradCam(model, model[4]).attribute(
        x, t, relu_attributions=True
    ),
    **{
        name: lambda model, x, t, cam=cam: CamAttribution(model, cam, [model[4]]).attribute(x, t)
        for name, cam in {
            "grad_cam_plus_plus": pytorch_grad_cam.GradCAMPlusPlus,
            "eigen_cam": pytorch_grad_cam.EigenCAM,
            "score_cam": pytorch_grad_cam.ScoreCAM,
            "x_grad_cam": pytorch_grad_cam.XGradCAM,
        }.items()
    },
}


@pytest.mark.parametrize("name", DIRECT)
def test_a_name_stands_for_the_library_s_own_method(name):
    model, inputs = network(), images(3)
    found = METHODS[name].build(classifier(model))(inputs, TARGET, [5, 6, 7])
    inputs = inputs.requires_grad_()
    expected = DIRECT[name](model, inputs, torch.tensor(TARGET))
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_every_method_but_the_control_is_compared_above():
    assert DIRECT.keys() | {"random"} == METHODS.keys()


def test_the_paper_s_table_comes_first_to_last():
    assert next(iter(METHODS)) == "t_grad"
    assert list(METHODS)[-1] == "random"
    assert all(method.name == name and method.cost for name, method in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_an_image_s_map_does_not_depend_on_what_is_beside_it(name):
    explainer = METHODS[name].build(classifier())
    inputs, seeds = images(3), [image_seed(image) for image in "abc"]
    together = explainer(inputs, TARGET, seeds)
    assert not together[0].allclose(together[1])
    for index in range(3):
        one = slice(index, index + 1)
        alone = explainer(inputs[one], TARGET[one], seeds[one])
        torch.testing.assert_close(alone, together[one], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_of_the_user_s_is_changed(name):
    model, inputs = network(), images(2)
    state, before = torch.get_rng_state(), inputs.clone()
    METHODS[name].build(model)(inputs, [1, 2])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inputs, before)
    assert not inputs.requires_grad
    assert inputs.grad is None
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
        assert not module.training
    assert all(each.grad is None and each.requires_grad for each in model.parameters())


def test_a_method_that_overwrites_its_input_changes_no_image():
    inputs = images(2)
    found = Explainer(lambda inputs, *others: (inputs.relu_(), None))(inputs, [1, 2])
    assert torch.equal(found, images(2).relu())
    assert torch.equal(inputs, images(2))


@pytest.mark.parametrize("name", ["smooth_grad", "random"])
def test_randomness_follows_from_the_seed(name):
    explainer, inputs = METHODS[name].build(network()), images(1)
    first, again, other = (explainer(inputs, [0], [seed]) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not first.allclose(other)


@pytest.mark.parametrize("name", ["smooth_grad", "integrated_gradients", "score_cam"])
def test_fewer_examples_at_once_give_the_same_map(name):
    explainer, inputs = METHODS[name].build(classifier()), images(2)
    whole = explainer.with_residual(inputs, [1, 2], [3, 4])[0]
    parts = explainer.with_residual(inputs, [1, 2], [3, 4], examples_at_once=7)[0]
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_t_grad_has_a_residual_and_others_have_none():
    model, inputs = network(), images(2)
    residual = METHODS["t_grad"].build(model).with_residual(inputs, [1, 2])[1]
    direct = TGradAttribution(model).attribute(inputs, [1, 2], return_convergence_delta=True)[1]
    torch.testing.assert_close(residual, direct, rtol=0, atol=0)
    assert METHODS["saliency"].build(model).with_residual(inputs, [1, 2])[1] is None


def test_black_is_what_preprocessing_makes_of_it():
    assert bool((black_image(classifier()) == -1).all())
    # Of a bare model nothing is known, and a black image can be given.
    method, model, inputs = METHODS["integrated_gradients"], network(), images(1)
    at_zero, at_black = method.build(model), method.build(model, black=-1.0)
    known = method.build(classifier(model))
    torch.testing.assert_close(at_black(inputs, [1]), known(inputs, [1]))
    assert not at_zero(inputs, [1]).allclose(at_black(inputs, [1]))


def test_a_cam_without_a_convolution_says_so():
    for name in ("grad_cam", "eigen_cam"):
        with pytest.raises(ValueError, match="no convolution to use"):
            METHODS[name].build(dense_network())(images(1), [0])


@pytest.mark.parametrize(
    ("name", "advice"),
    [("tgrad", "did you mean t_grad"), ("GradCAM", "grad_cam"), ("zzz", "choose from t_grad, ")],
)
def test_a_mistyped_name_is_answered_with_near_ones(name, advice):
    with pytest.raises(ValueError, match=f"method {name!r} not found: .*{advice}"):
        get_method(name)


def test_targets_and_seeds_are_one_for_each_image():
    explainer = METHODS["random"].build(network())
    with pytest.raises(ValueError, match="target must have one entry for each image, got 1 for 2"):
        explainer(images(2), [0])
    with pytest.raises(ValueError, match="seeds must have one entry for each image, got 3 for 2"):
        explainer(images(2), [0, 1], [0, 1, 2])


def test_a_title_of_a_table_is_a_name_too():
    for name, method in METHODS.items():
        assert get_method(method.title) is get_method(f" {method.title.upper()} ") is METHODS[name]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": 1}, "name must be a string, such as '1', got int"),
        ({"name": None}, "name must be a string, such as 'None', got NoneType"),
        ({"title": 1.0}, "title must be a string, such as '1.0', got float"),
        ({"builder": None}, "builder must be a function from a model .* got NoneType"),
        ({"settings": None}, "settings must be a dict, got NoneType"),
    ],
)
def test_mistakes_in_a_method(given, message):
    valid = {"name": "one", "title": "One", "cost": "", "builder": lambda model, black: torch.sign}
    with pytest.raises(TypeError, match=message):
        Method(**{**valid, **given})
