"""What the trace cannot see into is a term of its own, exact and where it belongs."""

import dataclasses
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import deform_conv2d

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition import one_rule
from captum_tgrad.decomposition.operations import grids
from captum_tgrad.decomposition.operations.operation_table import OPERATIONS, operation_of
from tests.decomposition.checks import (
    assert_as_alone,
    assert_complete,
    assert_input_term_is_gradient_times_input,
    custom_function,
    randn,
)

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WEIGHTS = torch.linspace(0, 2, 6).double()[:, None] ** 2
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def _conv(inputs: int = 3) -> nn.Conv2d:
    torch.manual_seed(inputs)
    return nn.Conv2d(inputs, 3, 3, padding=1).double()


class Shift(torch.autograd.Function):
    """x + 1"""

    @staticmethod
    def forward(ctx, x):
        return x + 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient


square = custom_function(lambda x: x**2, lambda x, gradient: 2 * gradient * x)
_sum_and_product = custom_function(
    lambda a, b: (a + b, a * b),
    lambda a, b, of_sum, of_product: (of_sum + of_product * b, of_sum + of_product * a),
)
_mirror = custom_function(lambda x: x.flip(3), lambda x, gradient: gradient.flip(3))
_reversed = custom_function(lambda x: x.flip(0), lambda x, gradient: gradient.flip(0))


def _hidden(function):
    """A custom ``autograd.Function`` that computes a function of one or two tensors."""

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            with torch.enable_grad(), torch._C.DisableTorchFunction():
                ctx.leaves = [tensor.detach().requires_grad_() for tensor in tensors]
                ctx.result = function(*ctx.leaves)
            return ctx.result.detach()

        @staticmethod
        def backward(ctx, gradient):
            return torch.autograd.grad(
                ctx.result, ctx.leaves, gradient, retain_graph=True, allow_unused=True
            )

    return Hidden.apply


def _weighed(x):
    return (x * torch.linspace(0, 2, x.shape[2], dtype=x.dtype)[:, None] ** 2).flatten(1).sum(1)


def _same_terms(plain, hidden, x=X):
    ones, others = (TGradAttribution(f).decompose(x) for f in (plain, hidden))
    assert_complete(others)
    ones, others = (
        [term for term in each.terms if float((term.positive + term.negative).max()) > 1e-12]
        for each in (ones, others)
    )
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(other.score, one.score, **EXACT)
        torch.testing.assert_close(other.positive, one.positive, **EXACT)
        torch.testing.assert_close(other.negative, one.negative, **EXACT)
    return [term.name for term in others]


def _silu(x, function):
    return F.silu(function(x))


def _twice_and_skipped(x, function):
    x = function(x)
    return function(x) * 2 + x


def _two_branches(x, function):
    return function(x * 2) * function(x * 3)


def _half(x, function):
    return torch.cat([function(x[:, :, :3]), x[:, :, 3:]], 2).square()


def _recurrence(x, function):
    steps = [x[:, :, 0]]
    for step in range(1, x.shape[2]):
        steps.append(function(steps[-1] / 4 + x[:, :, step]))
    return torch.stack(steps, 2)


def _each_sample(x, function):
    return torch.stack([function(one) for one in x]).square()


def _overwritten(z, function):
    """What the function reads and returns."""
    z = z * 1.0
    y = function(z)
    first = y * 2
    z.mul_(3)
    y.sub_(5)
    return F.silu(first + y) + z


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    TRACED = torch.jit.trace(nn.Sigmoid(), torch.rand(1))
HIDDEN = {  # that are found to be elementwise
    "shift": (lambda x: x + 1, Shift.apply),
    "square": (lambda x: x**2, square),
    "vmap": (lambda x: x + 1, torch.func.vmap(lambda x: x + 1)),
    "traced": (torch.sigmoid, TRACED),
}
CASES = [
    *itertools.product(HIDDEN, [_silu, _two_branches, _half, _recurrence, _each_sample]),
    ("shift", _twice_and_skipped),
    ("square", _twice_and_skipped),
    ("shift", _overwritten),  # of others, the backward pass reads what is overwritten
]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(("name", "network"), CASES)
def test_an_elementwise_function_has_the_terms_of_the_plain_form(name, network, samples):
    conv, functions = _conv(), HIDDEN[name]
    forms = (lambda x, f=f: _weighed(network(conv(x), f)) for f in functions)
    assert any("hidden" in each for each in _same_terms(*forms, X[:samples]))


