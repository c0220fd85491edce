"""Boxes from files, and the part of them that the network sees."""

import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from captum_tgrad.evaluation import images_in
from captum_tgrad.evaluation.box_files import boxes_of
from captum_tgrad.zoo import Classifier
from tests.evaluation.networks import classifier, network

VOC = """<annotation>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <object><name>cat</name><bndbox>
    <xmin>3</xmin><ymin>2</ymin><xmax>6</xmax><ymax>4</ymax></bndbox></object>
  <object><name>dog</name><difficult>0</difficult><bndbox>
    <xmin>10</xmin><ymin>8</ymin><xmax>10</xmax><ymax>8</ymax></bndbox></object>
</annotation>"""


def _whole():
    """A classifier that sees images as they are."""
    return Classifier("whole", network(), ("a",) * 4, lambda picture: None, lambda picture: picture)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "cats").mkdir(parents=True)
    for name in ("cats/a.png", "cats/b.jpeg"):
        Image.new("RGB", (12, 8)).save(folder / name)
    return folder


def _regions(path, folder, seen_by=None):
    seen_by = seen_by or _whole()
    return boxes_of(path, images_in(folder, classifier()), seen_by)


def _mask(*rectangles):
    """Rows and columns, as Python slices them."""
    mask = torch.zeros(8, 12, dtype=torch.bool)
    for top, bottom, left, right in rectangles:
        mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    "text",
    [
        "file,imagenet_index,boxes\ncats/a.png,3,2 1 6 4;9 7 10 8\ncats/b.jpeg,1,0 0 12 8\n",
        "cats/a.png,2.0 1.0 6.0 4.0; 9 7 10 8\n\ncats/b.jpeg,0 0 12 8\nelsewhere.png,1 1 2 2\n",
        "\ufeffcats/a.png,2 1 6 4\ncats/b.jpeg,0 0 12 8\ncats/a.png,9 7 10 8\n",
    ],
)
def test_a_csv_file(tmp_path, folder, text):
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    regions = _regions(tmp_path / "boxes.csv", folder)
    assert list(regions) == ["cats/a.png", "cats/b.jpeg"]
    assert torch.equal(regions["cats/a.png"], _mask((1, 4, 2, 6), (7, 8, 9, 10)))
    assert regions["cats/b.jpeg"].all()


