"""T-Grad of layers that are called, built or overwritten in unusual ways."""

import copy
import threading
import warnings

import pytest
import torch
from captum.attr import LayerGradientXActivation
from pytorch_grad_cam import GradCAM
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_tgrad import CamAttribution, LayerTGradAttribution, TGradAttribution
from tests.model_state import state_of


class _Network(nn.Module):
    """A layer inside of a forward pass that the test writes."""

    def __init__(self, layer: nn.Module, run) -> None:
        super().__init__()
        self.layer, self.run = layer, run
        torch.manual_seed(0)
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        return self.after(self.run(self.layer, self.before(x)))


class _FirstTwo(nn.Module):
    def forward(self, x):
        return x[:, :2]


def _inputs() -> torch.Tensor:
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _with_skip(layer, x):
    return layer(x).tanh() + x


def _overwritten_with_skip(layer, x):
    return layer(x).mul_(3).tanh() + x


def _base_overwritten(layer, x):
    view = layer(x)
    x.mul_(2)
    return torch.cat([view, view], 1).tanh()


@pytest.mark.parametrize(
    ("layer", "run", "at_input"),
    [
        (nn.ReLU(inplace=True), _with_skip, True),
        (nn.Identity(), _overwritten_with_skip, False),
        (nn.Identity(), _overwritten_with_skip, True),
        (_FirstTwo(), _base_overwritten, False),
        (_FirstTwo(), _base_overwritten, True),
    ],
)
def test_memory_that_the_activation_shares_is_warned_of_if_it_is_overwritten(layer, run, at_input):
    model, x = _Network(layer, run), _inputs()
    with pytest.warns(
        UserWarning, match=rf"activation of layer \({type(layer).__name__}\)"
    ) as found:
        whole = LayerTGradAttribution(model, layer).decompose(x, 1, None, at_input)
    output = model(x).detach()[:, 1]
    sample = int((whole.output - output).abs().argmax())
    said = f"output of sample {sample} is {float(output[sample]):.3g}, but the attributions explain"
    assert f"{said} {float(whole.output[sample]):.3g}" in str(found[0].message)
    assert f"layer ({type(layer).__name__}) is replaced" in str(found[0].message)


@pytest.mark.filterwarnings("ignore:Incomplete decomposition", "ignore:The attributions of")
def test_another_output_is_warned_of_beside_one_that_is_nan():
    model, x = _Network(nn.Identity(), _overwritten_with_skip), _inputs()
    factor = torch.tensor([[torch.nan], [1.0]])
    method = LayerTGradAttribution(lambda x: model(x) * factor, model.layer)
    with pytest.warns(UserWarning, match="The output of sample 1 is"):
        method.attribute(x, 1)


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize(
    ("layer", "run"),
    [
        (nn.ReLU(inplace=True), lambda layer, x: layer(x).tanh()),
        (nn.Linear(4, 4), lambda layer, x: layer(x).relu_() + x),
        (nn.Identity(), lambda layer, x: layer(x).tanh() + x),
    ],
)
def test_other_in_place_operations_are_not_warned_of(layer, run, at_input):
    model, x = _Network(layer, run), _inputs()
    whole = LayerTGradAttribution(model, layer).decompose(x, 1, None, at_input)
    torch.testing.assert_close(whole.output, model(x).detach()[:, 1])


def test_the_embedding_before_an_in_place_operation_is_explained():
    torch.manual_seed(2)
    embedding, weight = nn.Embedding(5, 3), torch.randn(3)

    def forward(tokens):
        return (embedding(tokens).mul_(3) * weight).sum((1, 2))

    tokens = torch.tensor([[0, 3], [4, 1]])
    whole = LayerTGradAttribution(forward, embedding).decompose(tokens, channel_dim=-1)
    expected = 3 * (embedding(tokens).detach() * weight).sum((1, 2))
    torch.testing.assert_close(whole.input.score, expected)


def test_tokens_that_the_model_overwrites_are_kept():
    embedding, tokens = nn.Embedding(5, 3), torch.tensor([[0, 3], [2, 1]])
    method = LayerTGradAttribution(lambda tokens: embedding(tokens.add_(1)).sum(1), embedding)
    method.attribute(tokens, 0, channel_dim=-1)
    assert tokens.tolist() == [[0, 3], [2, 1]]


