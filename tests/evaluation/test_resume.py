"""What was finished is neither lost nor done twice, however often a run ends before its time."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_tgrad.evaluation import METHODS, Method, OutputError, evaluate, images_in
from captum_tgrad.evaluation.storage.json_lines import read_lines
from captum_tgrad.evaluation.storage.records import read_records
from captum_tgrad.zoo import sample_image
from tests.evaluation.networks import classifier, images, network

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]

SCRIPT = [sys.executable, "-m", "tests.evaluation.evaluate_script"]
ROOT = Path(__file__).parents[2]
FAST = {"n_steps": 8, "batch_size": 2}


def comparable(folder):
    """The records but for their seconds, by image and method; a pair twice is an error."""
    records = [record for path in folder.glob("records*.jsonl") for record in read_lines(path)]
    pairs = Counter((record["image"], record["method"]) for record in records)
    assert set(pairs.values()) <= {1}
    return {
        (record["image"], record["method"]): {
            key: value
            for key, value in record.items()
            if key not in ("image", "method", "seconds", "residual")
        }
        for record in records
    }


def assert_alike(folder, other):
    """Asserts that two folders hold the same records."""
    found, expected = comparable(folder), comparable(other)
    assert found.keys() == expected.keys()
    for pair, record in expected.items():
        digests = found[pair].pop("digest", None), record.pop("digest", None)
        assert digests[0] == digests[1], pair
        assert found[pair] == pytest.approx(record, rel=1e-4, abs=1e-5), pair


def _ending_after(calls):
    """Random maps, and an end to the process after some calls."""
    left, inner = [calls], METHODS["random"].builder(network(), 0.0)

    def compute(inputs, target, seeds, examples_at_once):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return inner(inputs, target, seeds, examples_at_once)

    return Method("ending", "", "", lambda model, black: compute)


def test_resuming_loses_nothing_and_repeats_nothing(tmp_path):
    methods = ["t_grad", "smooth_grad"]
    evaluate(network(), images(7), [*methods, _ending_after(99)], tmp_path / "whole", **FAST)
    out = tmp_path / "broken"
    rng = random.Random(0)
    # The first two calls of each run do not count, and a batch has two images.
    for calls in (3, 3, 3):
        with pytest.raises(KeyboardInterrupt):
            evaluate(
                network(), images(7), [*methods, _ending_after(calls)], out, resume=True, **FAST
            )
        path = out / "records.jsonl"
        # What a kill leaves of the record that was being written.
        torn = path.read_bytes().splitlines(keepends=True)[-1]
        with path.open("ab") as opened:
            opened.write(torn[: rng.randrange(1, len(torn))])
    evaluate(network(), images(7), [*methods, _ending_after(99)], out, resume=True, **FAST)
    assert_alike(out, tmp_path / "whole")


def test_finished_work_is_not_done_again(tmp_path):
    calls = []

    def count(inputs, target):
        calls.append(len(inputs))
        return inputs

    method = Method("counting", "Counting", "", lambda model, black: count)
    evaluate(network(), images(4), [method], tmp_path, limit=2, **FAST)
    before = (tmp_path / "records.jsonl").read_bytes()
    calls.clear()
    found = evaluate(network(), images(4), [method, "random"], tmp_path, resume=True, **FAST)
    # One and its batch that do not count, then the two images that are new, each in a batch with
    # one that is not, and three for the report.
    assert calls == [1, 1, 1, 1, 1, 1, 1]
    assert (tmp_path / "records.jsonl").read_bytes().startswith(before)
    assert found.summary["methods"]["counting"]["images"] == 4

    calls.clear()
    again = evaluate(network(), images(4), ["random"], tmp_path, resume=True, **FAST)
    # A method of an earlier run keeps its row.
    assert again.summary["methods"].keys() == found.summary["methods"].keys()
    assert calls == []


@pytest.mark.filterwarnings("ignore:dataset. no image was evaluated")
def test_what_was_skipped_is_tried_again(tmp_path):
    def fail(inputs, target):
        raise RuntimeError("not today")

    for compute, records in ((fail, 0), (lambda inputs, target: inputs, 2)):
        method = Method("moody", "Moody", "", lambda model, black, compute=compute: compute)
        found = evaluate(network(), images(2), [method], tmp_path, resume=True, **FAST)
        assert len(list(read_records(tmp_path))) == records
        assert len(found.skipped) == 2 - records


def test_other_numbers_are_not_mixed_in(tmp_path):
    evaluate(network(), images(2), ["random"], tmp_path, **FAST)
    with pytest.raises(OutputError, match="there are records in"):
        evaluate(network(), images(2), ["random"], tmp_path, **FAST)
    other = network()
    with torch.no_grad():
        other[8].bias += 0.1
    with pytest.raises(OutputError, match="used other settings: weights was"):
        evaluate(other, images(2), ["random"], tmp_path, resume=True, **FAST)
    for change in ({"n_steps": 4}, {"seed": 1}, {"score": "logit"}, {"batch_size": 1}):
        with pytest.raises(OutputError, match=f"{next(iter(change))} was"):
            evaluate(network(), images(2), ["random"], tmp_path, resume=True, **{**FAST, **change})
    (tmp_path / "protocol.json").unlink()
    with pytest.raises(OutputError, match=r"no protocol\.json"):
        evaluate(network(), images(2), ["random"], tmp_path, resume=True, **FAST)


class _Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.network = network()
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(self, images):
        return self.network(images * self.scale)


def test_other_models_with_the_same_weights_are_not_mixed_in(tmp_path):
    evaluate(_Scaled(1.0).eval(), images(1), ["random"], tmp_path / "scaled", **FAST)
    with pytest.raises(OutputError, match="used other settings: weights was"):
        evaluate(
            _Scaled(2.0).eval(), images(1), ["random"], tmp_path / "scaled", resume=True, **FAST
        )
    out = tmp_path / "out"
    evaluate(network(), images(1), ["random"], out, **FAST)
    smooth = network()
    smooth[2] = nn.GELU()
    with pytest.raises(OutputError, match="used other settings: architecture was"):
        evaluate(smooth, images(1), ["random"], out, resume=True, **FAST)
    # A protocol of an earlier version lacks the entry.
    protocol = json.loads((out / "protocol.json").read_text())
    del protocol["architecture"]
    (out / "protocol.json").write_text(json.dumps(protocol))
    assert evaluate(network(), images(2), ["random"], out, resume=True, **FAST).records[1:]


def test_another_preprocessing_of_the_same_files_is_not_mixed_in(tmp_path):
    (tmp_path / "images").mkdir()
    sample_image().save(tmp_path / "images" / "cup.png")
    usual = classifier()
    mirrored = replace(usual, preprocess=lambda image: usual.preprocess(image).flip(2))
    for each, resume in ((usual, False), (usual, True), (mirrored, True)):
        with (
            pytest.raises(OutputError, match="preprocessing was")
            if each is mirrored
            else (nullcontext())
        ):
            evaluate(
                each,
                images_in(tmp_path / "images", each),
                ["random"],
                tmp_path / "out",
                resume=resume,
                **FAST,
            )


def test_other_images_are_not_mixed_in(tmp_path):
    evaluate(network(), images(3), ["random"], tmp_path, limit=1, **FAST)
    with pytest.raises(OutputError, match=r"^0 has changed since its records"):
        evaluate(network(), images(3, seed=1), ["random"], tmp_path, resume=True, **FAST)
    # The same images, and more of them.
    found = evaluate(network(), images(3), ["random"], tmp_path, resume=True, **FAST)
    assert found.summary["images"] == 3


def test_records_of_images_that_the_data_set_lacks_are_refused(tmp_path):
    class Named(list):
        names = ("a.jpg", "b.jpg")

    evaluate(network(), Named(images(2)), ["random"], tmp_path, **FAST)
    for fewer_or_other in (images(2), images(1), Named(images(2))[:1]):
        with pytest.raises(OutputError, match=r"lacks 2 of the 2 images .* such as [ab]\.jpg: use"):
            evaluate(network(), fewer_or_other, ["random"], tmp_path, resume=True, **FAST)
    # Those beyond the limit are in it.
    found = evaluate(
        network(), Named(images(2)), ["random"], tmp_path, resume=True, limit=1, **FAST
    )
    assert found.summary["images"] == 2


def test_another_black_is_not_mixed_in(tmp_path):
    names = ["integrated_gradients"]
    evaluate(network(), images(1), names, tmp_path, black=0.0, **FAST)
    for black, said in ((-1.0, "-1.0"), (torch.full((3, 1, 1), -1.0), "'")):
        with pytest.raises(OutputError, match=f"black was 0.0, is {said}"):
            evaluate(network(), images(1), names, tmp_path, resume=True, black=black, **FAST)


def test_other_labels_are_not_mixed_in(tmp_path):
    first, second, third = images(3)
    options = {"target": "label", **FAST}
    evaluate(network(), [(first, 1), (second, 2)], ["random"], tmp_path, **options)
    with pytest.raises(OutputError, match="the label of 1 has changed from 2 to 3"):
        evaluate(network(), [(first, 1), (second, 3)], ["t_grad"], tmp_path, resume=True, **options)
    # More images, and one whose label is not known any more.
    dataset = [(first, None), (second, 2), (third, 0)]
    found = evaluate(network(), dataset, ["random"], tmp_path, resume=True, **options)
    assert found.summary["images"] == 3


def test_a_run_that_wrote_nothing_binds_nobody(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate(network(), images(2), [_ending_after(0)], tmp_path, **FAST)
    assert (tmp_path / "records.jsonl").read_bytes() == b""
    found = evaluate(network(), images(2), ["random"], tmp_path, n_steps=4, resume=True)
    assert found.summary["protocol"]["n_steps"] == 4
    assert list(found.summary["methods"]) == ["random"]


@pytest.mark.skipif(os.name != "posix", reason="locks the folder")
def test_a_second_run_in_the_folder_is_refused(tmp_path):
    """It does not disturb the first, and when that has ended, the folder is free."""

    class Meanwhile(list):
        def __getitem__(self, index):
            with pytest.raises(OutputError, match=f"another process is writing to {tmp_path}"):
                evaluate(network(), images(2), ["random"], tmp_path, resume=True, **FAST)
            return super().__getitem__(index)

    first = evaluate(network(), Meanwhile(images(2)), ["random"], tmp_path, **FAST)
    assert first.summary["images"] == 2
    again = evaluate(network(), images(2), ["random"], tmp_path, resume=True, **FAST)
    assert again.records == first.records


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_killed_three_times_the_records_are_those_of_an_undisturbed_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*SCRIPT, str(whole), "24", "0"], check=True, cwd=ROOT)
    rng = random.Random(time.time_ns())
    kills = 0
    while kills < 3:
        process = subprocess.Popen([*SCRIPT, str(broken), "24", "0.2"], cwd=ROOT)
        try:
            _wait_for_a_new_record(broken, process)
            time.sleep(rng.uniform(0, 0.5))
        finally:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        kills += 1
        assert 0 < len(comparable(broken)) < 24 * 4
    subprocess.run([*SCRIPT, str(broken), "24", "0"], check=True, cwd=ROOT)
    assert_alike(broken, whole)


def _wait_for_a_new_record(folder, process):
    """Waits until a process writes: before that, there is nothing to be lost."""
    path = folder / "records.jsonl"
    before = path.stat().st_size if path.exists() else 0
    for _ in range(2000):
        assert process.poll() is None
        if path.exists() and path.stat().st_size > before:
            return
        time.sleep(0.03)
    raise AssertionError("the process wrote no record in a minute")
