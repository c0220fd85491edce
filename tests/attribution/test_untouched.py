"""Nothing of the user's is changed, also after an error."""

import pytest
import torch
from torch import nn

from captum_tgrad import FullGradAttribution, LayerTGradAttribution, TGradAttribution
from tests.model_state import state_of

METHODS = {
    "t_grad": TGradAttribution,
    "full_grad": FullGradAttribution,
    "layer": lambda model: LayerTGradAttribution(model, model[1]),
}
methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def _model(failing: bool) -> nn.Module:
    class Failing(nn.Module):
        def forward(self, x):
            if failing:
                raise RuntimeError("half-way")
            return x

    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        Failing(),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )
    model.eval()
    model[6].train()  # a module's own flag, which a blanket eval() or train() would lose
    model[0].weight.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    model[1].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("failing", "target", "error"),
    [
        (False, 1, None),
        (False, 7, ValueError),  # found only once the forward pass has run
        (False, None, ValueError),
        (True, 1, RuntimeError),
    ],
)
@pytest.mark.parametrize("requires_grad", [False, True])
@methods
def test_model_and_inputs_are_as_before(method, failing, target, error, requires_grad):
    model = _model(failing)
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    values = inputs.clone()
    inputs.requires_grad_(requires_grad)
    before = state_of(model)
    explained = method(model)
    if error is None:
        result = explained.attribute(inputs, target=target)
        assert not result.requires_grad
    else:
        with pytest.raises(error):
            explained.attribute(inputs, target=target)
    assert state_of(model) == before
    assert torch.equal(inputs, values)
    assert inputs.requires_grad == requires_grad
    assert inputs.grad is None
    assert inputs._backward_hooks is None


@methods
def test_an_input_that_the_model_overwrites_is_kept(method):
    inputs = torch.tensor([[-1.0, 2.0]])
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 1), nn.ReLU(inplace=True))
    method(model).attribute(inputs, target=0)
    assert inputs.tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@methods
def test_any_gradient_mode_gives_the_same(method, context):
    model = _model(failing=False)
    plain = torch.randn(2, 3, 8, 8)
    expected = method(model).attribute(plain, target=torch.tensor([0, 2]))
    with context():
        inputs, target = plain.clone(), torch.tensor([0, 2])
        inside = method(model).attribute(inputs, target=target)
    assert torch.equal(inside, expected)
    assert torch.equal(method(model).attribute(inputs, target=target), expected)


class Consuming(nn.Module):
    """Takes its scale out of its arguments, so that another run with the same ones would fail."""

    def __init__(self):
        super().__init__()
        self.layer, self.draws, self.shifts = nn.Linear(4, 2), False, False

    def forward(self, x, scales, options):
        if self.draws:
            torch.rand([])  # the output does not depend on it, which only other runs show
        scale = scales.pop() * options.pop("factor")
        x = self.layer(x) * scale
        return x.exp() if self.shifts else x


@pytest.mark.parametrize("change", ["draws", "shifts"])
@pytest.mark.parametrize("method", [TGradAttribution, LayerTGradAttribution])
def test_a_network_that_runs_again_gets_its_arguments_as_they_were(method, change):
    network, x = Consuming().eval(), torch.rand(2, 4)
    layer = () if method is TGradAttribution else (network.layer,)
    explainer = method(network, *layer)
    scales, options = [3.0], {"factor": 2.0}
    for value in (False, False, True, True):
        setattr(network, change, value)
        found = explainer.decompose(x, 0, (scales, options))
        torch.testing.assert_close(found.output, network(x, [3.0], {"factor": 2.0})[:, 0])
        assert scales == [3.0]
        assert options == {"factor": 2.0}