def test_accents_may_be_composed_or_not(tmp_path):
    names = [unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")]
    folder, voc = tmp_path / "pictures", tmp_path / "annotations"
    for written, other in (names, names[::-1]):
        for each in (folder, voc):
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir()
        Image.new("RGB", (12, 8)).save(folder / written)
        (tmp_path / "boxes.csv").write_text(f"{other},2 1 6 4\n", encoding="utf-8")
        (voc / other).with_suffix(".xml").write_text(VOC.format(width=12, height=8))
        for boxes in (tmp_path / "boxes.csv", voc):
            assert _regions(boxes, folder)[written].any()


def test_a_picture_without_a_box(tmp_path, folder):
    (tmp_path / "boxes.csv").write_text("file,boxes\ncats/a.png,\ncats/b.jpeg,1 1 2 2\n")
    regions = _regions(tmp_path / "boxes.csv", folder)
    assert not regions["cats/a.png"].any()
    assert len(regions) == 2


@pytest.mark.parametrize("where", ["a.xml", "cats/a.xml"])
def test_files_of_pascal_voc(tmp_path, folder, where):
    file = tmp_path / "annotations" / where
    file.parent.mkdir(parents=True)
    file.write_text(VOC.format(width=12, height=8))
    regions = _regions(tmp_path / "annotations", folder)
    assert list(regions) == ["cats/a.png"]
    # From 1 on, with both ends: columns 3 to 6 and rows 2 to 4.
    assert torch.equal(regions["cats/a.png"], _mask((1, 4, 2, 6), (7, 8, 9, 10)))


def test_annotations_of_a_picture_of_another_size_are_scaled(tmp_path, folder):
    (tmp_path / "a.xml").write_text(VOC.format(width=24, height=16))
    regions = _regions(tmp_path, folder)
    # x from 1 to 3 and 4.5 to 5, y from 0.5 to 2 and 3.5 to 4: a middle on the border is inside.
    assert torch.equal(regions["cats/a.png"], _mask((0, 2, 1, 3), (3, 4, 4, 5)))


def test_the_region_is_resized_and_cropped_as_the_picture(tmp_path):
    # As of ImageNet: the shorter side to 32, then 28 x 28 of the middle.
    from torchvision.transforms import InterpolationMode

    from captum_tgrad.zoo.preprocessing import Preprocessing

    steps = Preprocessing(32, 28, InterpolationMode.BICUBIC, (0.5,) * 3, (0.5,) * 3)
    seen_by = Classifier("cropping", network(), ("a",) * 4, steps, steps.crop)
    folder = tmp_path / "pictures"
    folder.mkdir()
    # A white box on black: the network sees the region itself.
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    pixels[20:52, 10:70] = 255
    Image.fromarray(pixels).save(folder / "a.png")
    (tmp_path / "boxes.csv").write_text("a.png,10 20 70 52\n")
    region = _regions(tmp_path / "boxes.csv", folder, seen_by)["a.png"]
    seen = steps(Image.open(folder / "a.png"))
    assert region.shape == (28, 28)
    assert torch.equal(region, seen.mean(0) > 0)
    # Halved, 10 columns of 48 and 2 rows of 32 are cut off on each side: rows 8 to 24.
    assert region.any(1).nonzero().flatten().tolist() == list(range(8, 24))
    assert region.any(0).nonzero().flatten().tolist() == list(range(25))


def test_a_digest_changes_with_the_boxes(tmp_path, folder):
    digests = []
    for x0 in (1, 1, 2):
        (tmp_path / "boxes.csv").write_text(f"cats/a.png,{x0} 1 6 4\n")
        digests.append(_regions(tmp_path / "boxes.csv", folder).digest(["cats/a.png"]))
    assert digests[0] == digests[1] != digests[2]


def test_no_picture_is_read_before_its_region_is_asked_for(tmp_path, folder):
    (tmp_path / "boxes.csv").write_text("cats/a.png,1 1 6 4\n")
    regions = _regions(tmp_path / "boxes.csv", folder)
    (folder / "cats" / "a.png").write_bytes(b"")
    assert "cats/a.png" in regions
    assert "cats/b.jpeg" not in regions
    assert (len(regions), len(regions.digest(regions))) == (1, 16)
    with pytest.raises(ValueError, match=r"a\.png"):
        regions["cats/a.png"]


def test_a_box_that_is_not_in_its_picture(tmp_path, folder):
    (tmp_path / "boxes.csv").write_text("cats/a.png,1 1 40 4\n")
    with pytest.raises(ValueError, match=r"^cats/a.png has a box .*40.*, which is not in"):
        _regions(tmp_path / "boxes.csv", folder)["cats/a.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other.png,1 1 2 2\n", "has boxes of 1 images, but none of these images"),
        ("file,boxes\n", "has boxes of 0 images"),
        ("cats/a.png,1 1 2\ncats/b.jpeg,1 1 2 2\n", "line 1, has .*x0 y0 x1 y1 joined by ;"),
        ("cats/a.png,1,1,2,2\n", "line 1, has"),
        ("cats/a.png,1 1 2 2\ncats/b.jpeg,1 1 2\n", "line 2, has .*x0 y0 x1 y1 joined by ;"),
        ("cats/a.png,1 1 2 2\ncats/b.jpeg,a b c d\n", "line 2, has"),
        ("\nfile,boxes\n\ncats/a.png,a b c d\n", "line 4, has"),
    ],
)
def test_a_csv_file_that_is_none(tmp_path, folder, text, message):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        _regions(tmp_path / "boxes.csv", folder)


def test_files_that_are_not_there_or_damaged(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="not found: pass a CSV file"):
        _regions(tmp_path / "absent.csv", folder)
    with pytest.raises(FileNotFoundError, match="no XML file"):
        _regions(folder, folder)
    (tmp_path / "a.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match=r"a\.xml is not a Pascal VOC annotation"):
        _regions(tmp_path, folder)
    (tmp_path / "a.xml").write_text("<a><object><bndbox><xmin>x</xmin></bndbox></object></a>")
    with pytest.raises(ValueError, match=r"a\.xml is not a Pascal VOC annotation"):
        _regions(tmp_path, folder)
    (tmp_path / "boxes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a CSV file in UTF-8"):
        _regions(tmp_path / "boxes.csv", folder)
