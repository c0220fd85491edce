"""Every differentiable operation of torch's own test suite: exact sums, and no silent flat map.

torch's suite has sample arguments for each operation. One argument at a time depends on the input.
"""

import random
import warnings
from itertools import islice

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import randn

with pytest.MonkeyPatch.context() as patch:  # the flags would stay disabled for other tests
    patch.setattr(torch.backends, "disable_global_flags", lambda: None)
    database = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations", exc_type=ImportError
    )

pytestmark = pytest.mark.filterwarnings("ignore")  # of deprecated operations

CASTS = {"bfloat16", "cfloat", "chalf", "float", "half"}
NO_GRADIENT = {
    "linalg.eig",  # the phase of an eigenvector is arbitrary
    "native_layer_norm",  # torch takes the mean and the deviation that it returns for constants
}
NOT_A_DERIVATIVE = {"max_norm", "scale_grad_by_freq", "sparse"}  # options of embeddings
FLAT = {
    "diff",  # a constant, to which a tensor is appended
    "as_strided_scatter",  # positions depend on the layout in memory
    "nn.functional.conv2d",  # the weight depends on the input, and the image does not
    "nn.functional.conv_transpose1d",
    "nn.functional.conv_transpose2d",
    "nn.functional.conv_transpose3d",
}
"""Operations with flat maps without a warning, some of whose arguments have no position."""

OPERATIONS = {
    f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name: info
    for info in database.op_db
    if info.supports_autograd
    and torch.float64 in info.supported_dtypes("cpu")
    and info.name not in CASTS | NO_GRADIENT
    and not info.name.startswith("jiterator")
}


def _numbers(result):
    """The real numbers in the results of an operation."""
    tensors = [each for each in tree_flatten(result)[0] if isinstance(each, torch.Tensor)]
    real = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    return [each.flatten() for each in real if each.is_floating_point()]


def _networks(info, most=2):
    """Networks that consist of an operation, with an input for each of its arguments in turn."""
    samples = list(islice(info.sample_inputs("cpu", torch.float64, requires_grad=False), 100))
    for sample in random.Random(0).sample(samples, min(most, len(samples))):
        if any(sample.kwargs.get(name) for name in NOT_A_DERIVATIVE):
            continue
        arguments, form = tree_flatten((sample.input, sample.args, sample.kwargs))
        for position, argument in enumerate(arguments[:4]):
            is_tensor = isinstance(argument, torch.Tensor) and argument.layout == torch.strided
            if not is_tensor or argument.dtype != torch.float64 or argument.dim() > 4:
                continue
            if not 1 < argument.numel() <= 1000 or not argument.isfinite().all():
                continue

            def operation(x, arguments=arguments, form=form, position=position, sample=sample):
                torch.manual_seed(0)
                own = [*arguments[:position], x[0], *arguments[position + 1 :]]
                first, args, kwargs = tree_unflatten(own, form)
                return torch.cat(
                    _numbers(sample.output_process_fn_grad(info.op(first, *args, **kwargs)))
                )

            x = argument.detach().clone()[None]
            try:
                output, gradient = _gradient(lambda x: operation(x).sum(), x)
            except (RuntimeError, NotImplementedError, ValueError, TypeError):
                continue  # this argument has no gradient
            if output.isfinite() and gradient.isfinite().all() and gradient.any():
                yield operation, x


def _gradient(network, x):
    leaf = x.clone().requires_grad_()
    output = network(leaf)
    return output.detach(), torch.autograd.grad(output, leaf)[0]


def _decomposed(network, x):
    """The decomposition and the warnings; None if the network normalizes over the batch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            whole = TGradAttribution(network).decompose(x, channel_dim=None)
        except ValueError as error:
            if "normalizes over the batch" in str(error):
                return None, []
            raise
    return whole, [str(each.message) for each in caught if each.category is UserWarning]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_terms_of_an_operation_add_up(name):
    for operation, x in _networks(OPERATIONS[name]):
        weights = randn(*operation(x).shape)

        def network(x, operation=operation, weights=weights):
            return (operation(x) * weights).sum()[None]

        output, gradient = _gradient(network, x)
        whole, _ = _decomposed(network, x)
        if whole is None:
            continue
        scale = float(sum(term.score.abs() for term in whole.terms)) + 1e-12
        torch.testing.assert_close(whole.output, output, rtol=0, atol=1e-9 * scale)
        expected = (gradient * x).sum()[None]
        torch.testing.assert_close(whole.input.score, expected, rtol=0, atol=1e-9 * scale)
        assert float(whole.delta.abs()) <= 1e-9 * scale


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - FLAT))
def test_an_operation_has_a_flat_map_only_with_a_warning(name):
    for operation, x in _networks(OPERATIONS[name]):
        element = random.Random(0).randrange(len(operation(x)))

        def network(x, operation=operation, element=element):
            return operation(x)[element][None]

        depends = _gradient(network, x)[1][0] != 0
        whole, messages = _decomposed(network, x)
        if whole is None or not depends.any() or depends.all():
            continue
        # An element that depends on the first and the last row may have its place in any row.
        rows = [
            depends.movedim(dim, 0).reshape(size, -1).any(1)
            for dim, size in enumerate(depends.shape)
        ]
        if all(bool(each[0] and each[-1]) for each in rows):
            continue
        for term in whole.biases:
            if float(term.score.abs()) > 1e-9 * float(whole.output.abs()):
                assert float(term.placed) > 0.99 or messages
