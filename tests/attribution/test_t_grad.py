"""T-Grad against the literal reference of eq. 5 to 8, network by network."""

import itertools
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import Decomposition, TGradAttribution
from captum_tgrad.decomposition.tracing import trace
from captum_tgrad.decomposition.tracing.folded_norms import FoldedNorms
from tests import reference
from tests.networks import TINY_NETWORKS, TinyNetwork, each_network

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def _inputs(tiny: TinyNetwork):
    inputs = tiny.inputs
    return inputs if len(inputs) > 1 else inputs[0]


@cache
def _reference(name: str) -> reference.Decomposition:
    tiny = TINY_NETWORKS[name]
    return reference.decompose(tiny.build(), _inputs(tiny), tiny.target)


@pytest.fixture
def replaced(monkeypatch):
    """Runs every operation in its own form, as on a GPU; the functions that have another one."""
    monkeypatch.setattr(trace, "are_small", lambda leaves: False)
    functions = []

    def in_its_own_form(call, readers):
        if call.record.form is not None:
            functions.append(call.func)
        return call()

    monkeypatch.setattr(trace, "run_equal_form", in_its_own_form)
    monkeypatch.setattr(FoldedNorms, "fold", lambda self, call: None)
    return functions


def _assert_terms_equal_the_reference(actual: Decomposition, tiny: TinyNetwork) -> None:
    expected = _reference(tiny.id)
    torch.testing.assert_close(actual.output, expected.output, **EXACT)
    for term, literal in zip(actual.inputs, expected.inputs, strict=True):
        torch.testing.assert_close(term.score, literal.score, **EXACT)
    by_name = {term.name: term for term in actual.biases}
    literals = expected.nonzero_biases
    largest = max((float(term.score.abs().max()) for term in literals), default=0)
    names = [
        t.name for t in actual.biases if float((t.positive + t.negative).max()) > 1e-13 * largest
    ]
    assert names == [term.name for term in literals]
    for literal in literals:
        term = by_name[literal.name]
        torch.testing.assert_close(term.score, literal.score, **EXACT)
        assert term.inputs == tuple(i for i, reached in enumerate(literal.reaches) if reached)
        if tiny.conventional:
            shape, shares = term.positive.shape, len(term.inputs)
            torch.testing.assert_close(
                term.positive, literal.positive.reshape(shape) / shares, **EXACT
            )
            torch.testing.assert_close(
                term.negative, literal.negative.reshape(shape) / shares, **EXACT
            )


@each_network
@pytest.mark.parametrize("is_small", [True, False])
def test_terms_equal_the_reference(tiny, is_small, monkeypatch):
    """Also in a second call, which may replay the first, and in the forms for large inputs."""
    monkeypatch.setattr(trace, "are_small", lambda leaves: is_small)
    method = TGradAttribution(tiny.build())
    for _ in range(2):
        actual = method.decompose(_inputs(tiny), tiny.target)
        _assert_terms_equal_the_reference(actual, tiny)


@each_network
def test_terms_equal_the_reference_without_equal_forms(tiny, replaced):
    method = TGradAttribution(tiny.build())
    _assert_terms_equal_the_reference(method.decompose(_inputs(tiny), tiny.target), tiny)
    if tiny.functional is not None:
        method = TGradAttribution(tiny.functional(tiny.build()))
        actual = method.decompose(_inputs(tiny), tiny.target)
        torch.testing.assert_close(actual.output, _reference(tiny.id).output, **EXACT)
        torch.testing.assert_close(actual.delta, torch.zeros_like(actual.delta), **EXACT)


@pytest.mark.parametrize(
    ("name", "function"), [("batch_norm", F.batch_norm), ("hardtanh", F.hardtanh)]
)
def test_without_equal_forms_the_operation_itself_runs(name, function, replaced):
    tiny = TINY_NETWORKS[name]
    TGradAttribution(tiny.build()).decompose(_inputs(tiny), tiny.target)
    assert function in replaced


@each_network
@pytest.mark.parametrize("sign", ["positive", "negative", "all"])
def test_map_equals_the_reference(tiny, sign):
    if not tiny.conventional:
        pytest.skip("the reference places only (N, C, *spatial) tensors")
    network = tiny.build()
    expected = tuple(
        reference.tgrad_attribution(_reference(tiny.id), sign, number)
        for number in range(len(tiny.inputs))
    )
    actual = TGradAttribution(network).attribute(tiny.inputs, tiny.target, sign=sign)
    torch.testing.assert_close(actual, expected, **EXACT)