def test_running_statistics_after_an_embedding_are_kept():
    embedding, norm = nn.Embedding(5, 3), nn.InstanceNorm1d(3, track_running_stats=True)
    before = state_of(norm)

    def forward(tokens):
        return norm(embedding(tokens).mT).square().sum(2)

    LayerTGradAttribution(forward, embedding).attribute(torch.tensor([[0, 3], [2, 1]]), 0)
    assert state_of(norm) == before


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_training_layer_draws_the_numbers_of_one_forward_pass(number):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3))
    x = torch.randn(2, 4)
    torch.manual_seed(4)
    expected = model(x).detach()[:, 1]
    drawn_next = torch.rand(3)
    torch.manual_seed(4)
    with pytest.warns(UserWarning, match="forward_func draws random numbers"):
        whole = LayerTGradAttribution(model, model[number]).decompose(x, 1)
    torch.testing.assert_close(whole.output, expected)
    assert torch.equal(torch.rand(3), drawn_next)


def test_random_numbers_before_the_layer_are_warned_of():
    torch.manual_seed(3)
    model, x = nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), torch.randn(2, 4)
    with pytest.warns(UserWarning, match="forward_func draws random numbers"):
        LayerTGradAttribution(model, model[0]).attribute(x, 1)
    model[0].p = 0.0  # draws numbers that do not matter
    LayerTGradAttribution(model, model[0]).attribute(x, 1)


def test_a_scripted_layer_says_to_wrap_it():
    scripted = torch.jit.script(nn.Conv2d(3, 4, 1))
    rest = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model, x = nn.Sequential(scripted, *rest).eval(), torch.randn(2, 3, 4, 4)
    with pytest.raises(
        TypeError, match=r"layer \(RecursiveScriptModule\) .* wrap it in nn.Sequent"
    ):
        LayerTGradAttribution(model, scripted)
    with pytest.raises(TypeError, match=r"target_layers\[0\] is a scripted .* wrap it in nn.Sequ"):
        CamAttribution(model, GradCAM, [scripted])
    wrapped = nn.Sequential(nn.Sequential(scripted), *rest).eval()
    actual = LayerTGradAttribution(wrapped, wrapped[0]).attribute(x, 1)
    torch.testing.assert_close(actual, TGradAttribution(rest).attribute(scripted(x).detach(), 1))
    CamAttribution(wrapped, GradCAM, [wrapped[0]]).attribute(x, 1)


@pytest.mark.filterwarnings("ignore:Using `torch.compile.module.` when there are global hooks")
@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_a_layer_inside_of_a_compiled_one(inner, at_input):
    torch.manual_seed(5)
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    layer, x = block[0] if inner else block, torch.randn(2, 4)
    model = nn.Sequential(nn.Tanh(), torch.compile(block, backend="eager"))
    model(x)  # from now on, the compiled code runs without hooks
    actual = LayerTGradAttribution(model, layer).attribute(x, 1, None, at_input)
    plain = nn.Sequential(nn.Tanh(), block)
    expected = LayerTGradAttribution(plain, layer).attribute(x, 1, None, at_input)
    assert torch.equal(actual, expected)


