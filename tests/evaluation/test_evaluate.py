"""Records hold what the metrics say when called directly, whatever fails beside them."""

import gc
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL.Image import DecompressionBombError

from captum_tgrad.evaluation import METHODS, Method, evaluate
from captum_tgrad.evaluation.methods.method import image_seed
from captum_tgrad.evaluation.running import timed_method as timed
from captum_tgrad.evaluation.storage.records import read_records
from captum_tgrad.metrics import average_drop, increase_in_confidence, insertion_deletion
from captum_tgrad.metrics.registry import NUMBERS
from captum_tgrad.visualization import metrics_figure
from tests.evaluation.networks import SIDE, classifier, dense_network, images, network

# Random networks recognize a blurred random image as well as it itself.
pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]

FAST = {"n_steps": 8, "batch_size": 2}
KEYS = ["image", "method", "target", "clean_score", "baseline_score", *NUMBERS]


def _by_pair(records):
    return {(record["image"], record["method"]): record for record in records}


def _without_seconds(records):
    return {
        pair: {key: value for key, value in record.items() if key != "seconds"}
        for pair, record in _by_pair(records).items()
    }


def test_records_are_the_metrics_called_directly(tmp_path):
    found = classifier()
    model, inputs = found.model, images(5)
    names = ["t_grad", "saliency", "grad_cam", "random"]
    evaluate(found, inputs, names, tmp_path, **FAST)
    records = _by_pair(read_records(tmp_path))
    assert records.keys() == {(str(index), name) for index in range(5) for name in names}

    target = model(inputs).argmax(1)
    seeds = [image_seed(str(index)) for index in range(5)]
    explainers = {name: METHODS[name].build(found) for name in names}
    maps = {name: explainers[name](inputs, target, seeds) for name in names}
    residual = explainers["t_grad"].with_residual(inputs, target)[1]
    areas = insertion_deletion(model, inputs, maps, target=target, n_steps=8)
    drops = average_drop(model, inputs, maps, target=target)
    increases = increase_in_confidence(model, inputs, maps, target=target)
    for (image, name), record in records.items():
        index = int(image)
        assert list(record) == [
            *KEYS,
            *(["residual"] if name == "t_grad" else []),
            "seconds",
            "step_error",
            "digest",
        ]
        expected = {
            "target": target[index],
            "clean_score": areas[name].clean_score[index],
            "baseline_score": areas[name].deletion_baseline_score[index],
            "insertion": areas[name].insertion[index],
            "deletion": areas[name].deletion[index],
            "difference": areas[name].difference[index],
            "average_drop": drops[name].drop[index],
            "increase_in_confidence": increases[name].increase[index],
        }
        for key, value in expected.items():
            assert record[key] == pytest.approx(float(value), rel=1e-4, abs=1e-5), (key, image)
        assert record["seconds"] > 0
        if name == "t_grad":
            assert record["residual"] == pytest.approx(float(residual[index]), abs=1e-5)


