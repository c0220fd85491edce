"""Every image gets files of its own, and no image is written over."""

from pathlib import Path

import pytest
from PIL import Image

from captum_tgrad.cli.jobs import load_or_sample, plan_jobs


def _pictures(tmp_path: Path, *names: str) -> list[Path]:
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    return paths


def _stems(pictures: list[Path], out: Path) -> list[str]:
    return [job.stem.name for job in plan_jobs(pictures, out)]


def test_plan_jobs_names_results_after_pictures(tmp_path):
    pictures = _pictures(tmp_path, "cat.jpg", "two.dots.png")
    cat, dots = plan_jobs(pictures, tmp_path / "out")
    assert cat.paths == [tmp_path / "out/cat.png", tmp_path / "out/cat.npy"]
    assert dots.paths[1] == tmp_path / "out/two.dots.npy"


def test_plan_jobs_has_a_file_for_the_layers_where_they_are_asked_for(tmp_path):
    pictures = _pictures(tmp_path, "cat.jpg", "cat-layers.png")
    assert len(plan_jobs(pictures[:1], tmp_path)[0].paths) == 2
    (job, _) = plan_jobs(pictures, tmp_path / "out", layers=True)
    assert job.paths[2:] == [tmp_path / "out/cat-layers.png"]
    with pytest.raises(ValueError, match=r"cat-layers\.png would overwrite an image"):
        plan_jobs(pictures, tmp_path, layers=True)


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a/cat.jpg", "b/cat.jpg", "c/cat.png"], ["cat", "cat-2", "cat-3"]),
        (["a/cat.jpg", "b/cat.jpg", "cat-2.jpg"], ["cat", "cat-3", "cat-2"]),
        (["a/cat.jpg", "b/CAT.jpg"], ["cat", "CAT-2"]),
        (["a/cat.jpg", "a/cat.jpg"], ["cat", "cat-2"]),
    ],
)
def test_plan_jobs_tells_equal_stems_apart(tmp_path, names, stems):
    assert _stems(_pictures(tmp_path, *names), tmp_path / "out") == stems


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["cat.jpg", "cat-layers.png"], ["cat", "cat-layers-2"]),
        (["cat-LAYERS.png", "cat.jpg"], ["cat-LAYERS", "cat-2"]),
        (["cat.jpg", "a/cat.jpg", "cat-2-layers.jpg"], ["cat", "cat-3", "cat-2-layers"]),
    ],
)
def test_plan_jobs_tells_all_files_apart(tmp_path, names, stems):
    jobs = plan_jobs(_pictures(tmp_path, *names), tmp_path / "out", layers=True)
    assert [job.stem.name for job in jobs] == stems
    paths = [str(path).casefold() for job in jobs for path in job.paths]
    assert len(set(paths)) == 3 * len(jobs)


def test_plan_jobs_has_a_file_for_the_page_where_it_is_asked_for(tmp_path):
    pictures = _pictures(tmp_path, "cat.jpg", "b/cat.jpg")
    jobs = plan_jobs(pictures, tmp_path / "out", page=True)
    assert [job.paths[-1].name for job in jobs] == ["cat.html", "cat-2.html"]
    assert plan_jobs(pictures, tmp_path / "out")[0].paths[-1].name == "cat.npy"


def test_plan_jobs_without_pictures_is_the_sample(tmp_path):
    (job,) = plan_jobs([], tmp_path)
    assert job.picture is None
    assert load_or_sample(job.picture).size == (600, 400)


def test_plan_jobs_refuses_to_write_over_a_picture(tmp_path):
    pictures = _pictures(tmp_path, "cat.png")
    with pytest.raises(ValueError, match=r"cat\.png would overwrite an image"):
        plan_jobs(pictures, tmp_path)
    assert _stems(_pictures(tmp_path, "dog.jpg"), tmp_path) == ["dog"]


def test_plan_jobs_refuses_a_file_for_a_folder(tmp_path):
    (picture,) = _pictures(tmp_path, "cat.png")
    with pytest.raises(ValueError, match=r"--out .*cat\.png is a file"):
        plan_jobs([], picture)


def test_plan_jobs_finds_a_bad_picture_before_any_work(tmp_path):
    good = _pictures(tmp_path, "cat.jpg")
    (tmp_path / "notes.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.jpg is not an image"):
        plan_jobs([*good, tmp_path / "notes.jpg"], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"dog\.jpg not found"):
        plan_jobs([*good, tmp_path / "dog.jpg"], tmp_path / "out")
