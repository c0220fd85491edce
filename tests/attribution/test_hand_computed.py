"""Cases worked out by hand, in the manner of the paper's section 2.2."""

import torch
from torch import nn

from captum_tgrad import TGradAttribution


def test_a_zero_feature_gets_nothing():
    # f(x1, x2) = -2 x1 + 9 x2 at (0, 1): df/dx2 * x2 = 9 and df/dx1 * x1 = 0, although its
    # gradient is -2. At (1, 2), f = -2 + 18 = 16: the evidence for f lies in x2 alone, which
    # stands for the whole score.
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[-2.0, 9.0]])
    inputs = torch.tensor([[0.0, 1.0], [1.0, 2.0]])
    method = TGradAttribution(model)
    assert method.attribute(inputs, target=0).tolist() == [[0.0, 9.0], [0.0, 16.0]]
    assert method.attribute(inputs, target=0, sign="negative").tolist() == [[0.0, 0.0]] * 2


def test_two_places_and_a_rectifier():
    # One channel, two places: h = ReLU(2 x + 1) and f = h[0] - 3 h[1] + 4 at x = (1, 5).
    # h = (3, 11), f = 3 - 33 + 4 = -26. df/dh = (1, -3); both units are active.
    # input:      df/dx = (2, -6), c = (2, -30): positive (2, 0), negative (0, 30), score -28
    # conv bias:  df/dy = (1, -3), b = 1: positive (1, 0), negative (0, 3), score -2
    # class bias: 4, no place.                                     sum: -28 - 2 + 4 = -26
    conv, linear = nn.Conv1d(1, 1, 1), nn.Linear(2, 1)
    conv.weight.data, conv.bias.data = torch.tensor([[[2.0]]]), torch.tensor([1.0])
    linear.weight.data, linear.bias.data = torch.tensor([[1.0, -3.0]]), torch.tensor([4.0])
    method = TGradAttribution(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), linear))
    x = torch.tensor([[[1.0, 5.0]]])

    whole = method.decompose(x, target=0)
    assert whole.output.tolist() == [-26.0]
    assert len(whole) == 3
    assert [(term.name, term.score.item()) for term in whole.terms] == [
        ("input", -28.0),
        ("0", -2.0),
        ("3", 4.0),
    ]
    assert whole.input.positive.tolist() == [[[2.0, 0.0]]]
    assert whole.input.negative.tolist() == [[[0.0, 30.0]]]
    assert whole.biases[0].positive.tolist() == [[[1.0, 0.0]]]
    assert whole.biases[0].negative.tolist() == [[[0.0, 3.0]]]
    assert whole.biases[1].positive.tolist() == [[4.0]]
    # For: only the class bias, spread evenly. Against: 28 and 2, both at the second place.
    assert method.attribute(x, target=0).tolist() == [[[2.0, 2.0]]]
    assert method.attribute(x, target=0, sign="negative").tolist() == [[[0.0, 30.0]]]
    assert method.attribute(x, target=0, sign="all").tolist() == [[[2.0, -28.0]]]
