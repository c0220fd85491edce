"""What many tests of decompositions share: random numbers, weights and comparisons."""

from itertools import product

import torch

from captum_tgrad import TGradAttribution

AGGREGATIONS = ("paper", "levels")


def randn(*shape, seed=0):
    """Normal random numbers that do not depend on those drawn before."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def filled(module, seed=0):
    """The module in eval mode, with weights and biases that all matter."""
    for number, parameter in enumerate(module.parameters()):
        parameter.data = randn(*parameter.shape, seed=seed + number) * 0.3
    return module.eval()


def custom_function(forward, backward):
    """A custom ``autograd.Function`` that saves its arguments."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            ctx.save_for_backward(*arguments)
            return forward(*arguments)

        @staticmethod
        def backward(ctx, *gradients):
            return backward(*ctx.saved_tensors, *gradients)

    return Custom.apply


def assert_complete(decomposition, atol=1e-10):
    """All terms add up to the output."""
    delta = decomposition.delta
    torch.testing.assert_close(delta, torch.zeros_like(delta), rtol=0, atol=atol)


def assert_input_term_is_gradient_times_input(decomposition, network, inputs):
    """By a backward pass of torch alone."""
    leaf = inputs.clone().requires_grad_()
    output = network(leaf)
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    torch.testing.assert_close(decomposition.output, output.detach())
    torch.testing.assert_close(decomposition.input.score, (gradient * inputs).flatten(1).sum(1))


def maps_of(decomposition, aggregations=AGGREGATIONS):
    """The maps for and against the output, on each input."""
    return {
        options: decomposition.map(*options)
        for options in product(
            ("positive", "negative"), aggregations, range(len(decomposition.inputs))
        )
    }


def assert_same_maps(
    form, plain, inputs, target=None, *, rtol=1e-8, atol=1e-10, aggregations=AGGREGATIONS, **options
):
    """Two forms of one function have one output and one map, and the terms add up.

    Also in a second call, which may replay the first. Returns the decomposition of ``form``.
    """
    method = TGradAttribution(form)
    expected = TGradAttribution(plain).decompose(inputs, target, **options)
    wanted = maps_of(expected, aggregations)
    assert any(each.any() for each in wanted.values())
    for _ in range(2):
        found = method.decompose(inputs, target, **options)
        torch.testing.assert_close(found.output, expected.output)
        assert_complete(found)
        torch.testing.assert_close(maps_of(found, aggregations), wanted, rtol=rtol, atol=atol)
    return found


def assert_as_alone(network, inputs, *further, target=None, aggregations=AGGREGATIONS, **options):
    """Each map of a batch is that of the sample alone, and the terms add up.

    Also in a second call, which may replay the first. ``further`` are additional arguments with one
    entry for each sample.
    """
    method = TGradAttribution(network)

    def maps(samples):
        arguments = tuple(each[samples] for each in further) or None
        found = method.decompose(inputs[samples], target, arguments, **options)
        assert_complete(found)
        return maps_of(found, aggregations)

    each = [maps(slice(sample, sample + 1)) for sample in range(len(inputs))]
    alone = {options: torch.cat([maps[options] for maps in each]) for options in each[0]}
    for _ in range(2):
        torch.testing.assert_close(maps(slice(None)), alone, rtol=1e-9, atol=1e-12)


def assert_equal(found, expected):
    """Both decompositions are equal to the last bit."""
    assert [term.name for term in found] == [term.name for term in expected]
    assert torch.equal(found.output, expected.output)
    assert torch.equal(found.delta, expected.delta)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.score, other.score)
        assert torch.equal(one.positive, other.positive)
        assert torch.equal(one.negative, other.negative)


def assert_as_recorded(method, x, **arguments):
    """The call gives what the first call of another method gives, to the last bit."""
    fresh = TGradAttribution(method.forward_func)
    assert_equal(method.decompose(x, **arguments), fresh.decompose(x, **arguments))


def assert_close_to_recorded(method, x, tolerance=None, **arguments):
    """Some biases are computed from what autograd saves, which rounds otherwise."""
    found = method.decompose(x, **arguments)
    expected = TGradAttribution(method.forward_func).decompose(x, **arguments)
    assert [term.name for term in found] == [term.name for term in expected]
    tolerance = tolerance or (1e-13 if x.dtype == torch.float64 else 1e-5)
    for one, other in zip(found, expected, strict=True):
        size = other.positive.abs().max() + other.negative.abs().max() + 1e-30
        for field in ("score", "positive", "negative"):
            difference = (getattr(one, field) - getattr(other, field)) / size
            assert float(difference.abs().max()) <= tolerance, one.name