def test_a_layer_of_a_compiled_model_is_that_of_the_model():
    torch.manual_seed(6)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(2, 4)
    compiled = torch.compile(model, backend="eager")
    expected = LayerTGradAttribution(model, model[0]).attribute(x, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns if a compiled module runs with global hooks
        actual = LayerTGradAttribution(compiled, model[0]).attribute(x, 1)
    assert torch.equal(actual, expected)


def test_calls_in_other_threads_do_not_count():
    torch.manual_seed(7)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(2, 4)

    def forward(x):
        output = model(x)
        other = threading.Thread(target=model, args=(5 * x.detach(),))
        other.start()
        other.join()
        return output

    expected = LayerTGradAttribution(model, model[0]).attribute(x, 1)
    assert torch.equal(LayerTGradAttribution(forward, model[0]).attribute(x, 1), expected)


def test_a_copy_that_the_forward_pass_makes_does_not_count():
    torch.manual_seed(8)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(2, 4)

    def forward(x):
        output = model(x)
        copy.deepcopy(model)(5 * x)
        return output

    expected = LayerTGradAttribution(model, model[0]).attribute(x, 1)
    assert torch.equal(LayerTGradAttribution(forward, model[0]).attribute(x, 1), expected)


def test_the_last_of_several_calls_is_explained_as_by_captum():
    model, x = _Network(nn.Linear(4, 4), lambda layer, x: layer(layer(x).tanh()).tanh()), _inputs()
    whole = LayerTGradAttribution(model, model.layer).decompose(x, 1)
    expected = LayerGradientXActivation(model, model.layer).attribute(x, 1)
    torch.testing.assert_close(whole.input.score, expected.sum(1).detach())
    unused = _Network(nn.Linear(4, 4), lambda layer, x: (layer(x).tanh(), layer(x))[0])
    with pytest.raises(ValueError, match=r"not depend on layer \(Linear\).* whose last result"):
        LayerTGradAttribution(unused, unused.layer).attribute(x, 1)


@pytest.mark.parametrize("tokens", [False, True])
def test_an_error_of_the_model_after_the_layer_is_raised(tokens):
    embedding, linear = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(x):
        found = embedding(x) if tokens else linear(x)
        raise RuntimeError(f"half-way, at {tuple(found.shape)}")

    layer, x = (embedding, torch.tensor([[1, 2]])) if tokens else (linear, torch.ones(1, 4))
    with pytest.raises(RuntimeError, match="half-way, at"):
        LayerTGradAttribution(forward, layer).attribute(x, 0)


def test_what_the_layer_receives_is_said_if_its_input_is_explained():
    embedding, linear = nn.Embedding(5, 4), nn.Linear(4, 2)
    model, tokens = nn.Sequential(embedding, linear), torch.tensor([[1, 2]])
    with pytest.raises(TypeError, match=r"\(Embedding\) receives torch\.int64.*right after it"):
        LayerTGradAttribution(model, embedding).attribute(tokens, 0, attribute_to_layer_input=True)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_model_always_runs_with_gradients(tokens):
    embedding, linear, modes = nn.Embedding(5, 4), nn.Linear(4, 2), []

    def forward(x):
        modes.append(torch.is_grad_enabled())
        return linear(embedding(x).sum(1) if tokens else x)

    layer, x = (embedding, torch.tensor([[1, 2]])) if tokens else (linear, torch.ones(1, 4))
    with torch.no_grad():
        LayerTGradAttribution(forward, layer).attribute(x, 0, channel_dim=-1)
    assert modes == [True, True]


def test_a_function_is_explained_inside_of_a_hook():
    torch.manual_seed(9)
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(2, 4)
    inner = TGradAttribution(lambda x: x.exp().sum(1))
    expected, alone = LayerTGradAttribution(model, model[0]).attribute(x, 1), inner.attribute(x)
    found = []
    handle = model[1].register_forward_hook(lambda *_: found.append(inner.attribute(x)))
    assert torch.equal(LayerTGradAttribution(model, model[0]).attribute(x, 1), expected)
    handle.remove()
    assert len(found) == 2
    assert all(torch.equal(each, alone) for each in found)


class _Checkpointed(nn.Module):
    def __init__(self, is_checkpointed: bool) -> None:
        super().__init__()
        torch.manual_seed(10)
        self.first, self.inner, self.last = (nn.Linear(4, 4) for _ in range(3))
        self.is_checkpointed = is_checkpointed

    def _block(self, x):
        return self.last(nn.functional.gelu(self.inner(x))) * torch.sigmoid(x)

    def forward(self, x):
        x = self.first(x)
        if self.is_checkpointed:
            return checkpoint(self._block, x, use_reentrant=False).tanh()
        return self._block(x).tanh()


@pytest.mark.parametrize("at_input", [False, True])
@pytest.mark.parametrize("name", ["first", "inner", "last"])
def test_a_layer_before_or_inside_of_a_checkpoint(name, at_input):
    x, found = torch.randn(2, 4), []
    for is_checkpointed in (False, True):
        model = _Checkpointed(is_checkpointed)
        method = LayerTGradAttribution(model, model.get_submodule(name))
        found.append(method.decompose(x, 1, None, at_input))
    expected, actual = found
    assert [term.name for term in actual] == [term.name for term in expected]
    for term, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(term.positive, other.positive)
        torch.testing.assert_close(term.negative, other.negative)


def test_a_model_that_returns_a_scalar_for_one_sample():
    model, x = nn.Sequential(nn.Linear(4, 1), nn.Tanh()), torch.randn(1, 4)
    expected = LayerTGradAttribution(model, model[0]).attribute(x, 0)
    actual = LayerTGradAttribution(lambda x: model(x).squeeze(), model[0]).attribute(x)
    torch.testing.assert_close(actual, expected)
