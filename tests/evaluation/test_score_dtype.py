"""Scores in bfloat16 are close to those in float32, of the same maps, and leave the model alone."""

import copy
import json

import pytest
import torch
from torch import nn

from captum_tgrad.cli import resolve
from captum_tgrad.cli.main import main
from captum_tgrad.evaluation import Method, OutputError, evaluate
from captum_tgrad.metrics import average_drop, insertion_deletion
from tests.evaluation.networks import classifier, images, network

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]

FAST = {"n_steps": 8, "batch_size": 2}
MAP = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(5))
FIXED = Method("fixed", "", "", lambda model, black: lambda inputs, target: MAP + 0 * inputs)


class Watched(nn.Module):
    """Notes its passes, writes to a buffer, and fails at one of its passes."""

    def __init__(self, failing=-1):
        super().__init__()
        self.network, self.passes, self.failing = network(), [], failing
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, inputs):
        outputs = self.network(inputs)
        self.calls += 1
        self.passes.append((len(inputs), outputs.dtype))
        if len(self.passes) == self.failing:
            raise RuntimeError("in the middle")
        return outputs


def _autocast_state():
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
    )


def test_scores_are_close_but_not_equal():
    exact, rounded = (
        evaluate(network(), images(3), ["t_grad", "random"], score_dtype=dtype, **FAST).records
        for dtype in (torch.float32, torch.bfloat16)
    )
    for one, other in zip(exact, rounded, strict=True):
        for key in ("image", "method", "target", "residual", "digest"):
            assert one.get(key) == other.get(key)
        assert {"image", "method", "target", "digest"} <= one.keys() & other.keys()
        for key in ("clean_score", "baseline_score", "insertion", "deletion"):
            assert other[key] != one[key], key
            assert other[key] == pytest.approx(one[key], abs=0.02), key


def test_all_scores_are_those_of_autocast_around_the_model():
    model, image = network(), images(1)
    (found,) = evaluate(model, image, [FIXED], score_dtype=torch.bfloat16, **FAST).records

    def by_hand(inputs):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(inputs)
        assert logits.dtype == torch.bfloat16
        return logits.detach().float().softmax(1)

    options = {"target": found["target"], "score": "logit"}
    areas = insertion_deletion(by_hand, image, MAP, n_steps=8, **options)
    expected = {
        "clean_score": by_hand(image)[0, found["target"]],
        "baseline_score": areas.insertion_baseline_score,
        "insertion": areas.insertion,
        "deletion": areas.deletion,
        "average_drop": average_drop(by_hand, image, MAP, **options).average_drop,
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(float(value), rel=1e-6), key


def test_maps_and_the_class_are_computed_in_float32():
    maps = {torch.float32: [], torch.bfloat16: []}
    for dtype, kept in maps.items():
        model = Watched().eval()

        def gradient(inputs, target, model=model, kept=kept):
            inputs.requires_grad_()
            score = model(inputs).gather(1, target[:, None]).sum()
            kept += torch.autograd.grad(score, inputs)
            return kept[-1]

        method = Method("gradient", "", "", lambda model, black, compute=gradient: compute)
        evaluate(model, images(2), [method], score_dtype=dtype, **FAST)
        # The class, two runs of the method that are not timed, the maps; then, image by image: the
        # image, its blur, the points of both curves, and the image under its map.
        assert [passed[1] for passed in model.passes[:4]] == [torch.float32] * 4
        assert {passed[1] for passed in model.passes[4:]} == {dtype}
        assert sum(count for count, _ in model.passes[4:]) == 2 * (1 + 1 + 2 * 7 + 1)
    for one, other in zip(*maps.values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("failing", [-1, 6])
def test_nothing_of_the_users_is_changed_even_after_an_error(failing):
    model = Watched(failing).eval()
    model.network[0].weight.requires_grad_(False)
    model.network[8].weight.grad = torch.ones(4, 8)
    state, before = _autocast_state(), copy.deepcopy(model.state_dict())
    flags = [(each.requires_grad, each.dtype) for each in model.parameters()]
    attributes = [set(vars(module)) for module in model.modules()]
    options = {"score_dtype": torch.bfloat16, **FAST}
    if failing < 0:
        evaluate(model, images(2), [FIXED], **options)
    else:
        with pytest.raises(RuntimeError, match="in the middle"):
            evaluate(model, images(2), [FIXED], **options)
        assert model.passes[-1][1] == torch.bfloat16
    assert _autocast_state() == state == (False, torch.bfloat16, True)
    # The first pass, for the class, is not one of the metrics.
    assert float(model.calls) == float(before.pop("calls")) + 1
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert flags == [(each.requires_grad, each.dtype) for each in model.parameters()]
    assert torch.equal(model.network[8].weight.grad, torch.ones(4, 8))
    assert not any(module.training for module in model.modules())
    assert attributes == [set(vars(module)) for module in model.modules()]
    assert not any(module._forward_hooks for module in model.modules())


def _autocast_keeps_weights_without_gradient():
    """Whether this torch reuses a weight that was cast under no_grad where it needs a gradient."""
    layer = nn.Linear(2, 2)
    with torch.autocast("cpu", torch.float16):
        with torch.no_grad():
            layer(torch.rand(1, 2))
        return not layer(torch.rand(1, 2)).requires_grad


@pytest.mark.skipif(_autocast_keeps_weights_without_gradient(), reason="a fault of torch 2.8")
def test_a_users_autocast_goes_on_with_its_own_weights():
    model, image = network(), images(1)
    with torch.autocast("cpu", torch.float16):
        evaluate(model, image, [FIXED], score_dtype=torch.bfloat16, **FAST)
        assert _autocast_state() == (True, torch.float16, True)
        # A weight that was cast without gradient, and kept, would have none here.
        logits = model(image)
        assert logits.dtype == torch.float16
        logits.sum().backward()
    assert all(float(each.grad.abs().sum()) > 0 for each in model.parameters())


def test_another_precision_is_not_mixed_in(tmp_path):
    model, options = network(), {"resume": True, **FAST}
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        out = tmp_path / name
        found = evaluate(model, images(2), [FIXED], out, score_dtype=dtype, limit=1, **options)
        assert ("- score_dtype: bfloat16" in found.table) == (dtype == torch.bfloat16)
        (other,) = {torch.float32, torch.bfloat16} - {dtype}
        names = {torch.float32: "not set", torch.bfloat16: "'bfloat16'"}
        said = f"score_dtype was {names[dtype]}, is {names[other]}"
        with pytest.raises(OutputError, match=f"used other settings: {said}"):
            evaluate(model, images(2), [FIXED], out, score_dtype=other, **options)
        found = evaluate(model, images(2), [FIXED], out, score_dtype=dtype, **options)
        assert len(found.records) == 2


def test_layers_without_a_training_mode_raise_no_warning(recwarn):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))  # never in evaluation mode
    evaluate(model, images(1), [FIXED], score_dtype=torch.bfloat16, **FAST)
    assert not [each for each in recwarn if "training mode" in str(each.message)]