def test_every_output_is_there_and_carries_the_protocol(tmp_path):
    out = tmp_path / "new" / "out"
    found = evaluate(classifier(), images(3), ["t_grad", "random"], out, **FAST)
    names = {path.name for path in out.iterdir()}
    wanted = {
        "records.jsonl",
        "skipped.jsonl",
        "protocol.json",
        "summary.json",
        "table.md",
        "summary.csv",
    }
    assert names == wanted | {"metrics.png", "seconds.png", "report.html"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for cell in found.table.split("T-Grad |")[1].split("\n")[0].strip(" |").split(" | "):
        best = ' class="best"' if cell.startswith("**") else ""
        mean, space, interval = cell.strip("*").partition(" ")
        assert f"<td{best}>{mean}{space}{interval and f'<span>{interval}</span>'}</td>" in page
    assert page.count("data:image/webp") == 2 + 3  # two figures of numbers, and three images
    assert "<dt>n steps</dt><dd>8</dd>" in page
    summary = json.loads((out / "summary.json").read_text())
    protocol = json.loads((out / "protocol.json").read_text())
    assert summary == found.summary
    assert summary["protocol"] == protocol
    assert (protocol["n_steps"], protocol["batch_size"], protocol["model"]) == (8, 2, "tiny")
    assert (out / "table.md").read_text() == found.table
    assert "- n_steps: 8" in found.table
    assert len(found.records) == 6
    # Checksums are for --resume: tables and pages only name them.
    checksums = {"weights", "architecture", "black"}
    assert all(len(protocol[name]) == 16 for name in checksums)
    for text in (found.table, page):
        assert (
            "The protocol in the summary also has checksums of: weights, architecture, black"
            in text
        )
        assert "resume" not in text
        assert not any(protocol[name] in text for name in checksums)


def test_the_protocol_is_that_of_the_metrics():
    model, inputs = network(), images(1)
    protocol = evaluate(model, inputs, ["random"], **FAST).summary["protocol"]
    direct = insertion_deletion(model, inputs, inputs, n_steps=8, target=0).protocol
    assert direct["baseline"]["insertion"] == protocol["baseline"]
    for key in ("n_steps", "score", "ties", "channel_reduce", "interpolate_mode"):
        assert protocol[key] == direct[key]


def test_batches_and_chunks_change_no_record():
    inputs = images(5)
    records = [
        _by_pair(
            evaluate(
                network(),
                inputs,
                ["t_grad", "smooth_grad", "random"],
                n_steps=8,
                batch_size=batch_size,
                max_examples_per_batch=chunk,
            ).records
        )
        for batch_size, chunk in ((1, 64), (5, 3))
    ]
    for pair, record in records[0].items():
        for key in KEYS[2:]:
            assert records[1][pair][key] == pytest.approx(record[key], rel=1e-4, abs=1e-5)


def test_the_target_is_the_prediction_or_the_label():
    model, inputs = network(), images(4)
    predicted = model(inputs).argmax(1).tolist()
    labels = [(index + 1) % 4 for index in predicted]
    dataset = list(zip(inputs, labels, strict=True))
    for target, expected in (("predicted", predicted), ("label", labels)):
        records = evaluate(model, dataset, ["random"], target=target, **FAST).records
        assert [record["target"] for record in records] == expected
    dataset[1], dataset[2] = (inputs[1], None), (inputs[2], 9)
    found = evaluate(model, dataset, ["random"], target="label", **FAST)
    assert [record["image"] for record in found.records] == ["0", "3"]
    assert {each["image"]: each["reason"] for each in found.skipped} == {
        "1": "it has no label",
        "2": "its label is 9, but the model has 4 classes",
    }


def test_a_method_that_cannot_run_is_a_row_with_its_reason():
    found = evaluate(dense_network(), images(3), ["t_grad", "grad_cam", "eigen_cam"], **FAST)
    methods = found.summary["methods"]
    assert [methods[name]["images"] for name in methods] == [3, 0, 0]
    assert "no convolution to use" in methods["grad_cam"]["reason"]
    # The way out of this caller, which has no argument target_layers.
    assert 'layer = "MODULE" in a file of methods (--config)' in methods["grad_cam"]["reason"]
    assert "| Grad-CAM | ValueError: target_layers is missing" in found.table
    assert methods["t_grad"]["reason"] is None
    assert {each["method"] for each in found.skipped} == {"grad_cam", "eigen_cam"}


def _method(name, compute):
    """A method of the test's own."""
    return Method(name, name, "", lambda model, black: compute)


def test_a_method_that_always_fails_is_given_up(tmp_path):
    calls = []

    def fail(inputs, target):
        calls.append(len(inputs))
        raise RuntimeError("no\nway")

    found = evaluate(network(), images(30), [_method("bad", fail), "random"], n_steps=2)
    # A batch of eight after a first attempt with one image, then each of the eight.
    assert len(calls) <= 10
    reasons = {each["image"]: each["reason"] for each in found.skipped}
    # All images that are left.
    assert reasons.pop(None) == "given up after 8 failures in this process: RuntimeError: no way"
    assert len(reasons) == 8
    assert set(reasons.values()) == {"RuntimeError: no way"}
    assert found.summary["methods"]["random"]["images"] == 30


def test_one_bad_image_harms_no_other():
    inputs = images(5)

    def picky(batch, target):
        if any(torch.equal(each, inputs[3]) for each in batch):
            raise RuntimeError("not this one")
        return batch

    def broken(batch, target):
        return torch.where(batch == inputs[1], torch.nan, batch)

    methods = [_method("picky", picky), _method("broken", broken), "random"]
    found = evaluate(network(), inputs, methods, n_steps=4, batch_size=5)
    pairs = _by_pair(found.records).keys()
    assert {(str(i), m) for i in range(5) for m in ("picky", "broken", "random")} - pairs == {
        ("3", "picky"),
        ("1", "broken"),
    }
    assert {each["reason"] for each in found.skipped} == {
        "RuntimeError: not this one",
        "its map holds NaN or inf",
    }


def test_images_that_cannot_be_loaded_or_scored_are_skipped():
    class Damaged:
        names = ("good", "gone", "odd", "other")

        def __len__(self):
            return 4

        def __getitem__(self, index):
            if index == 1:
                raise OSError("disk fell off")
            return images(4)[index][:, : 16 - 4 * (index == 2)], 0

    found = evaluate(network(), Damaged(), ["random"], **FAST)
    # One of another size is in a batch of its own.
    assert [record["image"] for record in found.records] == ["good", "odd", "other"]
    assert found.skipped == [{"image": "gone", "method": None, "reason": "disk fell off"}]

    inputs = images(2)
    inputs[1] *= 3e37  # overflows in the model
    found = evaluate(network(), inputs, ["random"], **FAST)
    assert [each["reason"] for each in found.skipped] == ["the model returned NaN or inf"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no such frame"),
        DecompressionBombError("too many pixels"),
        SyntaxError("not a TIFF file"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_data_set_raises_skips_one_image(error, tmp_path):
    class Damaged:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 0:
                raise error
            return images(3)[index], index

    found = evaluate(network(), Damaged(), ["random"], tmp_path, target="label", **FAST)
    assert [record["image"] for record in found.records] == ["1", "2"]
    reason = str(error) or "MemoryError"
    assert found.skipped == [{"image": "0", "method": None, "reason": reason}]
    # Also where its label and its digest are looked up.
    again = evaluate(
        network(), Damaged(), ["random"], tmp_path, target="label", resume=True, **FAST
    )
    assert again.skipped == found.skipped


def test_an_image_that_the_model_cannot_take_is_skipped(tmp_path):
    dataset = [*images(2), images(1)[0, :1], images(1, seed=1)[0]]
    found = evaluate(network(), dataset, ["random"], tmp_path, **FAST)
    assert {record["image"] for record in read_records(tmp_path)} == {"0", "1", "3"}
    (skipped,) = found.skipped
    assert (skipped["image"], skipped["method"]) == ("2", None)
    assert "the model rejects it: RuntimeError: " in skipped["reason"]
    # Nothing else is left to do.
    again = evaluate(network(), dataset, ["random"], tmp_path, resume=True, **FAST)
    assert again.skipped == found.skipped


def test_one_image_of_a_batch_that_the_model_cannot_take_is_skipped():
    inputs = images(4)

    class Picky(torch.nn.Module):
        def forward(self, batch):
            if any(torch.equal(each, inputs[2]) for each in batch):
                raise RuntimeError("not this one")
            return whole(batch)

    whole = network()
    found = evaluate(Picky().eval(), inputs, ["random"], n_steps=2, batch_size=4)
    assert [record["image"] for record in found.records] == ["0", "1", "3"]
    assert [each["image"] for each in found.skipped] == ["2"]


def test_a_model_that_takes_no_image_is_a_mistake(tmp_path):
    with pytest.raises(RuntimeError, match="channels"):
        evaluate(network(), images(9)[:, :1], ["random"], tmp_path, **FAST)
    # Also where nothing was loaded beside them.
    with pytest.raises(RuntimeError, match="channels"):
        evaluate(network(), images(1)[:, :1], ["random"], tmp_path, resume=True, **FAST)


def test_a_batch_that_does_not_fit_is_halved():
    sizes = []

    def hungry(inputs, target):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inputs

    with pytest.warns(UserWarning, match="hungry ran out of memory .* 8 images .* timed with 2"):
        found = evaluate(network(), images(16), [_method("hungry", hungry)], n_steps=2)
    # One image and a batch to warm up, in which the size is found; then both batches.
    assert sizes == [1, 8, 4, *[2] * 4, *[2] * 8]
    assert len(found.records) == 16
    assert found.skipped == []


def test_one_image_that_does_not_fit_is_a_reason():
    def starving(inputs, target):
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = evaluate(network(), images(2), [_method("starving", starving), "random"], n_steps=2)
    assert (
        "out of memory, with one image at a time" in found.summary["methods"]["starving"]["reason"]
    )
    assert found.summary["methods"]["random"]["images"] == 2


def test_an_image_whose_examples_do_not_fit_gets_fewer_at_once():
    asked_for = []

    def hungry(inputs, target, examples_at_once):
        asked_for.append((len(inputs), examples_at_once))
        if examples_at_once > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inputs

    with pytest.warns(UserWarning, match="8 examples of one image at a time.* 1 and 2"):
        found = evaluate(network(), images(2), [_method("hungry", hungry)], n_steps=2, batch_size=1)
    assert asked_for[:3] == [(1, 8), (1, 4), (1, 2)]
    assert set(asked_for[3:]) == {(1, 2)}
    assert len(found.records) == 2


@pytest.mark.parametrize("batch_size", [1, 3])
def test_examples_at_once_do_not_follow_the_size_of_the_batch(batch_size):
    asked_for = set()

    def listening(inputs, target, examples_at_once):
        asked_for.add(examples_at_once)
        return inputs

    methods = [_method("listening", listening)]
    found = evaluate(network(), images(3), methods, n_steps=2, batch_size=batch_size)
    assert asked_for == {8}
    assert found.summary["protocol"]["examples_at_once"] == 8


def test_chunks_that_do_not_fit_are_halved():
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.whole, self.largest = network(), 0

        def forward(self, inputs):
            if len(inputs) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.largest = max(self.largest, len(inputs))
            return self.whole(inputs)

    model = Small().eval()
    found = evaluate(model, images(8), ["random"], n_steps=8, batch_size=8)
    expected = evaluate(network(), images(8), ["random"], n_steps=8, batch_size=8)
    assert model.largest == 4
    for pair, record in _by_pair(expected.records).items():
        mine = _by_pair(found.records)[pair]
        assert mine["insertion"] == pytest.approx(record["insertion"], rel=1e-4)


def test_a_run_that_does_not_count_comes_before_the_clock(monkeypatch):
    now, calls = [0.0], []

    def slow_at_first(inputs, target):
        calls.append(len(inputs))
        now[0] += 100.0 if len(calls) == 1 else 0.5 * len(inputs)
        return inputs

    monkeypatch.setattr(timed, "_LONG", 1.0)
    monkeypatch.setattr(timed.time, "perf_counter", lambda: now[0])
    found = evaluate(network(), images(5), [_method("slow", slow_at_first)], **FAST)
    assert calls == [1, 2, 2, 1]
    assert [record["seconds"] for record in found.records] == [0.5] * 5


def test_what_is_built_anew_after_a_failure_is_not_timed(monkeypatch):
    now, inputs = [0.0], images(6)

    def build(model, black):
        now[0] += 1000.0
        calls = []

        def compute(batch, target):
            if any(torch.equal(each, inputs[2]) for each in batch):
                raise RuntimeError("not this one")
            calls.append(len(batch))
            now[0] += 100.0 if len(calls) == 1 else 0.5 * len(batch)
            return batch

        return compute

    monkeypatch.setattr(timed.time, "perf_counter", lambda: now[0])
    method = Method("fragile", "Fragile", "", build)
    found = evaluate(network(), inputs, [method], n_steps=4, batch_size=2)
    assert [record["image"] for record in found.records] == ["0", "1", "3", "4", "5"]
    assert [record["seconds"] for record in found.records] == [0.5] * 5


def test_what_the_metrics_warn_of_is_said_once_with_a_count():
    def constant(inputs, target):
        return torch.zeros_like(inputs)

    def halved(inputs, target):
        return (torch.arange(SIDE).expand_as(inputs) < SIDE // 2).float()

    said = r"raster order\. Constant: constant, 4 of 4 images\."
    methods = [_method("constant", constant), _method("halved", halved), "t_grad"]
    with pytest.warns(UserWarning, match=said) as caught:
        evaluate(network(), images(4), methods, **FAST)
    said = " ".join(str(each.message) for each in caught)
    assert said.count("Constant maps: their features are replaced in raster order.") == 1
    # The baselines and the order of ties are arguments of the metrics, not of all their callers.
    assert "Tied: halved, 4 of 4 images" in said
    assert "Affected: insertion" in said
    assert "pass" not in said.lower()
    assert "ties=" not in said
    assert all(each.filename == __file__ for each in caught)


def test_nothing_of_the_user_s_is_changed():
    model, inputs = network(), images(3)
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    same = inputs.clone()
    evaluate(model, inputs, n_steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inputs, same)
    assert not inputs.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in model.parameters())
    assert not any(module._forward_hooks or module.training for module in model.modules())


def test_a_method_that_draws_from_the_global_state_leaves_it_alone():
    def drawing(inputs, target):
        torch.manual_seed(torch.randint(9, ()).item())
        return inputs * torch.rand(inputs.shape)

    model, methods = network(), [_method("drawing", drawing)]
    state = torch.get_rng_state()
    first = evaluate(model, images(3), methods, seed=1, **FAST)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    again = evaluate(model, images(3), methods, seed=np.int64(1), **FAST)
    other = evaluate(model, images(3), methods, seed=2, **FAST)
    assert _without_seconds(first.records) == _without_seconds(again.records)
    assert _without_seconds(first.records) != _without_seconds(other.records)


def test_what_overwrites_its_input_changes_no_image():
    def overwriting(inputs, target):
        return inputs.relu_().clone()

    inputs = images(3)
    model = torch.nn.Sequential(torch.nn.ReLU(inplace=True), network()).eval()
    careful = torch.nn.Sequential(torch.nn.ReLU(), network()).eval()
    methods = [_method("overwriting", overwriting), "t_grad", "eigen_cam"]
    found = evaluate(model, inputs, methods, n_steps=4, batch_size=3)
    expected = evaluate(careful, inputs, methods[1:], n_steps=4, batch_size=3)
    assert torch.equal(inputs, images(3))
    assert len(found.records) == 9
    for pair, record in _by_pair(expected.records).items():
        for key in KEYS[2:]:
            mine = _by_pair(found.records)[pair][key]
            assert mine == pytest.approx(record[key], rel=1e-4, abs=1e-5), (pair, key)


def test_memory_does_not_grow_with_the_images(tmp_path):
    held = {}

    class Watching:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            if index in (10, 38):
                gc.collect()
                tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
                held[index] = sum(each.numel() for each in tensors)
            return images(1, seed=index)[0]

    evaluate(network(), Watching(), ["t_grad", "grad_cam", "random"], tmp_path, **FAST)
    assert held[38] <= held[10]


def test_a_progress_bar_with_the_time_left(capsys):
    evaluate(network(), images(2), ["random"], n_steps=2, show_progress=True)
    assert "100%|" in capsys.readouterr().err
    evaluate(network(), images(2), ["random"], n_steps=2)
    assert capsys.readouterr().err == ""


def test_the_progress_bar_moves_during_slow_methods_and_ends_with_the_figures(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("captum_tgrad._support.progress._SECONDS", 0.01)
    seen = {}

    def build(model, black):
        def compute(inputs, target, seeds, examples_at_once):
            time.sleep(0.2)
            return inputs.abs(), None

        return compute

    def drawn(summary):
        seen["before drawing"] = capsys.readouterr().err.split("\r")
        time.sleep(0.05)
        return metrics_figure(summary)

    monkeypatch.setattr("captum_tgrad.evaluation.report.evaluation.metrics_figure", drawn)
    slow = Method("slow", "The slow one", "", build)
    evaluate(network(), images(3), [slow, "random"], tmp_path, n_steps=2, show_progress=True)
    lines = seen["before drawing"]
    # The share of the work, at least once for each method and image.
    shares = [int(line.split("%")[0].split(":")[-1]) for line in lines if "%|" in line]
    assert shares == sorted(shares)
    assert len(set(shares)) >= 4
    assert max(shares) < 100
    assert sum("image 1 of 3, The slow one" in line for line in lines) > 5
    assert "100%|" in capsys.readouterr().err.split("\r")[-1]


class Returns(torch.nn.Module):
    """Returns logits in another form than a tensor, as do models of other libraries."""

    def __init__(self, form):
        super().__init__()
        self.form, self.model = form, network()
        self.eval()

    def forward(self, inputs):
        logits = self.model(inputs)
        of_form = {"dict": {"logits": logits}, "tuple": (logits, logits)}
        return of_form.get(self.form, SimpleNamespace(loss=None, logits=logits))


class Named(list):
    """Two images whose names are equal as text."""

    names = (1, "1")

    def __init__(self):
        super().__init__(images(2))


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"methods": []}, ValueError, "methods is empty"),
        ({"methods": ["random", "random"]}, ValueError, "must be distinct"),
        ({"methods": [3]}, TypeError, "names or Methods, got int"),
        ({"seed": -1}, ValueError, "seed must be an integer of 0 or more, got -1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer of 0 or more, got float"),
        ({"black": float("nan")}, ValueError, "black holds NaN or inf"),
        ({"black": torch.full((3, 1, 1), torch.inf)}, ValueError, "black holds NaN or inf"),
        ({"n_steps": 0}, ValueError, "n_steps must be a positive"),
        ({"batch_size": 1.5}, TypeError, "batch_size must be a positive integer"),
        ({"score": "sigmoid"}, ValueError, "score must be 'softmax' or 'logit'"),
        ({"ties": "random"}, ValueError, "ties must be"),
        ({"model": lambda inputs: inputs}, TypeError, "must be a torch.nn.Module"),
        ({"model": torch.nn.Flatten(0)}, ValueError, "must return logits of shape"),
        ({"model": Returns("dict")}, ValueError, r"forward returns model\(x\)\['logits'\]"),
        ({"model": Returns("object")}, ValueError, r"forward returns model\(x\).logits"),
        ({"model": Returns("tuple")}, ValueError, r"forward returns model\(x\)\[0\]"),
        ({"dataset": iter([1])}, TypeError, "must have a length"),
        ({"dataset": Named()}, ValueError, "must be one distinct name .* got 1 for 2"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, changed, error, said):
    arguments = {"model": network(), "dataset": images(2), "methods": ["random"], **changed}
    with pytest.raises(error, match=said):
        evaluate(**{"n_steps": 2, **arguments}, out=tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()
