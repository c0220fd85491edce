"""Maps of several terms in one tensor: no term changes because of the others in its stack."""

import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.maps import Reduced, Sums
from captum_tgrad.decomposition.stacks import scores_of, stacked

ALONE = {"rtol": 0, "atol": 0}


def _random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_term_has_the_maps_that_it_would_have_alone():
    grid = _grid()
    beside = _random(2, seed=1), _random(2, seed=2).abs()
    terms = [
        Reduced({0: Sums(_random(2, 1, 4, seed=n), _random(2, 1, 4, seed=n).abs(), rest, grid)}, {})
        for n, rest in enumerate([None, beside, None])
    ]
    (together,) = stacked(terms)
    for position, term in enumerate(terms):
        (alone,) = stacked([term])
        for name in ("positive", "negative", "score", "placed"):
            found = getattr(together, name)[position]
            torch.testing.assert_close(found, getattr(alone, name)[0], **ALONE)


def _grid():
    whole = TGradAttribution(lambda x: (x + 1).sum((1, 2))).decompose(_random(1, 2, 4, seed=0))
    return whole.biases[0].maps[0].grid


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
        constant = _random(1, 8, 32, 32, seed=seed) * 1e3
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
    numbers = [torch.full((1, 1), float(number)) for number in range(4)]
    terms = [
        Reduced({position % 2: Sums(number, number, None, None)}, {})
        for position, number in enumerate(numbers)
    ]
    assert [float(score) for score in scores_of(stacked(terms))] == [0.0, 1.0, 2.0, 3.0]


def test_a_sample_without_evidence_is_placed_beside_one_that_is_partly_outside():
    signed, outside = torch.tensor([[[1.0]], [[0.0]]]).expand(2, 1, 4), torch.tensor([4.0, 0.0])
    (found,) = stacked([Reduced({0: Sums(signed, signed, (outside, outside), _grid())}, {})])
    torch.testing.assert_close(found.placed, torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(found.positive[0], signed * 2)