def test_a_custom_function_that_returns_a_view_is_one_term():
    turned = custom_function(lambda x: x.view_as(x), lambda x, gradient: -gradient)
    whole = TGradAttribution(lambda x: _weighed(turned(x * 1))).decompose(X)
    # f(x) = w x has the gradient -w here.
    torch.testing.assert_close(whole.input.score, -_weighed(X), **EXACT)
    (term,) = whole.biases
    assert term.name == "hidden"
    _is_at_its_elements(term, 2 * X * WEIGHTS)


def _spread_without_gradients(x):
    with torch.no_grad():
        flat = x.flatten(2)
    return flat.std(2)[..., None, None]


def _turned_without_gradients(x):
    with torch.no_grad():
        turned = x.mT
    return turned + 0


@pytest.mark.parametrize("constant", [_spread_without_gradients, _turned_without_gradients])
def test_a_view_made_without_gradients_is_a_constant(constant):
    conv = _conv()

    def network(function):
        return lambda x: _weighed((z := conv(x)) * function(z))

    _same_terms(network(lambda z: constant(z.detach())), network(constant))


def test_hidden_functions_in_a_row():
    whole = TGradAttribution(lambda x: _weighed(Shift.apply(square(x)))).decompose(X)
    # f(x) = w (x^2 + 1), so the input has 2 w x^2 and the rest is w (1 - x^2).
    total = sum(term.score for term in whole.biases)
    torch.testing.assert_close(total, _weighed(1 - X**2))
    assert [term.name for term in whole.biases] == ["hidden", "hidden#2"]
    torch.testing.assert_close(whole.placed, torch.ones(2).double())


def _is_at_its_elements(term, elements):
    torch.testing.assert_close(term.score, elements.sum((1, 2, 3)))
    for evidence, sign in ((term.positive, 1), (term.negative, -1)):
        torch.testing.assert_close(evidence, (elements * sign).relu().sum(1, keepdim=True))


def _sum_and_product_of(x, other):
    total, product = _sum_and_product(x * 2, other + 1)
    return _weighed(total) + _weighed(product * 3)


def test_several_outputs_of_one_function_are_one_term():
    whole = TGradAttribution(lambda x: _sum_and_product_of(x, x)).decompose(X)
    assert_complete(whole)
    # a + b is linear; for 3 a b, b = -3 a b.
    (hidden,) = [term for term in whole.biases if term.name == "hidden"]
    _is_at_its_elements(hidden, -3 * 2 * X * (X + 1) * WEIGHTS)


def _elements_and_means(x):
    elements, means = torch.func.vmap(lambda x: ((y := x * x) + x, y.mean((1, 2))))(x)
    return elements.sum((1, 2, 3)) + means.sum(1)


LOSING = {  # with what each adds
    "elements at different positions": (
        lambda x: _sum_and_product_of(x, x.flip(3)),
        _weighed(-3 * 2 * X * (X.flip(3) + 1)),
    ),
    "two halves": (
        lambda x: _hidden(torch.mul)(x[:, :, :3], x[:, :, 3:]).sum((1, 2, 3)),
        -(X[:, :, :3] * X[:, :, 3:]).sum((1, 2, 3)),
    ),
    "one output of two": (
        _elements_and_means,
        -X.square().sum((1, 2, 3)) - X.square().mean((2, 3)).sum(1),
    ),
    "a mirror": (lambda x: _weighed(_mirror(x).square()), torch.zeros(2).double()),
}


@pytest.mark.parametrize(("function", "expected"), LOSING.values(), ids=LOSING)
def test_a_hidden_function_that_is_not_elementwise_loses_positions(function, expected):
    with pytest.warns(UserWarning, match="hidden operation loses the positions .*: 'hidden'"):
        whole = TGradAttribution(function).decompose(X)
    assert_complete(whole)
    torch.testing.assert_close(whole["hidden"].score, expected)


class SquareAndCube(nn.Module):
    def forward(self, x):
        square = x * x
        return square + x, square * x


