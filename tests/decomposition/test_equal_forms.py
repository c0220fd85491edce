"""An operation in its cheaper form returns what the operation returns, and so does its backward."""

import copy
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.copy_on_write import Readers
from captum_tgrad.decomposition.operations.helpers import run_equal_form
from captum_tgrad.decomposition.operations.operation_table import operation_of
from captum_tgrad.decomposition.tracing import trace

GENERATOR = torch.Generator().manual_seed(3)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def _run(call: Call) -> torch.Tensor:
    call = Call(call.func, call.args, call.kwargs, operation_of(call.func))
    return run_equal_form(call, Readers())


def _norm(kind: type, **arguments: object) -> nn.Module:
    norm = kind(4, **arguments).eval().double()
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(4, generator=GENERATOR) + 0.5)
    return norm.requires_grad_(False)


def _batch_norm_call(norm: nn.Module, z: torch.Tensor) -> Call:
    arguments = (z, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1)
    return Call(F.batch_norm, (*arguments, norm.eps), {})


def _saturating(*shape: int) -> torch.Tensor:
    return 8 * torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (3, 4)),
        (nn.BatchNorm1d, (3, 4, 5)),
        (nn.BatchNorm2d, (3, 4, 5, 6)),
        (nn.BatchNorm3d, (3, 4, 5, 6, 2)),
    ],
)
def test_batch_norm(kind, shape, affine):
    norm, z = _norm(kind, affine=affine), _saturating(*shape).requires_grad_()
    output = _run(_batch_norm_call(norm, z))
    assert output.grad_fn.name() == "_FastBatchNormBackward"  # not the batch norm's own
    weights = _saturating(*shape)
    (gradient,) = torch.autograd.grad(output, z, weights)
    expected = norm(z)
    torch.testing.assert_close(output, expected, **EXACT)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, z, weights)[0], **EXACT)


def test_batch_norm_keeps_nothing_of_its_input():
    z = _saturating(3, 4, 5, 6).requires_grad_() * 1
    reference = weakref.ref(z)
    output = _run(_batch_norm_call(_norm(nn.BatchNorm2d), z))
    del z
    assert output.requires_grad
    assert reference() is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_left_to_the_operation_which_rounds_once(dtype):
    norm, z = _norm(nn.BatchNorm2d).to(dtype), _saturating(3, 4, 5, 6).to(dtype)
    assert torch.equal(_run(_batch_norm_call(norm, z)), norm(z))


@pytest.mark.parametrize(
    ("func", "further"),
    [
        (F.relu6, (True,)),
        (F.hardtanh, (-1.5, 2.0, True)),
        (F.hardtanh_, (0.0, 3.0)),
    ],
)
def test_clamp_in_place(func, further):
    z = _saturating(5, 6).requires_grad_()
    start = z * 1
    start.view(-1)[:2] = torch.tensor([0.0, 6.0])  # the limits themselves have no gradient
    expected = func(start.clone(), *further)
    weights = _saturating(5, 6)
    (wanted,) = torch.autograd.grad(expected, z, weights, retain_graph=True)

    alias = start
    output = _run(Call(func, (start, *further), {}))
    assert output is alias
    assert alias._version > 0
    assert torch.equal(alias, expected)
    assert torch.equal(torch.autograd.grad(output, z, weights)[0], wanted)


def test_gradient_of_a_clamp_in_place_within_the_network(monkeypatch):
    monkeypatch.setattr(trace, "are_small", lambda leaves: False)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Flatten()).double()

    def network(x):
        scores = layers(x).sum(1)
        (gradient,) = torch.autograd.grad(scores.sum(), x, retain_graph=True)
        return scores + gradient.sum()

    inputs = _saturating(2, 3, 5, 5).requires_grad_()
    found = TGradAttribution(network).decompose(inputs.detach())
    torch.testing.assert_close(found.output, network(inputs).detach(), **EXACT)
    torch.testing.assert_close(found.delta, torch.zeros_like(found.delta), rtol=0, atol=1e-10)


def test_clamp_of_a_view_overwrites_what_is_behind_it():
    z = _saturating(4, 6).requires_grad_()
    whole = z * 1
    _run(Call(F.relu6, (whole[:2], True), {}))
    assert torch.equal(whole, torch.cat([z[:2].clamp(0, 6), z[2:]]))


def test_clamp_that_is_not_in_place_leaves_its_argument():
    z = _saturating(4, 6).requires_grad_()
    before = z.detach().clone()
    assert torch.equal(_run(Call(F.relu6, (z,), {})), before.clamp(0, 6))
    assert torch.equal(z, before)


