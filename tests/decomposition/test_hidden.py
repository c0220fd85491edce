"""What the trace cannot see into is a term of its own, exact and where it belongs."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import deform_conv2d

from captum_tgrad import TGradAttribution

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
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


class Square(torch.autograd.Function):
    """x ** 2"""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


class SumAndProduct(torch.autograd.Function):
    """a + b and a * b"""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a + b, a * b

    @staticmethod
    def backward(ctx, of_sum, of_product):
        a, b = ctx.saved_tensors
        return of_sum + of_product * b, of_sum + of_product * a


class Mirror(torch.autograd.Function):
    """x.flip(3)"""

    @staticmethod
    def forward(ctx, x):
        return x.flip(3)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.flip(3)


class Reversed(torch.autograd.Function):
    """x.flip(0)"""

    @staticmethod
    def forward(ctx, x):
        return x.flip(0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.flip(0)


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
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ones, others = (TGradAttribution(f).decompose(x) for f in (plain, hidden))
    torch.testing.assert_close(others.delta, torch.zeros_like(others.delta), **EXACT)
    ones, others = (
        [term for term in each.terms if float((term.positive + term.negative).max()) > 1e-12]
        for each in (ones, others)
    )
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(other.score, one.score, **EXACT)
        torch.testing.assert_close(other.positive, one.positive, **EXACT)
        torch.testing.assert_close(other.negative, one.negative, **EXACT)
    return [term.name for term in others]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(
    ("plain", "hidden"), [(lambda x: x + 1, Shift.apply), (lambda x: x**2, Square.apply)]
)
def test_an_elementwise_function_has_the_terms_of_the_plain_form(plain, hidden, samples):
    conv = _conv()
    names = _same_terms(
        lambda x: _weighed(F.silu(plain(conv(x)))),
        lambda x: _weighed(F.silu(hidden(conv(x)))),
        X[:samples],
    )
    assert names[2] == "hidden"


def test_a_hidden_activation_that_is_called_twice_and_skipped():
    conv = _conv()

    def network(activation):
        def forward(x):
            x = activation(conv(x))
            return _weighed(activation(x) * 2 + x)

        return forward

    _same_terms(network(lambda x: x**2), network(Square.apply))


def _two_branches(x, function):
    return function(x * 2) * function(x * 3)


def _half(x, function):
    return torch.cat([function(x[:, :, :3]), x[:, :, 3:]], 2).square()


def _recurrence(x, function):
    steps = [x[:, :, 0]]
    for step in range(1, x.shape[2]):
        steps.append(function(steps[-1] + x[:, :, step]))
    return torch.stack(steps, 2)


@pytest.mark.parametrize("network", [_two_branches, _half, _recurrence])
@pytest.mark.parametrize(
    "hidden", [Shift.apply, torch.func.vmap(lambda x: x + 1)], ids=["custom", "vmap"]
)
def test_the_result_of_a_hidden_function_of_an_intermediate_value_may_be_used_later(
    network, hidden
):
    _same_terms(
        lambda x: _weighed(F.silu(network(x, lambda z: z + 1))),
        lambda x: _weighed(F.silu(network(x, hidden))),
    )


class ReversedGradient(torch.autograd.Function):
    """x, with the gradient of -x"""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def test_a_custom_function_that_returns_a_view_is_one_term():
    whole = TGradAttribution(lambda x: _weighed(ReversedGradient.apply(x * 1))).decompose(X)
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
    whole = TGradAttribution(lambda x: _weighed(Shift.apply(Square.apply(x)))).decompose(X)
    # f(x) = w (x^2 + 1), so the input has 2 w x^2 and the rest is w (1 - x^2).
    total = sum(term.score for term in whole.biases)
    torch.testing.assert_close(total, _weighed(1 - X**2))
    assert [term.name for term in whole.biases] == ["hidden", "hidden#2"]
    torch.testing.assert_close(whole.placed, torch.ones(2).double())


def _is_at_its_elements(term, elements):
    torch.testing.assert_close(term.score, elements.sum((1, 2, 3)))
    for evidence, sign in ((term.positive, 1), (term.negative, -1)):
        torch.testing.assert_close(evidence, (elements * sign).relu().sum(1, keepdim=True))


WEIGHTS = torch.linspace(0, 2, 6).double()[:, None] ** 2


@pytest.mark.filterwarnings("error::UserWarning")
def test_several_outputs_of_one_function_are_one_term():
    def forward(x):
        total, product = SumAndProduct.apply(x * 2, x + 1)
        return _weighed(total) + _weighed(product * 3)

    whole = TGradAttribution(forward).decompose(X)
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)
    # a + b is linear; for 3 a b, b = -3 a b.
    (hidden,) = [term for term in whole.biases if term.name == "hidden"]
    _is_at_its_elements(hidden, -3 * 2 * X * (X + 1) * WEIGHTS)


def test_a_hidden_function_of_elements_at_different_positions_loses_them():
    def forward(x):
        total, product = SumAndProduct.apply(x * 2, x.flip(3) + 1)
        return _weighed(total) + _weighed(product * 3)

    with pytest.warns(UserWarning, match="hidden operation loses the positions"):
        whole = TGradAttribution(forward).decompose(X)
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)
    torch.testing.assert_close(whole["hidden"].score, _weighed(-3 * 2 * X * (X.flip(3) + 1)))


def test_a_hidden_function_of_two_halves_loses_their_positions():
    product = _hidden(torch.mul)
    with pytest.warns(UserWarning, match="hidden operation loses the positions"):
        whole = TGradAttribution(
            lambda x: product(x[:, :, :3], x[:, :, 3:]).sum((1, 2, 3))
        ).decompose(X)
    torch.testing.assert_close(whole["hidden"].score, -(X[:, :, :3] * X[:, :, 3:]).sum((1, 2, 3)))


def _elements_and_means(x):
    square = x * x
    return square + x, square.mean((1, 2))


def test_outputs_of_which_only_one_keeps_positions_are_one_term_without():
    both = torch.func.vmap(_elements_and_means)

    def forward(x):
        elements, means = both(x)
        return elements.sum((1, 2, 3)) + means.sum(1)

    with pytest.warns(UserWarning, match="hidden operation loses the positions"):
        whole = TGradAttribution(forward).decompose(X)
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)


class SquareAndCube(nn.Module):
    def forward(self, x):
        square = x * x
        return square + x, square * x


@pytest.mark.filterwarnings("error::UserWarning")
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
        middle = Square.apply(x)
        return _weighed(Shift.apply(Square.apply(middle))) + _weighed(middle * 3)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        whole = TGradAttribution(forward).decompose(X)
    scale = sum(term.score.abs() for term in whole.terms)
    assert bool((whole.delta.abs() < 1e-12 * scale).all())
    total = sum(term.score for term in whole.biases)
    # f = w (x^4 + 1 + 3 x^2) and <df/dx, x> = w (4 x^4 + 6 x^2).
    torch.testing.assert_close(total, _weighed(1 - 3 * X**4 - 3 * X**2))


def test_a_hidden_mirror_is_not_taken_for_elementwise():
    with pytest.warns(UserWarning, match="loses the positions of its input: 'hidden'"):
        TGradAttribution(lambda x: _weighed(F.silu(Mirror.apply(x)))).decompose(X)


def test_hidden_reordering_of_samples_is_refused():
    with pytest.raises(ValueError, match="one at a time"):
        TGradAttribution(lambda x: _weighed(F.silu(Reversed.apply(x)))).decompose(X)


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
    method = TGradAttribution(lambda x: F.silu(hidden(conv(x), x + 1)).flatten(1).square().sum(1))
    whole = method.decompose(X)
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)
    alone = [method.decompose(X[i : i + 1]).map() for i in range(2)]
    torch.testing.assert_close(whole.map(), torch.cat(alone), **EXACT)


@pytest.mark.filterwarnings("ignore:A hidden operation loses the positions")
def test_a_hidden_function_of_two_inputs_is_divided_among_them():
    hidden = _hidden(lambda a, b: (a * b).flatten(1).sum(1))
    x, y = X, X.flip(3) + 1
    whole = TGradAttribution(lambda x, y: hidden(x, y + 1)).decompose((x, y))
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)
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


@pytest.mark.parametrize("samples", [1, 2])
def test_what_a_known_hidden_function_read_and_returned_may_be_overwritten(samples):
    conv = _conv()

    def network(function):
        def forward(x):
            z = conv(x) * 1.0
            y = function(z)
            first = y * 2
            z.mul_(3)
            y.sub_(5)
            return _weighed(F.silu(first + y) + z)

        return forward

    _same_terms(network(lambda z: z + 1), network(Shift.apply), X[:samples])


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
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)


def test_a_scripted_activation_has_the_terms_of_the_plain_form():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Sigmoid(), torch.rand(1))
    conv = _conv()
    _same_terms(lambda x: _weighed(torch.sigmoid(conv(x))), lambda x: _weighed(scripted(conv(x))))


@pytest.mark.parametrize("samples", [1, 2])
def test_a_scripted_network_is_exact_and_says_what_is_out_of_place(samples):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Sequential(_conv(), nn.AvgPool2d(2), nn.Sigmoid()))
    model = nn.Sequential(nn.ReLU(), scripted, nn.Flatten())
    with pytest.warns(UserWarning, match=r"'hidden' in the module '1'\. Terms with \d+%"):
        whole = TGradAttribution(model).decompose(X[:samples], target=0)
    torch.testing.assert_close(whole.delta, torch.zeros(samples).double(), **EXACT)
    assert bool((whole.placed < 1).all())


def test_checkpointed_blocks_have_the_terms_of_the_plain_network():
    block = nn.Sequential(_conv(), nn.BatchNorm2d(3).double(), nn.SiLU(inplace=True)).eval()

    def checkpointed(x):
        return _weighed(_conv(3)(checkpoint(block, x, use_reentrant=False)).relu())

    _same_terms(lambda x: _weighed(_conv(3)(block(x)).relu()), checkpointed)


def test_reentrant_checkpointing_is_named():
    with pytest.raises(ValueError, match="use_reentrant=False"):
        TGradAttribution(lambda x: _weighed(checkpoint(_conv(), x, use_reentrant=True))).decompose(
            X
        )


def test_a_gradient_inside_the_forward_disturbs_nothing():
    conv = _conv()

    def looks(x):
        y = F.silu(conv(x))
        out = _weighed(y)
        torch.autograd.grad(out.sum(), y, retain_graph=True)
        return out

    _same_terms(lambda x: _weighed(F.silu(conv(x))), looks)


def test_a_gradient_that_is_part_of_the_output():
    def force(x):
        (gradient,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
        return _weighed(gradient)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(force).decompose(X)
    scores = torch.stack([term.score for term in whole.terms])
    torch.testing.assert_close(scores.sum(0), _weighed(4 * X**3))


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_gradient_through_a_recurrent_layer_that_is_part_of_the_output(kind, samples):
    # Its samples are in the second dimension, and as many as steps.
    layer, x = kind(3, 4, batch_first=True).double(), torch.randn(samples, 4, 3).double()

    def force(x):
        z = x * 1.0
        (gradient,) = torch.autograd.grad(layer(z)[0].sum(), z, create_graph=True)
        return (gradient * z).sum((1, 2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(force).decompose(x)
    torch.testing.assert_close(whole.delta, torch.zeros(samples).double(), **EXACT)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(force(leaf).sum(), leaf)
    torch.testing.assert_close(whole.input.score, (expected * x).sum((1, 2)))


SECOND = {
    "einsum": lambda x: torch.einsum("nij,nkj->nik", x, x.sin()),
    "cross entropy": lambda x: F.cross_entropy(
        x.transpose(1, 2), torch.zeros(2, 5, dtype=torch.long), reduction="none"
    ),
    "RMS norm": lambda x: F.rms_norm(x, (4,)),
    "bilinear": lambda x: F.bilinear(x[:, 0], x[:, 1], _ramp(3, 4, 4)),
    "LSTM cell": lambda x: torch.lstm_cell(x[:, 0] * 2, (x[:, 1], x[:, 2]), *CELL)[0],
    "GRU cell": lambda x: torch.gru_cell(x[:, 0] * 2, x[:, 1], *(w[:12] for w in CELL)),
    "network": lambda x: (F.silu(x @ _ramp(4, 6) + 0.1) @ _ramp(6, 3)).tanh(),
}


def _ramp(*shape):
    return torch.linspace(-1, 1, math.prod(shape)).double().cos().reshape(shape)


CELL = _ramp(16, 4), _ramp(16, 4).sin()


@pytest.mark.parametrize("name", SECOND)
def test_a_gradient_of_a_gradient_reads_inner_and_freed_results(name):
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()

    def network(x):
        y = SECOND[name](F.dropout(x, 0.5))
        (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return gradient.square().sum((1, 2)) + y.flatten(1).sum(1)

    def after(run):
        torch.manual_seed(0)
        found = run()
        return found, torch.get_rng_state()

    leaf = x.clone().requires_grad_()
    (output, gradient), expected = after(
        lambda: ((out := network(leaf)).detach(), torch.autograd.grad(out.sum(), leaf)[0])
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A hidden operation loses", UserWarning)
        warnings.filterwarnings("ignore", "forward_func draws random numbers", UserWarning)
        whole, state = after(lambda: TGradAttribution(network).decompose(x, channel_dim=2))
    total = torch.stack([term.score for term in whole.terms]).sum(0)
    torch.testing.assert_close(total, output, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(whole.input.score, (gradient * x).sum((1, 2)))
    assert state.equal(expected)


def test_a_hidden_operation_on_a_freed_tensor_is_no_constant():
    layer, x = nn.Linear(2, 2).double(), torch.randn(1, 3, 2).double()

    def network(x):
        z = x * 1.0
        cubes = checkpoint(lambda z: layer(z) ** 3, z, use_reentrant=False)
        (gradient,) = torch.autograd.grad(cubes.sum(), z, create_graph=True)
        return gradient.sum((1, 2))

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(leaf).sum(), leaf)
    whole = TGradAttribution(network).decompose(x, channel_dim=2)
    torch.testing.assert_close(whole.delta, torch.zeros(1).double(), **EXACT)
    torch.testing.assert_close(whole.input.score, (expected * x).sum((1, 2)))


def test_torch_func_inside_the_forward():
    energy = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    force = torch.func.vmap(torch.func.grad(lambda z: energy(z).sum()))
    x = X[:, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(force).decompose(x, target=2)
    scores = torch.stack([term.score for term in whole.terms])
    torch.testing.assert_close(scores.sum(0), force(x)[:, 2].detach())


def test_a_gradient_of_a_constant_inside_the_forward():
    def forward(x):
        z = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad((z**3).sum(), z)
        return _weighed(x * slope)

    whole = TGradAttribution(forward).decompose(X)
    assert [term.name for term in whole.biases] == []
    torch.testing.assert_close(whole.input.score, _weighed(X * 3 * X**2))


class Step(torch.autograd.Function):
    """1 where positive, without a gradient."""

    @staticmethod
    def forward(ctx, z):
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return None


def test_a_backward_that_returns_none_counts_as_zero():
    whole = TGradAttribution(lambda x: _weighed(Step.apply(x) + x)).decompose(X)
    torch.testing.assert_close(whole.input.score, _weighed(X))
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), **EXACT)
    whole = TGradAttribution(lambda x: _weighed(Step.apply(Square.apply(x)) + x)).decompose(X)
    torch.testing.assert_close(whole.input.score, _weighed(X))
    with pytest.raises(ValueError, match=r"the backward pass of an operation .* returns none"):
        TGradAttribution(lambda x: _weighed(Step.apply(x))).decompose(X)


def test_a_hook_that_takes_a_gradient_at_a_constant_is_refused():
    """The backward pass of a deep equilibrium model, with the way out that the error names."""
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)).double() / 8
    inputs = torch.rand(2, 4, generator=torch.Generator().manual_seed(1)).double()

    def solution(x):
        z = torch.zeros_like(x)
        for _ in range(60):
            z = torch.tanh(z @ weights + x)
        return z

    def solved(gradient, at, result):
        """The solution of ``r = gradient + J' r``, where ``J`` is the Jacobian at the solution."""
        solved = gradient
        for _ in range(60):
            solved = gradient + torch.autograd.grad(result, at, solved, retain_graph=True)[0]
        return solved

    def hooked(x):
        with torch.no_grad():
            z = solution(x)
        z = torch.tanh(z @ weights + x)
        at = z.detach().requires_grad_()
        result = torch.tanh(at @ weights + x)
        z.register_hook(lambda gradient: solved(gradient, at, result))
        return z.sum(1)

    class Solution(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            z = solution(x)
            context.save_for_backward(x, z)
            return z

        @staticmethod
        def backward(context, gradient):
            x, z = (tensor.detach().requires_grad_() for tensor in context.saved_tensors)
            with torch.enable_grad():
                result = torch.tanh(z @ weights + x)
            return torch.autograd.grad(result, x, solved(gradient, z, result))[0]

    with pytest.raises(
        ValueError, match=r"a hook takes a gradient .*as a torch\.autograd\.Function"
    ):
        TGradAttribution(hooked).attribute(inputs)
    found = TGradAttribution(lambda x: Solution.apply(x).sum(1)).decompose(inputs)
    torch.testing.assert_close(found.output, solution(inputs).sum(1))
    torch.testing.assert_close(found.delta, torch.zeros(2).double(), rtol=0, atol=1e-12)
    slope = torch.autograd.functional.jacobian(lambda x: solution(x).sum(), inputs)
    torch.testing.assert_close(found["input"].score, (slope * inputs).sum(1))


def test_a_hidden_function_of_one_sample_without_its_dimension():
    def forward(shift):
        return lambda x: shift(x[0, 0, 0]).square().sum().view(1)

    hidden, plain = (
        TGradAttribution(forward(shift)).decompose(X[:1])
        for shift in (Shift.apply, lambda z: z + 1)
    )
    torch.testing.assert_close(hidden["hidden"].score, plain["add"].score, **EXACT)
    torch.testing.assert_close(hidden["hidden"].positive, plain["add"].positive, **EXACT)


def test_a_hidden_function_of_each_sample_has_the_terms_of_the_plain_form():
    def network(function):
        return lambda x: _weighed(torch.stack([function(one) for one in x]).square())

    _same_terms(network(lambda x: x + 1), network(Shift.apply))


def test_samples_that_a_hidden_function_hides_are_named():
    with pytest.raises(ValueError, match="a custom autograd"):
        TGradAttribution(lambda x: _weighed(Reversed.apply(x * 2))).attribute(X)


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

    plain = TGradAttribution(lambda x: _weighed(block(x))).decompose(X)
    torch.testing.assert_close(plain.delta, torch.zeros(2).double(), **EXACT)
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

    leaf = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(overwrites(leaf).sum(), leaf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            whole = TGradAttribution(overwrites).decompose(X[:1])
        except ValueError:
            return  # it may be refused, but not be wrong
    torch.testing.assert_close(whole.input.score, (gradient * X).sum((1, 2, 3))[:1], **EXACT)


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
    torch.manual_seed(0)
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


def test_places_after_a_visible_operation_without_a_derivative_are_known():
    weight = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    bias = torch.rand(3, generator=torch.Generator().manual_seed(2)).double()
    torch.manual_seed(3)
    offsets = nn.Conv2d(3, 18, 3, padding=1, stride=2).double()

    def forward(x, at=None):
        at = offsets(x) if at is None else at
        return _weighed(F.silu(deform_conv2d(x, at, weight, bias, stride=2, padding=1)))

    with pytest.warns(UserWarning, match="A hidden operation loses the positions"):
        found = TGradAttribution(forward).decompose(X)
    torch.testing.assert_close(found.delta, torch.zeros(2).double(), **EXACT)
    assert [term.name for term in found if term.lost_at] == ["hidden"]
    # With constant offsets, the derivative is known. What follows is the same.
    given = TGradAttribution(forward).decompose(X, additional_forward_args=offsets(X).detach())
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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = TGradAttribution(forward).decompose(x)
    torch.testing.assert_close(found.input.score, (4 * x + x / 6).flatten(1).sum(1))