def test_results_of_a_scripted_module_that_share_a_step_are_one_term():
    for _ in range(5):  # which step comes first depends on addresses in memory
        scripted = torch.jit.script(SquareAndCube())

        def forward(x, scripted=scripted):
            total, cube = scripted(x)
            return _weighed(total) + _weighed(cube)

        whole = TGradAttribution(forward).decompose(X)
        (hidden,) = [term for term in whole if "hidden" in term.name]
        # f = w (x^2 + x + x^3) and <df/dx, x> = w (2 x^2 + x + 3 x^3).
        _is_at_its_elements(hidden, (-(X**2) - 2 * X**3) * WEIGHTS)


def test_a_result_in_the_middle_of_a_hidden_chain_is_used_as_well():
    def forward(x):
        middle = square(x)
        return _weighed(Shift.apply(square(middle))) + _weighed(middle * 3)

    whole = TGradAttribution(forward).decompose(X)
    scale = sum(term.score.abs() for term in whole.terms)
    assert bool((whole.delta.abs() < 1e-12 * scale).all())
    total = sum(term.score for term in whole.biases)
    # f = w (x^4 + 1 + 3 x^2) and <df/dx, x> = w (4 x^4 + 6 x^2).
    torch.testing.assert_close(total, _weighed(1 - 3 * X**4 - 3 * X**2))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda x: F.silu(_reversed(x)), "one at a time"),
        (lambda x: _reversed(x * 2), "a custom autograd"),
    ],
)
def test_hidden_reordering_of_samples_is_refused(network, said):
    with pytest.raises(ValueError, match=said):
        TGradAttribution(lambda x: _weighed(network(x))).decompose(X)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a.sin() + b.flip(0),
        lambda a, b: a.flatten(1) @ b.flatten(1).mT,
        lambda a, b: a.mean(0, keepdim=True) * b,
        lambda a, b: (a * b).flatten(0, 1),
        lambda a, b: a * b.cumsum(0),
    ],
)
def test_a_hidden_function_that_mixes_the_samples_of_one_of_two_tensors_is_refused(function):
    hidden = _hidden(function)
    for first, second in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match="one at a time"):
            TGradAttribution(
                lambda x, a=first, b=second: F.silu(hidden(x * a, x + b)).view(2, -1).sum(1)
            ).decompose(X)


@pytest.mark.filterwarnings("ignore:A hidden operation loses the positions")
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a.sin() * b,
        lambda a, b: a.sin(),
        lambda a, b: b.sin(),
        lambda a, b: a * b.mean((1, 2), keepdim=True),
        lambda a, b: (a.flatten(2) @ b.flatten(2).mT).softmax(-1),
    ],
)
def test_a_hidden_function_of_two_tensors_has_the_map_of_each_sample_alone(function):
    hidden, conv = _hidden(function), _conv()
    assert_as_alone(lambda x: F.silu(hidden(conv(x), x + 1)).flatten(1).square().sum(1), X)


@pytest.mark.filterwarnings("ignore:A hidden operation loses the positions")
def test_a_hidden_function_of_two_inputs_is_divided_among_them():
    hidden = _hidden(lambda a, b: (a * b).flatten(1).sum(1))
    x, y = X, X.flip(3) + 1
    whole = TGradAttribution(lambda x, y: hidden(x, y + 1)).decompose((x, y))
    assert_complete(whole)
    # f = sum x (y + 1), <df/dx, x> = f, and <df/dz, z> = f at z = y + 1.
    product = (x * (y + 1)).sum((1, 2, 3))
    torch.testing.assert_close(whole["hidden"].score, -product)
    for number in (0, 1):
        torch.testing.assert_close(whole["hidden"].maps[number].score, -product / 2)


def test_terms_after_a_hidden_function_of_a_larger_tensor_without_places_have_lost_theirs():
    hidden = _hidden(lambda a, b: a.mean((2, 3)) * b.mean((2, 3)))

    def forward(x):
        pooled = x.mean((2, 3), keepdim=True).expand(-1, -1, 9, 9)
        return F.silu(hidden(pooled, x.sin())).sum(1)

    with pytest.warns(UserWarning, match="A hidden operation loses the positions"):
        whole = TGradAttribution(forward).decompose(X)
    assert [term.lost_at for term in whole.biases] == ["", "hidden", "hidden"]


class HidesInside(nn.Module):
    """Hides an operation between two that are seen, or at its end."""

    def __init__(self, at_end: bool) -> None:
        super().__init__()
        self.conv, self.at_end = _conv(), at_end

    def forward(self, x):
        x = Shift.apply(self.conv(x))
        return x if self.at_end else x * 2


