"""Images and their labels are found as people lay them out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder

from captum_tgrad.cli.jobs import readable
from captum_tgrad.evaluation import OutputError
from captum_tgrad.evaluation.image_files import built_in_images, images_in
from captum_tgrad.evaluation.samples import Samples
from tests.evaluation.networks import classifier, images


def _write(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (10 * number, 0, 0)).save(path)


def test_a_flat_folder_has_no_labels_and_is_in_order(tmp_path):
    _write(tmp_path, "b.jpg", "a.PNG", "c.webp")
    found = images_in(tmp_path, classifier())
    assert found.names == ("a.PNG", "b.jpg", "c.webp")
    assert found.labels == (None, None, None)
    image, label = found[0]
    assert (image.shape, label) == ((3, 16, 16), None)


@pytest.mark.parametrize("folders", [("ant", "bee", "cat", "dog"), ("0", "1", "2", "3")])
def test_folders_of_classes_are_labeled_as_torchvision_does(tmp_path, folders):
    _write(tmp_path, *(f"{folder}/{name}.png" for folder in folders for name in "xy"))
    found = images_in(tmp_path, classifier())
    theirs = ImageFolder(str(tmp_path))
    assert [str(file) for file in found.files] == [path for path, _ in theirs.samples]
    assert list(found.labels) == theirs.targets


def test_folders_may_be_named_by_class_or_by_nothing_known(tmp_path):
    _write(tmp_path, "class_3/x.png", "Class 1/deep/y.png")
    assert images_in(tmp_path, classifier()).labels == (1, 3)
    _write(tmp_path, "holiday/z.png")
    assert images_in(tmp_path, classifier()).labels == (1, 3, None)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        # As many as classes, but not in their order.
        (("cup", "cat", "hats"), {"cup": 0, "cat": 1, "hats": None}),
        (("cup", "cat"), {"cup": 0, "cat": 1}),
        (("red", "blue"), {"red": None, "blue": None}),
        (("red", "blue", "green"), {"blue": 0, "green": 1, "red": 2}),
        # Numbers that count from 1, or something else, are no indices.
        (("1", "2", "3"), {"1": 0, "2": 1, "3": 2}),
        (("1", "2025"), {"1": None, "2025": None}),
        (("1", "2025", "cup"), {"1": None, "2025": None, "cup": 0}),
    ],
)
def test_a_folder_has_its_own_label_or_none(tmp_path, names, labels):
    _write(tmp_path, *(f"{name}/x.png" for name in names))
    found = images_in(tmp_path, replace(classifier(), class_names=("cup", "cat", "hat")))
    folders = [name.split("/")[0] for name in found.names]
    assert dict(zip(folders, found.labels, strict=True)) == labels


@pytest.mark.parametrize(("width", "labels"), [(1, [None] * 10), (2, list(range(10)))])
def test_numbers_that_sort_in_another_order_are_no_labels(tmp_path, width, labels):
    _write(tmp_path, *(f"{number:0{width}}/x.png" for number in range(1, 11)))
    names = tuple(f"class {index}" for index in range(10))
    found = images_in(tmp_path, replace(classifier(), class_names=names))
    assert list(found.labels) == labels


def test_a_name_that_two_classes_share_is_no_label(tmp_path):
    _write(tmp_path, "crane/x.png", "hat/x.png")
    found = images_in(tmp_path, replace(classifier(), class_names=("crane", "hat", "crane")))
    assert found.labels == (None, 1)


def test_a_stray_picture_does_not_hide_the_folders(tmp_path):
    _write(tmp_path, "class 0/x.png", "class 1/y.png", "preview.png")
    with pytest.raises(ValueError, match=r"such as preview.png, and .* such as class 0/x.png"):
        images_in(tmp_path, classifier())


def test_figures_of_an_evaluation_are_no_pictures_of_the_data_set(tmp_path):
    _write(tmp_path, "a.png", "results/metrics.png")
    (tmp_path / "results" / "protocol.json").write_text("{}")
    assert images_in(tmp_path, classifier()).names == ("a.png",)


def test_hidden_files_and_folders_hold_no_pictures(tmp_path):
    _write(tmp_path, *(f"{folder}/x.png" for folder in ("ant", "bee", "cat", "dog")))
    _write(tmp_path, "ant/.x.png", ".thumbnails/x.png", "bee/.ipynb_checkpoints/x.png")
    (tmp_path / "ant" / "._x.png").write_bytes(b"a resource fork of macOS")
    found = images_in(tmp_path, classifier())
    assert found.names == ("ant/x.png", "bee/x.png", "cat/x.png", "dog/x.png")
    assert found.labels == (0, 1, 2, 3)
    assert readable([tmp_path / "ant"]) == ([tmp_path / "ant" / "x.png"], {})


def test_a_broken_link_to_an_image_is_not_found(tmp_path):
    _write(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    found, skipped = readable([tmp_path])
    assert found == [tmp_path / "a.png"]
    assert "b.png not found" in skipped[tmp_path / "b.png"]
    with pytest.raises(FileNotFoundError, match=r"b\.png not found"):
        images_in(tmp_path, classifier())[1]


def test_what_is_no_picture_is_named(tmp_path):
    """In every command that reads a folder; a list of labels that was passed is not ignored."""
    _write(tmp_path, "a.png")
    (tmp_path / "raw").mkdir()
    for name in ("IMG_1.heic", "b.CR2", "labels.csv", "raw/c.heic", ".DS_Store"):
        (tmp_path / name).write_text("a.png,1\n")
    found, labels = "Ignored in .*: IMG_1.heic, b.CR2, ", str(tmp_path / "labels.csv")
    with pytest.warns(UserWarning, match=f"{found}labels.csv and 1 more. Images are files that"):
        images_in(tmp_path, classifier())
    with pytest.warns(UserWarning, match=f"{found}raw/c.heic. Images are files that end in .bmp"):
        images_in(tmp_path, classifier(), labels)
    with pytest.warns(UserWarning, match=f"{found}labels.csv and 1 more. Images are files that"):
        readable([tmp_path])
    with pytest.raises(
        FileNotFoundError, match=r"no image found in .*, only c\.heic: pass a folder"
    ):
        readable([tmp_path / "raw"])


def test_a_list_of_labels(tmp_path):
    _write(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text("file,class index\na.png,2\nc.png,class 1\nd.png,0\n")
    found = images_in(tmp_path, classifier(), tmp_path / "labels.csv")
    assert found.labels == (2, None, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png,4\n", "line 1: class 4 not found"),
        ("file,class\na.png,9\n", "line 2: class 9 not found"),
        ("\nfile,class\n\na.png,9\n", "line 4: class 9 not found"),
        ("a.png\n", "line 1, has 'a.png': write an image and its class"),
        ("x.png,1\n", "lists no image in"),
    ],
)
def test_a_wrong_list_of_labels_is_refused(tmp_path, text, said):
    _write(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        images_in(tmp_path, classifier(), tmp_path / "labels.csv")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="pass a folder of images"):
        images_in(tmp_path / "absent", classifier())
    with pytest.raises(FileNotFoundError, match="no image found in"):
        images_in(tmp_path, classifier())
    _write(tmp_path, "a.png")
    with pytest.raises(ValueError, match=r"a.png is a file: pass a folder of images"):
        images_in(tmp_path / "a.png", classifier())
    with pytest.raises(FileNotFoundError, match="not found: pass a CSV file"):
        images_in(tmp_path, classifier(), tmp_path / "absent.csv")


def test_the_built_in_pictures_are_twenty_with_labels():
    found = built_in_images(classifier())
    assert len(found) == 20
    assert found.names[0] == "imagenet_00_243.jpg"
    assert (found.labels[0], found.labels[19]) == (243, 305)
    assert found[0][0].shape == (3, 16, 16)


def test_any_data_set_becomes_samples():
    tensors, labels = images(3), torch.tensor([2, 0, 1])
    for dataset in (
        TensorDataset(tensors, labels),
        [(image, label) for image, label in zip(tensors, (2, 0, 1), strict=True)],
        [(image, label) for image, label in zip(tensors, np.array([2, 0, 1]), strict=True)],
    ):
        samples = Samples(dataset)
        assert samples.names == ["0", "1", "2"]
        assert [samples[index][1] for index in range(3)] == [2, 0, 1]
        assert torch.equal(samples[1][0], tensors[1])
    for unlabeled in (tensors, list(tensors), TensorDataset(tensors)):
        assert Samples(unlabeled, limit=2)[1][1] is None
        assert len(Samples(unlabeled, limit=2)) == 2


def test_names_may_be_an_array():
    class Named(list):
        names = np.array(["b", "a"])

    assert Samples(Named(images(2))).names == ["b", "a"]


def test_what_is_no_data_set_is_refused():
    with pytest.raises(TypeError, match="must have a length and be indexed, got generator"):
        Samples(image for image in images(1))
    for path in ("images", Path("images")):
        with pytest.raises(TypeError, match=r"got a path: for a folder .*images_in"):
            Samples(path)
    with pytest.raises(ValueError, match="dataset is empty"):
        Samples([])
    with pytest.raises(TypeError, match=r"dataset\[0\] must be a tensor"):
        Samples(["cat.jpg"])[0]
    with pytest.raises(ValueError, match=r"must be a float image \(C, H, W\)"):
        Samples(images(2)[None])[0]
    with pytest.raises(TypeError, match=r"must be a tensor or \(tensor, label\), got 3 items\."):
        Samples([(images(1)[0], 1, "a")])[0]
    with pytest.raises(TypeError, match=r"For a DataLoader, pass its dataset"):
        Samples(DataLoader(images(2)))
    with pytest.raises(TypeError, match=r"dataset\[0\] must be .* got dict. Return one of these"):
        Samples([{"image": images(1)[0], "label": 1}])[0]
    for label in ("cat", 1.0, torch.tensor(1.0), torch.tensor([0, 1, 0, 0])):
        with pytest.raises(TypeError, match=r"label of dataset\[0\] must be the index"):
            Samples([(images(1)[0], label)])[0]
    with pytest.raises(ValueError, match=r"float image .* of shape \(3, 0, 4\)"):
        Samples([torch.ones(3, 0, 4)])[0]
    with pytest.raises(ValueError, match="NaN or inf"):
        Samples([images(1)[0] / 0])[0]


@pytest.mark.parametrize(
    ("limit", "error"), [(-1, ValueError), (0, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_limit_is_a_positive_number(limit, error):
    with pytest.raises(error, match="limit must be a positive integer"):
        Samples(images(3), limit)


def test_labels_are_found_by_name(tmp_path):
    _write(tmp_path, "class 1/x.png", "class 2/y.png")
    pictures = images_in(tmp_path, classifier())
    (tmp_path / "class 2" / "y.png").unlink()  # the label is known without it
    samples = Samples(pictures, limit=1)
    first, second = ({"image": name, "target": 1} for name in pictures.names)
    samples.check_records([first, {**second, "target": 2}], True, None)
    with pytest.raises(OutputError, match=r"label of class 2/y\.png has changed from 1 to 2"):
        samples.check_records([first, second], True, None)