def _kinds_of_nodes(tensor: torch.Tensor) -> list[str]:
    node, kinds = tensor.grad_fn, []
    while node.next_functions:
        kinds.append(type(node).__name__)
        node = node.next_functions[0][0]
    return kinds


PRODUCTS = {
    "linear": lambda z, weight, bias: (F.linear, (z, weight.t(), bias)),
    "linear without bias": lambda z, weight, bias: (F.linear, (z, weight.t())),
    "matmul": lambda z, weight, bias: (torch.matmul, (z, weight)),
    "operator": lambda z, weight, bias: (torch.Tensor.__matmul__, (z, weight)),
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0), (0, 3, 1, 2), (2, 3, 1, 0)])
def test_a_product_with_a_matrix_runs_as_if_the_matrix_required_a_gradient(product, order):
    x = torch.randn(3, 4, 5, 6, generator=GENERATOR).double()[: None if len(order) == 4 else 1]
    x = x.view(x.shape[-len(order) :]).requires_grad_()
    z = x.permute(order)
    weight = torch.randn(z.shape[-1], 7, generator=GENERATOR).double()
    bias = torch.randn(7, generator=GENERATOR).double()
    func, args = product(z, weight, bias)
    found = _run(Call(func, args, {}))
    plain = func(*args)
    func, args = product(z, weight.requires_grad_(), bias.requires_grad_())
    expected = func(*args)
    assert _kinds_of_nodes(found) == _kinds_of_nodes(expected)
    assert found.stride() == plain.stride()
    gradient = torch.randn(found.shape, generator=GENERATOR).double()
    for one, other in ((found, plain), (found, expected)):
        torch.testing.assert_close(one, other, **EXACT)
        one, other = (torch.autograd.grad(y, x, gradient, retain_graph=True) for y in (one, other))
        torch.testing.assert_close(one, other, **EXACT)


def test_network_under_vmap_runs():
    """A form that autograd knows nothing of would fail where each sample is mapped on its own."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Flatten(0)).double()
    inputs = _saturating(2, 3, 5, 5)
    mapped = TGradAttribution(lambda x: torch.vmap(network)(x).sum(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the trace does not see what is mapped
        output = mapped.decompose(inputs).output
    expected = torch.stack([network(each).sum() for each in inputs])
    torch.testing.assert_close(output, expected.detach(), **EXACT)


@pytest.mark.filterwarnings("ignore:A hidden operation loses")
def test_ensemble_under_vmap_keeps_samples_apart():
    networks = [nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)) for _ in range(3)]
    weights, _ = torch.func.stack_module_state([network.double() for network in networks])
    inputs = torch.randn(3, 6, generator=GENERATOR).double()

    def ensemble(x):
        def one(weights):
            return torch.func.functional_call(networks[0], weights, (x,))

        return torch.vmap(one)(weights).mean(0)

    method = TGradAttribution(ensemble)
    whole = method.decompose(inputs, target=1)
    expected = torch.stack([network(inputs) for network in networks]).mean(0)[:, 1]
    torch.testing.assert_close(whole.output, expected.detach(), **EXACT)
    torch.testing.assert_close(sum(term.score for term in whole.terms), whole.output, **EXACT)
    alone = torch.cat([method.attribute(each[None], target=1) for each in inputs])
    torch.testing.assert_close(method.attribute(inputs, target=1), alone, **EXACT)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_output_and_input_gradient_are_those_of_the_network(memory_format, monkeypatch):
    monkeypatch.setattr(trace, "are_small", lambda leaves: False)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        _norm(nn.BatchNorm2d),
        nn.ReLU6(inplace=True),
        nn.Conv2d(4, 4, 3, groups=4),
        _norm(nn.BatchNorm2d, affine=False),
        nn.Hardtanh(-1, 2, inplace=True),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    network = network.double().to(memory_format=memory_format)
    before = copy.deepcopy(network.state_dict())
    inputs = _saturating(2, 3, 8, 8).contiguous(memory_format=memory_format).requires_grad_()
    expected = network(inputs)[:, 1]
    (gradient,) = torch.autograd.grad(expected.sum(), inputs)
    found = TGradAttribution(network).decompose(inputs, target=1)
    torch.testing.assert_close(found.output, expected.detach(), **EXACT)
    torch.testing.assert_close(
        found.input.score, (gradient * inputs).sum((1, 2, 3)).detach(), **EXACT
    )
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