@pytest.mark.parametrize("at_end", [False, True])
def test_a_hidden_term_is_named_after_its_module(at_end):
    model = nn.Sequential(_conv(), nn.ReLU(), HidesInside(at_end), nn.Flatten())
    whole = TGradAttribution(model).decompose(X, target=0)
    assert "2:hidden" in [term.name for term in whole.biases]
    assert_complete(whole)


@pytest.mark.parametrize("samples", [1, 2])
def test_a_scripted_network_is_exact_and_says_what_is_out_of_place(samples):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Sequential(_conv(), nn.AvgPool2d(2), nn.Sigmoid()))
    model = nn.Sequential(nn.ReLU(), scripted, nn.Flatten())
    with pytest.warns(UserWarning, match=r"'hidden' in the module '1'\. Terms with \d+%"):
        whole = TGradAttribution(model).decompose(X[:samples], target=0)
    assert_complete(whole)
    assert bool((whole.placed < 1).all())


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU, nn.CELU])
def test_checkpointed_blocks_have_the_terms_of_the_plain_network(activation):
    block = nn.Sequential(_conv(), nn.BatchNorm2d(3).double(), activation(inplace=True)).eval()

    def checkpointed(x):
        return _weighed(_conv(3)(checkpoint(block, x, use_reentrant=False)).relu())

    _same_terms(lambda x: _weighed(_conv(3)(block(x)).relu()), checkpointed)


def test_reentrant_checkpointing_is_named():
    with pytest.raises(ValueError, match="use_reentrant=False"):
        TGradAttribution(lambda x: _weighed(checkpoint(_conv(), x, use_reentrant=True))).decompose(
            X
        )


def test_a_backward_that_returns_none_counts_as_zero():
    step = custom_function(lambda z: (z > 0).to(z.dtype), lambda z, gradient: None)
    for function in (step, lambda x: step(square(x))):
        whole = TGradAttribution(lambda x, f=function: _weighed(f(x) + x)).decompose(X)
        torch.testing.assert_close(whole.input.score, _weighed(X))
        assert_complete(whole)
    with pytest.raises(ValueError, match=r"the backward pass of an operation .* returns none"):
        TGradAttribution(lambda x: _weighed(step(x))).decompose(X)


def test_a_hidden_function_of_one_sample_without_its_dimension():
    def forward(shift):
        return lambda x: shift(x[0, 0, 0]).square().sum().view(1)

    _same_terms(forward(lambda z: z + 1), forward(Shift.apply), X[:1])


class Exponential(torch.autograd.Function):
    """exp(x)"""

    @staticmethod
    def forward(ctx, x):
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


def test_a_hidden_function_in_a_checkpointed_block_is_refused():
    # torch would give its backward pass another tensor of the block, of the same shape.
    def block(x):
        return Exponential.apply(_conv()(x))

    assert_complete(TGradAttribution(lambda x: _weighed(block(x))).decompose(X))
    with pytest.raises(ValueError, match="Disable checkpointing"):
        TGradAttribution(lambda x: _weighed(checkpoint(block, x, use_reentrant=False))).decompose(X)


@pytest.mark.parametrize("hidden", [Exponential.apply, torch.func.vmap(torch.sigmoid)])
def test_a_hidden_function_of_what_is_overwritten_is_no_constant(hidden):
    conv = _conv()

    def overwrites(x):
        z = conv(x)
        result = hidden(z)
        z.relu_()
        return _weighed(result + z)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            whole = TGradAttribution(overwrites).decompose(X[:1])
        except ValueError:
            return  # it may be refused, but not be wrong
    assert_input_term_is_gradient_times_input(whole, overwrites, X[:1])


class _InPlaceRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.mark_dirty(z)
        ctx.save_for_backward(z.clamp_(min=0))
        return z

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