@each_network
def test_functional_form_gives_the_same(tiny):
    if tiny.functional is None:
        pytest.skip("no functional form")
    network, inputs = tiny.build(), _inputs(tiny)
    modular = TGradAttribution(network).decompose(inputs, tiny.target)
    functional = TGradAttribution(tiny.functional(network)).decompose(inputs, tiny.target)
    for one, other in zip(modular.inputs, functional.inputs, strict=True):
        torch.testing.assert_close(one.positive, other.positive, **EXACT)
    torch.testing.assert_close(
        sum(term.score for term in modular.terms), sum(term.score for term in functional.terms)
    )
    torch.testing.assert_close(functional.delta, torch.zeros_like(functional.delta), **EXACT)
    if tiny.twin_terms:
        ones = [t for t in modular.biases if float((t.positive + t.negative).max()) > 1e-13]
        others = [t for t in functional.biases if float((t.positive + t.negative).max()) > 1e-13]
        for one, other in zip(ones, others, strict=True):
            torch.testing.assert_close(one.positive, other.positive, **EXACT)
            torch.testing.assert_close(one.negative, other.negative, **EXACT)


@each_network
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_attributions_sum_to_the_scores_and_are_those_of_each_sample_alone(tiny, sign):
    method, direction = TGradAttribution(tiny.build()), 1 if sign == "positive" else -1
    whole = method.decompose(tiny.inputs, tiny.target)
    scores = torch.stack([term.score for term in whole.terms])
    assert bool((whole.delta.abs() <= 1e-12 * scores.abs().sum(0)).all())
    for aggregation in ("paper", "levels"):
        options = {"sign": sign, "aggregation": aggregation}
        attributions = method.attribute(tiny.inputs, tiny.target, **options)
        for number, attribution in enumerate(attributions):
            assert float(attribution.min()) >= 0
            shares = [t.score / len(t.inputs) for t in whole.terms if number in t.inputs]
            expected = (direction * torch.stack(shares)).clamp(min=0).sum(0)
            torch.testing.assert_close(attribution.flatten(1).sum(1), expected, **EXACT)
        for sample in range(len(tiny.inputs[0])):
            alone = tuple(x[sample : sample + 1] for x in tiny.inputs)
            target = tiny.target[sample] if isinstance(tiny.target, list) else tiny.target
            found = method.attribute(alone, target, **options)
            for one, batch in zip(found, attributions, strict=True):
                torch.testing.assert_close(one[0], batch[sample], **EXACT)


@each_network
def test_the_map_of_a_decomposition_is_the_attribution_summed_over_channels(tiny):
    method = TGradAttribution(tiny.build())
    decomposition = method.decompose(_inputs(tiny), tiny.target)
    for options in itertools.product(["positive", "negative", "all"], ["paper", "levels"]):
        sign, aggregation = options
        attributions = method.attribute(
            tiny.inputs, tiny.target, sign=sign, aggregation=aggregation
        )
        for number, attribution in enumerate(attributions):
            if attribution.dim() < 3:
                continue
            found = decomposition.map(sign, aggregation, number)
            expected = attribution.sum(1, keepdim=True)
            torch.testing.assert_close(
                found.expand_as(expected), expected, rtol=1e-9, atol=1e-9,
                msg=lambda message, options=options: f"{options}: {message}",
            )  # fmt: skip


def test_one_sample_of_a_decomposition_is_its_own_decomposition():
    network = TINY_NETWORKS["relu"]
    method, inputs = TGradAttribution(network.build()), network.inputs[0]
    one = method.decompose(inputs, network.target).sample(0)
    alone = method.decompose(inputs[:1], network.target)
    assert [term.name for term in one] == [term.name for term in alone]
    torch.testing.assert_close(one.output, alone.output)
    torch.testing.assert_close(one.map(), alone.map())
    with pytest.raises(IndexError, match="there is no sample 9"):
        one.sample(9)
    with pytest.raises(ValueError, match="number is 1: there are 1 inputs"):
        one.map(number=1)
