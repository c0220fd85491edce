"""A warning names the line of the user's program, however deep it was found."""

import warnings

import pytest
import torch
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.metrics import deletion, insertion_deletion

X = torch.rand(2, 3, 4, 4)


class _ThroughData(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        h = self.conv(x)
        h.data += 1
        return h.sum((2, 3))


MODEL = _ThroughData()
CALLS = {
    "attribute": lambda: TGradAttribution(MODEL).attribute(X, target=0),
    "decompose": lambda: TGradAttribution(MODEL).decompose(X, target=0),
    "layer": lambda: LayerTGradAttribution(MODEL, MODEL.conv).attribute(X, target=0),
    "metric": lambda: deletion(MODEL.eval(), X, torch.ones_like(X), target=0, n_steps=2),
    "several": lambda: insertion_deletion(MODEL, X, {"a": torch.ones_like(X)}, target=0, n_steps=2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_warning_points_at_this_file(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    ours = [each for each in caught if each.category is UserWarning]
    assert ours
    assert {each.filename for each in ours} == {__file__}