VIEWS = {
    "none": lambda z: z,
    "flat": lambda z: z.flatten(1),
    "permuted": lambda z: z.permute(0, 2, 3, 1),
    "channels": lambda z: z[:, :2],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_custom_function_that_overwrites_a_view_is_explained_or_warned_of(view):
    conv = nn.Conv2d(3, 4, 3).double()
    image = torch.rand(1, 3, 5, 5).double()

    def explained(activation):
        method = TGradAttribution(lambda x: activation(view(conv(x))).flatten(1).sum(1))
        return method.decompose(image)

    expected = explained(F.relu)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = explained(_InPlaceRelu.apply)  # this call never returned
    torch.testing.assert_close(found.output, expected.output)
    is_complete = float(found.delta.abs()) < 1e-10
    assert is_complete or "Incomplete decomposition" in str(caught[0].message)
    if view is VIEWS["none"]:
        assert is_complete
        torch.testing.assert_close(found.map("positive"), expected.map("positive"))


OFFSETS = nn.Conv2d(3, 18, 3, padding=1, stride=2).double()


def _sampled(x, at):
    weight, bias = randn(3, 3, 3, 3, seed=1), randn(3, seed=2)
    return _weighed(F.silu(deform_conv2d(x, at, weight, bias, stride=2, padding=1)))


@pytest.fixture
def no_closed_form(monkeypatch):
    """A deformable convolution whose term is known only if its offsets are constants."""
    record = dataclasses.replace(OPERATIONS["deform_conv2d"], bias=grids.convolution)
    monkeypatch.setitem(OPERATIONS, "deform_conv2d", record)
    monkeypatch.setattr(one_rule, "_ways", {})
    operation_of.cache_clear()
    yield
    operation_of.cache_clear()


@pytest.mark.usefixtures("no_closed_form")
def test_places_after_a_visible_operation_without_a_derivative_are_known():
    def forward(x, at=None):
        return _sampled(x, OFFSETS(x) if at is None else at)

    with pytest.warns(UserWarning, match="A hidden operation loses the positions"):
        found = TGradAttribution(forward).decompose(X)
    assert_complete(found)
    assert [term.name for term in found if term.lost_at] == ["hidden"]
    # With constant offsets, the derivative is known. What follows is the same.
    given = TGradAttribution(forward).decompose(X, additional_forward_args=OFFSETS(X).detach())
    of_silu = [next(term for term in terms if term.name == "silu") for terms in (found, given)]
    of_bias = [found["add"], given["deform_conv2d"]]
    for one, other in (of_silu, of_bias):
        assert one.positive.shape == (2, 1, 3, 3)
        torch.testing.assert_close(one.positive, other.positive)


class _WriteInto(torch.autograd.Function):
    """Writes a column through ``.data``, and keeps the gradient of the old column."""

    @staticmethod
    def forward(ctx, columns, value, index):
        ctx.index = index
        columns.data[:, index] = value
        return columns

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient[:, ctx.index], None


def test_results_that_are_overwritten_without_autograd_are_warned_of():
    def forward(x):
        columns = torch.full((len(x), 2), 1e30, dtype=x.dtype)
        columns = _WriteInto.apply(columns, x.flatten(1).sum(1), 0)
        columns = _WriteInto.apply(columns, columns[:, 0].exp(), 1)
        return columns.sum(1)

    x = torch.rand(2, 3, 2, 2).double() / 10
    with pytest.warns(UserWarning, match="writes to the result of a hidden operation"):
        TGradAttribution(forward).attribute(x)


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, in_place):
        if in_place:
            ctx.mark_dirty(x)
        return x.mul_(2) if in_place else x * 2

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient, None


def test_results_that_custom_functions_overwrite_are_not_warned_of():
    def forward(x):
        once = _Double.apply(x + 1, False)
        mean = once.flatten(1).mean(1)
        return _Double.apply(once, True).flatten(1).sum(1) + mean

    x = torch.rand(2, 3, 2, 2).double()
    found = TGradAttribution(forward).decompose(x)
    torch.testing.assert_close(found.input.score, (4 * x + x / 6).flatten(1).sum(1))


@pytest.mark.filterwarnings("ignore:A hidden operation loses the positions")
@pytest.mark.usefixtures("no_closed_form")
def test_a_missing_derivative_is_looked_for_once(monkeypatch):
    found, find_way = [], one_rule._find_way
    monkeypatch.setattr(one_rule, "_find_way", lambda *of: found.append(of) or find_way(*of))
    method = TGradAttribution(lambda x: _sampled(x, OFFSETS(x)))
    for seed in range(3):
        decomposed = method.decompose(randn(2, 3, 6, 6, seed=seed))
        assert "hidden" in decomposed
        assert_complete(decomposed)
    assert len(found) == 1
