"""Records survive whatever ends the process that writes them."""

import json
import os
import subprocess
import sys

import pytest

from captum_tgrad._support.writing import write_files
from captum_tgrad.evaluation.storage.json_lines import JsonLines, cut_half_written
from captum_tgrad.evaluation.storage.records import KEYS, read_records, record_of
from captum_tgrad.metrics.registry import NUMBERS


def _record(image, method="random", residual=None, **numbers):
    values = {**dict.fromkeys(KEYS[2:], 0.5), "target": 1, **numbers}
    return record_of(image=image, method=method, residual=residual, **values)


def test_a_record_has_its_keys_in_their_order():
    wanted = " ".join(["image method target clean_score baseline_score", *NUMBERS])
    assert list(_record("a")) == [*wanted.split(), "seconds"]
    assert list(_record("a", "t_grad", 1e-7)) == [*wanted.split(), "residual", "seconds"]


def test_what_json_does_not_know_is_none():
    record = _record("a", average_drop=float("nan"), residual=float("inf"))
    assert record["average_drop"] is None
    assert record["residual"] is None


def test_records_are_lines_of_json_that_others_can_read(tmp_path):
    with JsonLines(tmp_path / "records.jsonl") as lines:
        lines.append(_record("é.jpg"))
        lines.append(_record("b.jpg"))
        # Readable while the process still runs.
        text = (tmp_path / "records.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["image"] for line in text.splitlines()] == ["é.jpg", "b.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="syncs a folder")
def test_the_name_of_a_new_file_is_durable(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def listen(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", listen)
    with JsonLines(tmp_path / "records.jsonl"):
        assert synced == [tmp_path.stat().st_ino]


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_half_written_line_is_recognized_and_cut(tmp_path, kept):
    path = tmp_path / "records-1.jsonl"
    with JsonLines(path) as lines:
        lines.append(_record("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps(_record("b")).encode()[:kept])
    assert [record["image"] for record in read_records(tmp_path)] == ["a"]
    for _ in range(2):
        cut_half_written(path)
        assert path.read_bytes() == whole


def test_a_line_without_its_end_is_not_trusted_even_if_it_could_be_read(tmp_path):
    # What a killed process wrote last may lack digits: 0.5 of 0.55 is valid JSON in a whole line.
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(_record("a")))
    assert list(read_records(tmp_path)) == []
    cut_half_written(path)
    assert path.read_bytes() == b""


def test_damage_before_the_end_is_no_half_written_line(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"image": \n' + json.dumps(_record("a")) + "\n")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1, is damaged"):
        list(read_records(tmp_path))
    (tmp_path / "records.jsonl").write_text('{"image": "a"}\n')
    with pytest.raises(ValueError, match="a line without 'method'"):
        list(read_records(tmp_path))


def test_files_of_several_processes_count_each_pair_once(tmp_path):
    for name, images in (("records.jsonl", "ab"), ("records-0.jsonl", "bc")):
        with JsonLines(tmp_path / name) as lines:
            for image in images:
                lines.append(_record(image))
    assert sorted(record["image"] for record in read_records(tmp_path)) == ["a", "b", "c"]


_FILLS_UP = """
import resource, signal, sys
from pathlib import Path
from captum_tgrad.evaluation.storage.json_lines import JsonLines
from captum_tgrad.evaluation.storage.records import KEYS, record_of
from captum_tgrad.metrics.registry import NUMBERS
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
with JsonLines(Path(sys.argv[1])) as lines:
    for index in range(10):
        values = dict.fromkeys(KEYS, 1)
        lines.append(record_of(**{**values, "image": str(index), "method": "random"}))
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the size of a file")
def test_a_full_disk_leaves_whole_records(tmp_path):
    path = tmp_path / "records.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", _FILLS_UP, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "OSError" in done.stderr
    content = path.read_bytes()
    assert 0 < len(content) <= 700
    assert content.endswith(b"}\n")
    assert [record["image"] for record in read_records(tmp_path)] == ["0", "1", "2"]


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_files(tmp_path, {path.name: "old"})

    def full(descriptor):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_files(tmp_path, {path.name: "new and longer"})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_files(tmp_path, {path.name: b"new"})
    assert path.read_text() == "new"
