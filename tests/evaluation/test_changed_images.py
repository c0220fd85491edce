"""What was recorded of one image is never mixed with numbers of another one."""

import json
import math

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from captum_tgrad.evaluation import OutputError, evaluate, images_in
from captum_tgrad.zoo import Classifier

pytestmark = pytest.mark.usefixtures("undrawn")

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5)).eval()


class _Named(list):
    names = ("a", "b")


def _images(seed=0):
    return list(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))


def _evaluate(dataset, out, methods=("saliency",), **options):
    return evaluate(MODEL, dataset, list(methods), out, n_steps=2, score="logit", **options)


def _classifier():
    def preprocess(picture):
        return pil_to_tensor(picture.resize((16, 16))) / 255

    names = ("espresso", "cup", "tabby", "jeep", "fox")
    return Classifier("tiny", MODEL, names, preprocess, lambda picture: picture)


def _write(folder, name, color, quality=90):
    picture = Image.effect_noise((32, 32), 90).convert("RGB")
    picture.paste(color, (4, 4, 20, 20))
    picture.save(folder / name, quality=quality)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_replaced_image_is_named(tmp_path):
    a, b = _images()
    _evaluate(_Named([a, b]), tmp_path)
    with pytest.raises(OutputError, match=r"^b has changed since its records were written"):
        _evaluate(_Named([a, b.flip(2)]), tmp_path, ["saliency", "random"], resume=True)
    assert (
        len(_evaluate(_Named([a, b]), tmp_path, ["saliency", "random"], resume=True).records) == 4
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("how", ["replaced", "encoded anew"])
def test_a_file_that_was_written_anew_is_named(how, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        _write(folder, name, "red")
    classifier = _classifier()
    _evaluate(images_in(folder, classifier), out)
    if how == "replaced":
        _write(folder, "b.jpg", "blue")
    else:
        with Image.open(folder / "b.jpg") as opened:
            opened.load()
        opened.save(folder / "b.jpg", quality=80)
    with pytest.raises(OutputError, match=r"^b\.jpg has changed since its records were written"):
        _evaluate(images_in(folder, classifier), out, ["saliency", "random"], resume=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_records_of_a_version_before_are_read(tmp_path):
    dataset = _Named(_images())
    _evaluate(dataset, tmp_path)
    path = tmp_path / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        del record["digest"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = _evaluate(dataset, tmp_path, ["saliency", "random"], resume=True)
    assert [record["method"] for record in found.records] == ["random", "saliency"] * 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image", 3, "'image' is 3"),
        ("image", None, "'image' is None"),
        ("method", ["saliency"], "'method' is"),
        ("target", 1.5, "'target' is 1.5"),
        ("target", True, "'target' is True"),
        ("insertion", "high", "'insertion' is 'high'"),
        ("seconds", [1], "'seconds' is"),
        ("deletion", math.nan, "is damaged"),
        ("deletion", math.inf, "is damaged"),
        ("deletion", ..., "without 'deletion'"),
    ],
)
def test_a_record_that_was_changed_by_hand(key, value, message, tmp_path):
    dataset = _Named(_images())
    _evaluate(dataset, tmp_path)
    path = tmp_path / "records.jsonl"
    first, *others = path.read_text().splitlines()
    record = json.loads(first)
    if value is ...:
        del record[key]
    else:
        record[key] = value
    path.write_text("\n".join([json.dumps(record), *others]) + "\n")
    with pytest.raises(OutputError, match=message) as caught:
        _evaluate(dataset, tmp_path, ["saliency", "random"], resume=True)
    assert "records.jsonl" in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_records_are_in_the_result_and_in_the_folder(tmp_path):
    found = _evaluate(_Named(_images()), tmp_path)
    written = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert found.records == sorted(written, key=lambda record: record["image"])


def test_links_to_folders_are_followed(tmp_path):
    classifier = _classifier()
    for name in ("espresso", "cup"):
        (tmp_path / "all" / name).mkdir(parents=True)
        _write(tmp_path / "all" / name, "a.jpg", "red")
    (tmp_path / "subset" / "tabby").mkdir(parents=True)
    _write(tmp_path / "subset" / "tabby", "a.jpg", "red")
    for name in ("espresso", "cup"):
        (tmp_path / "subset" / name).symlink_to(tmp_path / "all" / name)
    found = images_in(tmp_path / "subset", classifier)
    assert found.names == ("cup/a.jpg", "espresso/a.jpg", "tabby/a.jpg")
    assert found.labels == (1, 0, 2)


def test_a_link_to_a_folder_above_ends(tmp_path):
    (tmp_path / "cup" / "deep").mkdir(parents=True)
    _write(tmp_path / "cup" / "deep", "a.jpg", "red")
    (tmp_path / "cup" / "deep" / "above").symlink_to(tmp_path)
    (tmp_path / "cup" / "itself").symlink_to(tmp_path / "cup")
    (tmp_path / "cup" / "root").symlink_to("/")
    assert images_in(tmp_path, _classifier()).names == ("cup/deep/a.jpg",)


COMPOSED, DECOMPOSED = "\u00e9.jpg", "e\u0301.jpg"


@pytest.mark.parametrize(
    ("written", "on_disk"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)], ids=["nfc", "nfd"]
)
def test_two_spellings_of_a_letter_are_one_name(written, on_disk, tmp_path):
    _write(tmp_path, on_disk, "red")
    (tmp_path / "labels.csv").write_text(f"{written},cup\n", encoding="utf-8")
    found = images_in(tmp_path, _classifier(), tmp_path / "labels.csv")
    assert found.labels == (1,)


def test_rows_that_contradict_each_other(tmp_path):
    _write(tmp_path, "a.jpg", "red")
    labels = tmp_path / "labels.csv"
    labels.write_text("a.jpg,cup\na.jpg,1\n")
    assert images_in(tmp_path, _classifier(), labels).labels == (1,)
    labels.write_text("a.jpg,cup\na.jpg,fox\n")
    with pytest.raises(ValueError, match=r"line 2: a\.jpg has the class 4 here, but 1"):
        images_in(tmp_path, _classifier(), labels)
