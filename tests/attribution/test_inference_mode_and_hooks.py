"""Models that were built under inference_mode, and attributions inside of attributions."""

import copy

import pytest
import pytorch_grad_cam
import torch
from torch import nn

from captum_tgrad import (
    CamAttribution,
    FullGradAttribution,
    LayerTGradAttribution,
    TGradAttribution,
)

INPUTS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def _network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(64, 2),
    ).eval()


class _PartlyInference(nn.Module):
    """Runs its first layer under inference_mode."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _network()

    def forward(self, images):
        with torch.inference_mode():
            hidden = self.network[0](images)
        return self.network[1:](hidden)


METHODS = {
    "t_grad": TGradAttribution,
    "full_grad": FullGradAttribution,
    "layer": lambda model: LayerTGradAttribution(model, next(model.children())),
    "cam": lambda model: CamAttribution(model, pytorch_grad_cam.GradCAM),
}


@pytest.mark.parametrize("name", ["t_grad", "full_grad", "layer"])
def test_a_model_built_under_inference_mode_is_named_as_the_cause(name):
    with torch.inference_mode():
        model = _network()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=r"under torch\.inference_mode, .*copy\.deepcopy\(model\)"):
        METHODS[name](model).attribute(INPUTS, target=0)
    # What the message says works.
    actual = METHODS[name](copy.deepcopy(model)).attribute(INPUTS, target=0)
    torch.testing.assert_close(actual, METHODS[name](_network()).attribute(INPUTS, target=0))
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_part_that_runs_under_inference_mode_is_named_as_the_cause():
    with pytest.raises(ValueError, match=r"made under torch\.inference_mode"):
        TGradAttribution(_PartlyInference()).attribute(INPUTS, target=0)


def test_grad_cam_of_a_model_built_under_inference_mode():
    with torch.inference_mode():
        model = _network()
    actual = METHODS["cam"](model).attribute(INPUTS, target=0)
    torch.testing.assert_close(actual, METHODS["cam"](_network()).attribute(INPUTS, target=0))


@pytest.mark.parametrize("inner", METHODS)
@pytest.mark.parametrize("outer", METHODS)
@pytest.mark.parametrize("of", ["the same model", "another model", "what the hook was given"])
@pytest.mark.parametrize("when", ["forward", "backward"])
def test_an_attribution_inside_a_hook_of_another_changes_neither(outer, inner, of, when):
    """Equal to both by themselves, or refused where a layer is being replaced."""
    model, other = _network(), _network(1)
    of_model = METHODS[outer](model).attribute(INPUTS, target=0)
    explained = {"the same model": model, "another model": other}.get(of, model[3:])
    given = INPUTS if explained is not model[3:] and len(explained) == 6 else None
    alone = METHODS[inner](explained).attribute(
        model[:3](INPUTS).detach() if given is None else given, target=1
    )
    found = []

    def run(tensor):
        if not found and len(tensor) == len(INPUTS):
            found.append(None)
            start = tensor.detach() if given is None else given
            found[0] = METHODS[inner](explained).attribute(start, target=1)

    def hook(module, arguments, output):
        if when == "forward":
            run(output)
        elif output.requires_grad:
            output.register_hook(lambda gradient: run(output))

    handle = model[2].register_forward_hook(hook)
    if outer == "layer" and of == "the same model" and when == "forward":
        with pytest.raises(ValueError, match=r"A hook of forward_func called.*deepcopy"):
            METHODS[outer](model).attribute(INPUTS, target=0)
        handle.remove()
        torch.testing.assert_close(METHODS[outer](model).attribute(INPUTS, target=0), of_model)
        return
    if outer == "cam" and when == "backward":
        pytest.skip("the library's own hooks are on a copy, sample by sample")
    actual = METHODS[outer](model).attribute(INPUTS, target=0)
    handle.remove()
    torch.testing.assert_close(actual, of_model)
    if found:
        torch.testing.assert_close(found[0], alone)
    assert found or outer == "cam"


class _Cancelling(nn.Module):
    """Two branches with large terms of which nothing is left, or 1e-6 of each input."""

    def __init__(self, scale: float, rest: float) -> None:
        super().__init__()
        self.plus, self.scale, self.rest = _network(), scale, rest
        self.minus = copy.deepcopy(self.plus)

    def forward(self, images):
        rest = self.rest * images.sum((1, 2, 3))[:, None]
        return self.scale * self.plus(images) - self.scale * self.minus(images) + rest


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("rest", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_that_cancel_are_no_false_alarm(scale, rest, dtype):
    model, inputs = _Cancelling(scale, rest).to(dtype), INPUTS.to(dtype)
    decomposition = TGradAttribution(model).decompose(inputs, target=0)
    largest = max(float(term.score.abs().max()) for term in decomposition)
    assert float(decomposition.output.abs().max()) < 1e-4 * max(largest, 1)


@pytest.mark.parametrize("fill", [-1e9, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("is_added", [True, False])
def test_a_mask_whose_rounding_is_larger_than_the_output_is_warned_of(fill, is_added):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 4, generator=generator)
    weight = torch.randn(4, 4, generator=generator)
    masked = torch.zeros(5, 5, dtype=torch.bool)
    masked[2] = True  # all keys of one query

    def model(tokens, fill=fill):
        scores = tokens @ weight @ tokens.mT
        if is_added:
            scores = scores + torch.zeros(5, 5).masked_fill(masked, fill)
        else:
            scores = scores.masked_fill(masked, fill)
        return (scores.softmax(-1) @ tokens).relu().sum((1, 2))

    with pytest.warns(UserWarning, match="not reliable: the elements of the term '(add|masked)"):
        TGradAttribution(model).attribute(tokens, channel_dim=-1)
    method = TGradAttribution(lambda tokens: model(tokens, -1e4))
    _, delta = method.attribute(tokens, channel_dim=-1, return_convergence_delta=True)
    assert float(delta.abs().max()) < 1e-2


def test_a_sum_of_elements_that_cancel_is_no_false_alarm():
    def model(images):
        return (torch.exp(3 * images) - torch.exp(3 * images).flip(2)).sum((2, 3))

    TGradAttribution(model).attribute(INPUTS, target=0)  # a warning is an error


@pytest.mark.parametrize("name", METHODS)
def test_additional_arguments_and_targets_made_under_inference_mode(name):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = _network()

        def forward(self, images, factor):
            return self.network(images * factor[:, None, None, None]) * factor[:, None]

    method, factor, target = (
        METHODS[name](Scaled()),
        torch.tensor([1.5, -2.0]),
        torch.tensor([0, 1]),
    )
    expected = method.attribute(INPUTS, target, factor)
    with torch.inference_mode():
        made_there = target.clone(), factor.clone()
    assert torch.equal(method.attribute(INPUTS, *made_there), expected)
