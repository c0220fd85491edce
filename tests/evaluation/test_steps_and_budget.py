"""What the steps of the curves leave open, beside what the images do; and evaluating for a time."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from captum_tgrad.cli.main import main
from captum_tgrad.cli.options import duration
from captum_tgrad.evaluation import evaluate
from captum_tgrad.evaluation.distributed import Workers
from captum_tgrad.evaluation.storage.json_lines import read_lines
from captum_tgrad.metrics import insertion_deletion

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5)).eval()
IMAGES = list(torch.rand(12, 3, 16, 16))

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:.*baseline keeps"),
]


def _evaluate(dataset=IMAGES, methods=("saliency", "random"), **options):
    options = {"n_steps": 8, "score": "logit", **options}
    return evaluate(MODEL, dataset, list(methods), **options)


def test_the_step_error_is_that_of_the_curve_without_every_second_point():
    found = _evaluate(methods=["saliency"])
    by_image = {record["image"]: record for record in found.records}
    for number, image in enumerate(IMAGES[:3]):
        x = image[None].requires_grad_()
        target = int(MODEL(x).argmax())
        gradient = torch.autograd.grad(MODEL(x)[0, target], x)[0].abs()
        curves = insertion_deletion(
            MODEL, x.detach(), gradient, target=target, n_steps=8, score="logit", return_curves=True
        )
        areas = []
        for stride in (1, 2):
            points = curves.fractions[0, ::stride].double()
            heights = (curves.insertion_curve - curves.deletion_curve)[0, ::stride].double()
            areas.append(((points[1:] - points[:-1]) * (heights[1:] + heights[:-1]) / 2).sum())
        record = by_image[str(number)]
        assert record["difference"] == pytest.approx(float(areas[0]), abs=1e-4)
        assert record["step_error"] == pytest.approx(float(areas[1] - areas[0]), abs=1e-4)


def test_the_table_says_what_to_spend_time_on():
    found = _evaluate()
    errors = [record["step_error"] for record in found.records]
    steps = found.summary["steps"]
    assert steps["of_an_image"] == pytest.approx((sum(e * e for e in errors) / len(errors)) ** 0.5)
    means = [
        abs(sum(r["step_error"] for r in found.records if r["method"] == name) / len(IMAGES))
        for name in ("saliency", "random")
    ]
    assert steps["of_a_mean"] == pytest.approx(max(means))
    assert "Use more" in found.table
    assert f"changes by {steps['of_an_image']:.4f}" in found.table


def test_an_odd_number_of_steps_says_nothing_of_them():
    found = _evaluate(n_steps=7)
    assert found.summary["steps"] is None
    assert "step_error" not in found.records[0]
    assert "Steps or images" not in found.table


class Slow(list):
    """Images that take a second each to load, and that may not load at all."""

    def __init__(self, now, broken=False):
        super().__init__(IMAGES)
        self.now, self.broken = now, broken

    def __getitem__(self, index):
        self.now[0] += 1.0
        if self.broken:
            raise OSError("no such file")
        return super().__getitem__(index)


@pytest.fixture
def now(monkeypatch):
    """The seconds on the clock of a budget."""
    now = [0.0]
    monkeypatch.setattr("captum_tgrad.evaluation.running.run.time.monotonic", lambda: now[0])
    return now


def test_a_budget_ends_between_images_in_a_random_order(tmp_path, now):
    # Three images are loaded and scored. A fourth is loaded, and no fifth.
    found = _evaluate(Slow(now), budget=3.5, batch_size=3, out=tmp_path)
    images = sorted({int(record["image"]) for record in found.records})
    assert len(images) == 3
    assert images != [0, 1, 2]
    assert found.summary["images"] == 3
    # The same seed takes the same images; another one others; and --resume goes on.
    for seed in (0, 1):
        others = _evaluate(Slow(now), budget=3.5, batch_size=3, seed=seed).records
        assert ({int(record["image"]) for record in others} == set(images)) == (seed == 0)
    assert _evaluate(Slow(now), out=tmp_path, batch_size=3, resume=True).summary["images"] == 12


def test_a_budget_ends_within_a_batch(now):
    class Ticking(nn.Module):
        def forward(self, inputs):
            now[0] += 1.0
            return MODEL(inputs)

    # The first pass spends it: of the eight images that are explained then, one is scored.
    options = {"n_steps": 2, "score": "logit", "budget": 0.5}
    found = evaluate(Ticking().eval(), IMAGES, ["random"], **options)
    assert found.summary["images"] == 1


@pytest.mark.filterwarnings("ignore:dataset. no image was evaluated")
def test_a_budget_ends_while_images_do_not_load(now):
    assert len(_evaluate(Slow(now, broken=True), budget=4.5).skipped) == 5


@pytest.mark.parametrize("budget", [None, 1e9])
def test_processes_take_images_in_a_random_order(budget, tmp_path, monkeypatch):
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(Workers, "share", lambda self, items, rank=rank: items[rank::2])
        _evaluate(methods=["random"], budget=budget, out=tmp_path / str(rank))
        written = read_lines(tmp_path / str(rank) / "records.jsonl")
        shares.append([int(record["image"]) for record in written])
        assert shares[rank] != sorted(shares[rank])
    assert sorted(shares[0] + shares[1]) == list(range(12))
    # They do not begin with images that are next to each other.
    assert {image // 2 for image in shares[0][:3]} != {image // 2 for image in shares[1][:3]}


def test_numbers_of_a_budget_are_those_of_the_whole(now):
    whole = {(r["image"], r["method"]): r for r in _evaluate(batch_size=3).records}
    found = _evaluate(Slow(now), budget=3.5, batch_size=3).records
    assert len(found) == 6
    for record in found:
        known = whole[record["image"], record["method"]]
        assert record["digest"] == known["digest"]
        for key in ("insertion", "deletion", "average_drop"):
            assert record[key] == pytest.approx(known[key], rel=1e-5)


def test_numbers_may_be_those_of_numpy(tmp_path):
    names = ("n_steps", "batch_size", "max_examples_per_batch", "seed", "limit")
    options = {**dict.fromkeys(names, np.int64(2)), "budget": np.int64(1000)}
    options |= {"black": np.float32(0.5), "out": tmp_path}
    found = _evaluate(methods=["integrated_gradients"], **options)
    assert found.summary["protocol"]["black"] == 0.5
    assert json.loads((tmp_path / "protocol.json").read_text())["n_steps"] == 2
    assert len(found.records) == 2


@pytest.mark.parametrize("budget", [0, -1, float("nan")])
def test_a_budget_is_positive(budget):
    with pytest.raises(ValueError, match="budget must be a positive number"):
        _evaluate(budget=budget)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("20", 20), ("2H", 7200)]
)
def test_times(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-3s", "5d", "infh", "nans"])
def test_what_is_no_time_is_refused(text, capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["evaluate", "--out", str(tmp_path), f"--budget={text}"])
    assert "is not a time: pass 90s, 30m or 2h" in capsys.readouterr().err


def test_quick_says_what_it_is_in_the_protocol(tmp_path):
    arguments = ["evaluate", "--out", str(tmp_path), "--limit", "1", "--quick"]
    main([*arguments, "--methods", "saliency"])
    assert json.loads((tmp_path / "protocol.json").read_text())["n_steps"] == 14


def test_quick_and_a_number_of_steps_contradict_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--out", str(tmp_path), "--quick", "--n-steps", "100"])
    assert "--n-steps: not allowed with argument --quick" in capsys.readouterr().err


def test_one_image_has_no_interval_to_compare_with():
    table = _evaluate(limit=1).table
    assert table.startswith("# 2 methods on 1 image\n")
    assert "Steps or images" not in table
