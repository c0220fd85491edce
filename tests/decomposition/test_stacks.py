"""Maps of several terms in one tensor: no term changes because of the others in its stack."""

import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.maps.reduction import Reduction
from captum_tgrad.decomposition.maps.stacks import scores_of, stacked_maps
from captum_tgrad.decomposition.maps.summing import InputSums, TermSums
from tests.decomposition.checks import randn

ALONE = {"rtol": 0, "atol": 0}


def test_a_term_has_the_maps_that_it_would_have_alone():
    in_order, beside = _reductions()
    terms = [
        TermSums({0: InputSums(values, values.abs(), to_cells)}, {})
        for values, to_cells in [
            (randn(2, 1, 4, seed=0), in_order),
            (randn(2, 1, 5, seed=1), beside),
            (randn(2, 1, 4, seed=2), in_order),
            (randn(2, 1, 5, seed=3), beside),
        ]
    ]
    (together,) = stacked_maps(terms)
    for row, position in enumerate(together.positions):
        (alone,) = stacked_maps([terms[position]])
        for name in ("positive", "negative", "score", "placed"):
            found = getattr(together, name)[row]
            torch.testing.assert_close(found, getattr(alone, name)[0], **ALONE)


def _reductions():
    """To four cells in two samples: of elements in their order, and of one more without a place."""
    whole = TGradAttribution(lambda x: (x + 1).sum((1, 2))).decompose(randn(1, 2, 4, seed=0))
    alike = {"samples": 2, "grid": whole.biases[0].maps[0].grid, "spread": (None,), "sizes": (4,)}
    beside = torch.tensor([[[0, 1, 2, 3, 8]], [[4, 5, 6, 7, 9]]])
    return (
        Reduction(summed_shape=(2, 1, 4), indices=(), **alike),
        Reduction(summed_shape=(2, 1, 5), indices=(beside,), all_placed=False, **alike),
    )


def test_whole_terms_stay_placed_beside_terms_that_are_partly_outside():
    def padded(x):
        return F.pad(x.sigmoid(), (1, 1, 1, 1), value=0.1).add(0.5).sum((1, 2, 3))

    def network(x):  # the first term is less than the smallest normal number
        return ((x + 1) * 1e-40).sum((1, 2, 3)) + padded(x)

    whole = TGradAttribution(network).decompose(torch.ones(1, 2, 4, 4))
    placed = {term.name: float(term.placed) for term in whole}
    assert placed["add"] == 1.0
    assert placed["pad"] == 0.0
    assert 0 < placed["add#2"] < 1


def test_a_term_has_one_score_on_all_of_its_inputs():
    # It cancels up to rounding, and the sum on the other cells is rounded differently.
    for seed in range(20):
        constant = randn(1, 8, 32, 32, seed=seed).float() * 1e3
        constant -= constant.mean((1, 2, 3), keepdim=True)

        def network(x, y, constant=constant):
            return (x + y[..., None] + constant).sum((1, 2, 3))

        x, y = torch.full((1, 8, 32, 32), 1e-3), torch.full((1, 8, 32), 1e-3)
        method = TGradAttribution(network)
        (score,) = method.decompose((x, y)).biases[0].score
        own = x.sum()  # of each input: every element of y is added 32 times
        for sign, expected in (("positive", own + score.relu() / 2), ("negative", -score / 2)):
            for attribution in method.attribute((x, y), sign=sign):
                torch.testing.assert_close(attribution.sum(), expected.relu(), rtol=1e-4, atol=1e-4)


def test_scores_are_in_the_order_of_the_terms():
    to_cells = Reduction(1, (1, 1), grid=None, indices=(), spread=(), sizes=())
    numbers = [torch.full((1, 1), float(number)) for number in range(4)]
    terms = [
        TermSums({position % 2: InputSums(number, number, to_cells)}, {})
        for position, number in enumerate(numbers)
    ]
    assert [float(score) for score in scores_of(stacked_maps(terms))] == [0.0, 1.0, 2.0, 3.0]


def test_a_sample_without_evidence_is_placed_beside_one_that_is_partly_outside():
    _, beside = _reductions()
    signed = torch.tensor([[[1.0, 1, 1, 1, 4]], [[0.0, 0, 0, 0, 0]]])
    (found,) = stacked_maps([TermSums({0: InputSums(signed, signed, beside)}, {})])
    torch.testing.assert_close(found.placed, torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(found.positive[0], signed[..., :4] * 2)