@pytest.mark.parametrize("given", ["bfloat16", torch.float16, None, 16])
def test_a_precision_that_is_not_known_is_refused(given, tmp_path):
    said = r"score_dtype must be torch\.float32 or torch\.bfloat16, got "
    with pytest.raises(ValueError, match=said):
        evaluate(network(), images(1), [FIXED], tmp_path / "out", score_dtype=given)
    assert not (tmp_path / "out").exists()


def test_a_precision_that_would_have_no_effect_is_refused():
    options = {"score_dtype": torch.bfloat16}
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=f"'0.weight' is in {dtype}: call model.float()"):
            evaluate(network().to(dtype), images(1).to(dtype), [FIXED], **options)
    with pytest.raises(ValueError, match=r"torch\.bfloat16 is not supported by autocast on meta"):
        evaluate(network().to("meta"), images(1), [FIXED], **options)


def test_a_device_that_only_warns_is_refused_too(monkeypatch):
    class Disabled(torch.autocast):
        """As on a device whose hardware or system is too old for bfloat16."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options, enabled=False)

    monkeypatch.setattr(torch, "autocast", Disabled)
    with pytest.raises(
        ValueError, match=r"bfloat16 is not supported by autocast on cpu.*use torch\.float32"
    ):
        evaluate(network(), images(1), [FIXED], score_dtype=torch.bfloat16)


def test_the_command_line(tmp_path, capsys, monkeypatch):
    found = classifier(Watched().eval())
    monkeypatch.setattr(resolve, "load_classifier", lambda *arguments: found)
    out = tmp_path / "out"
    command = ["evaluate", "--out", str(out), "--methods", "random", "--n-steps", "2"]
    command += ["--limit", "1", "--score-dtype"]
    assert main([*command, "bfloat16"]) == 0
    assert {dtype for _, dtype in found.model.passes[1:]} == {torch.bfloat16}
    assert json.loads((out / "protocol.json").read_text())["score_dtype"] == "bfloat16"
    capsys.readouterr()
    assert main([*command, "float32", "--resume"]) == 2
    assert "score_dtype was 'bfloat16', is not set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "float16"])
    assert "choose from" in capsys.readouterr().err
    found.model.double()
    assert main([*command, "bfloat16", "--resume"]) == 2
    assert "needs a model in float32" in capsys.readouterr().err
