"""Nothing of the user's is changed, also after an error."""

import copy
from weakref import WeakSet

import pytest
import torch
from torch import nn

from captum_tgrad.metrics import average_drop
from tests.metrics.every_metric import CURVES, METRICS, tensors_of
from tests.model_state import state_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:The baseline keeps half"),
    pytest.mark.filterwarnings("ignore:forward_func is in training mode"),
]


class FailingLate(nn.Module):
    """Fails at the third call, if at all."""

    def __init__(self, failing):
        super().__init__()
        self.calls, self.failing = 0, failing

    def forward(self, x):
        self.calls += 1
        if self.failing and self.calls == 3:
            raise RuntimeError("half-way")
        return x


def _model(failing):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.ReLU(inplace=True),  # overwrites what it is given
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(),
        FailingLate(failing),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )
    model.eval()
    model[2].train()  # would change its buffers
    model[3].train()  # would use the random state
    model[1].weight.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    return model


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("failing", "target", "error"),
    [(False, 1, None), (True, 1, RuntimeError), (False, 7, ValueError)],
)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_model_inputs_and_random_state_are_as_before(metric, failing, target, error, requires_grad):
    model = _model(failing)
    tensors = [torch.randn(2, 3, 8, 8) for _ in range(3)]
    values = [tensor.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.requires_grad_(requires_grad)
    inputs, attributions, baseline = tensors
    before = state_of(model)
    if error is None:
        result = metric(model, inputs, attributions, baseline, target=target)
        assert not any(value.requires_grad for value in tensors_of(result))
    else:
        with pytest.raises(error):
            metric(model, inputs, attributions, baseline, target=target, max_examples_per_batch=1)
    assert state_of(model) == before
    for tensor, value in zip(tensors, values, strict=True):
        assert torch.equal(tensor, value)
        assert tensor.requires_grad == requires_grad
        assert tensor.grad is None


def test_the_guard_is_needed():
    # Otherwise the test above could not fail.
    model = _model(failing=False)
    before = state_of(model)
    model(torch.randn(2, 3, 8, 8))
    after = state_of(model)
    assert after["values"] != before["values"]
    assert after["random state"] != before["random state"]


class Counting(nn.Module):
    """Writes to its buffers in evaluation mode too, in every way there is."""

    def __init__(self):
        super().__init__()
        self.register_buffer("assigned", torch.zeros(2))
        self.register_buffer("in_place", torch.tensor([0.0, torch.nan]))
        self.register_buffer("data", torch.zeros(2))
        self.register_buffer("cache", None)

    def forward(self, x):
        self.assigned = self.assigned + 1
        self.in_place += 1
        self.data.data.add_(1)
        if self.cache is None:
            self.cache = x.mean()
        return x.flatten(1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("failing", [False, True])
def test_buffers_are_the_same_tensors_with_the_same_numbers(metric, training, failing):
    counting = Counting()
    model = nn.Sequential(counting, FailingLate(failing)).train(training)
    before = dict(counting._buffers)
    values = copy.deepcopy(before)
    arguments = (model, torch.rand(3, 4), torch.rand(3, 4), 0, None, 1)
    if failing:
        with pytest.raises(RuntimeError, match="half-way"):
            metric(*arguments, max_examples_per_batch=1)
    else:
        metric(*arguments)
    assert counting._buffers.keys() == before.keys()
    for name, buffer in counting._buffers.items():
        assert buffer is before[name], name
        if buffer is not None:
            torch.testing.assert_close(buffer, values[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("metric", METRICS)
def test_the_modules_that_a_function_runs_are_as_before(metric):
    model, other = _model(failing=False), nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
    images, maps = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    before = state_of(model), state_of(other)

    def forward(x):
        z = model[2](model[1](x))  # a part of a model, before the whole model
        return model(x) + z.mean((2, 3))[:, :3] + other(x).mean(1, keepdim=True)

    metric(forward, images, maps, 0, None, 1)
    assert (state_of(model), state_of(other)) == before


def test_a_function_that_replaces_the_buffers_of_a_module():
    model, images = _model(failing=False), torch.rand(2, 3, 8, 8)
    others = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    stacked = {name: torch.stack([tensor, tensor]) for name, tensor in others.items()}
    before, values = state_of(model), {name: tensor.clone() for name, tensor in others.items()}

    def call(tensors, x):
        return torch.func.functional_call(model, tensors, (x,))

    def forward(x):
        model.eval()
        of_all = torch.func.vmap(call, (0, None), randomness="different")(stacked, x).mean(0)
        model[2].train(), model[3].train()
        return call(others, x) + of_all

    average_drop(forward, images, torch.rand_like(images), target=1)
    assert state_of(model)["tensors"] == before["tensors"]
    assert state_of(model)["values"] == before["values"]
    assert all(torch.equal(others[name], value) for name, value in values.items())


def test_modules_that_a_function_creates_are_freed():
    model, images, alive = _model(failing=False), torch.rand(2, 3, 8, 8), WeakSet()

    def forward(x):
        assert not alive
        created = copy.deepcopy(model)
        alive.add(created)
        return created(x)

    average_drop(forward, images, torch.rand_like(images), target=1)


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("as_function", [False, True])
def test_lazy_modules_are_initialized(as_function):
    lazy = nn.Sequential(nn.LazyBatchNorm2d(), nn.Flatten(), nn.Linear(192, 3)).eval()
    images = torch.rand(2, 3, 8, 8)
    average_drop(lazy.forward if as_function else lazy, images, torch.rand_like(images), target=1)
    assert torch.equal(lazy[0].running_mean, torch.zeros(3))


@pytest.mark.filterwarnings("ignore:Using `torch.compile")
def test_a_function_of_a_compiled_model():
    model = _model(failing=False)
    images, compiled = torch.rand(2, 3, 8, 8), torch.compile(model, backend="eager")
    before = state_of(model)
    average_drop(lambda x: compiled(x), images, torch.rand_like(images), target=1)
    assert state_of(model)["values"] == before["values"]


@pytest.mark.parametrize("training", [False, True])
def test_a_backward_pass_that_is_yet_to_be_run(training):
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).train(training)
    loss = model(torch.rand(3, 4)).sum()
    average_drop(model, torch.rand(3, 4), torch.rand(3, 4), target=1)
    loss.backward()
    assert model[1].weight.grad is not None


@pytest.mark.parametrize("training", [False, True])
def test_buffers_that_cannot_be_written_or_compared(training):
    model = nn.Sequential(nn.Linear(4, 2)).train(training)
    with torch.inference_mode():
        model.register_buffer("of inference", torch.ones(2))
    model.register_buffer("expanded", torch.ones(1, 1).expand(3, 3))
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    before = dict(model._buffers)
    average_drop(model, torch.rand(3, 4), torch.rand(3, 4), target=1)
    assert all(buffer is before[name] for name, buffer in model._buffers.items())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_a_default_device_that_the_user_has_set_changes_no_number(metric):
    model, x = _model(failing=False).eval(), torch.rand(2, 3, 8, 8)
    own = {"n_steps": 4} if metric in CURVES else {}
    expected = metric(model, x, x, target=1, **own)
    with torch.device("meta"):  # tensors on it have no values: any that is read raises an error
        found = metric(model, x, x, target=1, **own)
    for one, other in zip(tensors_of(found), tensors_of(expected), strict=True):
        assert torch.equal(one, other)
