"""A cumulative sum is at all elements up to its own, in a row of steps and in rows of tokens."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

STEPS, ROWS, COLUMNS, WIDTH = 12, 3, 4, 6
SIGNALS, IMAGES = (torch.rand(3, 1, *size).double() for size in ((STEPS,), (ROWS, COLUMNS)))
WEIGHTS = randn(STEPS, seed=1)
READ = {"last": slice(-1, None), "third": slice(2, 3), "all": slice(None)}


def _in_a_loop(tokens):
    state, states = torch.zeros_like(tokens[:, 0]), []
    for token in tokens.unbind(1):
        state = state + token
        states.append(state)
    return torch.stack(states, 1)


def _by_matrix(tokens):
    return torch.ones(STEPS, STEPS).double().tril() @ tokens


SUMS = {"cumsum": partial(torch.cumsum, dim=1), "matrix": _by_matrix, "loop": _in_a_loop}


def _output(x, add, read):
    states = add(x.flatten(2).mT)
    return (F.silu(states)[..., 0] * WEIGHTS)[:, read].sum(1)


def _evidence(x, read):
    """The absolute values of the terms of the states, which are 0 if they are not read."""
    states = x.flatten(1).cumsum(1)
    terms = WEIGHTS * states * states.sigmoid() * (states * states.sigmoid() - states)
    is_read = torch.zeros(STEPS).index_fill_(0, torch.arange(STEPS)[read], 1)
    return terms.abs() * is_read


def _assert_placed(x, add, read, at, sums_rows=False):
    """``at(step)`` is where a state is: a subscript of the map, or of its sums of rows."""
    term = TGradAttribution(partial(_output, add=add, read=read)).decompose(x).terms[-1]
    expected = torch.zeros_like(x)
    for step, evidence in enumerate(_evidence(x, read).T):
        part = expected[:, 0][(slice(None), *at(step))]
        part += evidence.reshape(-1, *[1] * (part.dim() - 1)) / part[0].numel()
    found = term.positive + term.negative
    if sums_rows:
        found, expected = found.sum(3), expected.sum(3)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize("add", SUMS.values(), ids=SUMS)
def test_a_state_is_at_all_steps_up_to_its_own(add, read, samples):
    _assert_placed(SIGNALS[:samples], add, read, lambda step: (slice(0, step + 1),))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_a_state_of_tokens_in_rows_is_in_the_rows_up_to_its_own(read, samples):
    def at(token, whole_rows=False):
        row, column = divmod(token, COLUMNS)
        is_whole = row > 0 or whole_rows
        return slice(0, row + 1), slice(0, COLUMNS if is_whole else column + 1)

    images = IMAGES[:samples]
    _assert_placed(images, SUMS["cumsum"], read, at)
    _assert_placed(images, SUMS["matrix"], read, partial(at, whole_rows=True), sums_rows=True)


SHIFTS = {
    "negative padding": lambda h: F.pad(h, (0, 0, 1, -1)),
    "module": torch.nn.ZeroPad2d((0, 0, 1, -1)),
    "roll": lambda h: torch.cat([h[:, :1] * 0, h[:, :-1]], 1),
}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_a_shift_of_tokens_by_one_before_a_cumulative_sum_has_one_map(shift):
    """As in RWKV, where a state is combined with the token and the token before it."""
    first, weights = randn(1, WIDTH, seed=2), randn(STEPS, WIDTH, seed=3)

    def network(x, shift):
        tokens = torch.relu(x.mT @ first)
        mixed = 0.3 * tokens + 0.7 * shift(tokens)
        values = mixed.exp()
        states = values.cumsum(1) / STEPS
        return (F.silu(mixed.sigmoid() * states) * weights).sum((1, 2))

    def plain(h):
        return torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)

    assert_same_maps(partial(network, shift=shift), partial(network, shift=plain), SIGNALS)
