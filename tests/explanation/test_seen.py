"""What of an image the network saw, and what was cut away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode

from captum_tgrad.cli.main import main
from captum_tgrad.explanation import Explanation, Prediction, explain, format_report
from captum_tgrad.explanation.text_report import seen_lines
from captum_tgrad.visualization import explanation_figure
from captum_tgrad.zoo import load_classifier
from captum_tgrad.zoo.preprocessing import Preprocessing


@pytest.mark.parametrize("size", [(2400, 500), (500, 2400), (640, 480), (256, 256), (300, 301)])
@pytest.mark.parametrize("steps", [(256, 224), (232, 224), (224, 224)])
def test_the_region_is_what_the_crop_shows(size, steps):
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    channels = [255 * columns / width, 255 * rows / height, np.zeros_like(rows)]
    picture = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    preprocessing = Preprocessing(*steps, InterpolationMode.BILINEAR, (0.5,) * 3, (0.5,) * 3)
    cropped = np.asarray(preprocessing.crop(picture)).astype(float)
    left, top, right, bottom = preprocessing.seen(width, height)
    seen = np.asarray(picture)[top:bottom, left:right].astype(float)
    for corner in ((0, 0), (-1, -1)):
        # A pixel of the crop is some pixels of the image.
        assert np.abs(cropped[corner] - seen[corner]).max() <= 4


def test_the_report_says_what_is_cut_away():
    classifier = load_classifier("efficientnet_lite0")
    wide = Image.effect_noise((2400, 500), 90).convert("RGB")
    side = 500 * 224 / 256
    (found,) = explain(classifier, [wide])
    assert found.cut_away == pytest.approx(1 - side**2 / (2400 * 500), abs=0.01)
    report = format_report(found)
    assert (
        "  cropped to the center 438 x 438 of 2400 x 500 pixels, cutting off 84% of the image"
        " (--resize squash or pad keeps all of it)" in report
    )


def test_a_part_that_is_seen_is_not_called_nothing():
    (line,) = seen_lines((3, 400), (0, 199, 3, 201))
    assert "cutting off 99% of the image" in line


def test_a_picture_that_is_seen_whole_gets_no_line():
    preprocessing = Preprocessing(224, 224, InterpolationMode.BILINEAR, (0.5,) * 3, (0.5,) * 3)
    assert preprocessing.seen(500, 500) == (0, 0, 500, 500)


def _gradient(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    channels = [255 * columns / width, 255 * rows / height, np.zeros_like(rows)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def _steps(resize: str, side: int = 224) -> Preprocessing:
    bilinear = InterpolationMode.BILINEAR
    return Preprocessing(256, side, bilinear, (0.5,) * 3, (0.25,) * 3, resize)


@pytest.mark.parametrize("size", [(2400, 500), (500, 2400), (640, 480), (224, 224), (3, 1)])
def test_squash_and_pad_show_the_whole_picture(size):
    picture = _gradient(*size)
    pixels = np.asarray(picture).astype(float)
    for resize in ("squash", "pad"):
        steps = _steps(resize)
        assert steps.seen(*size) == (0, 0, *size)
        left, top, right, bottom = steps.shown(*size)
        cropped = np.asarray(steps.crop(picture)).astype(float)
        assert cropped.shape == (224, 224, 3)
        inner = cropped[top:bottom, left:right]
        for corner in ((0, 0), (-1, -1)):
            assert np.abs(inner[corner] - pixels[corner]).max() <= 130 / min(size) + 4
        inputs = steps(picture)
        outside = torch.ones(224, 224, dtype=torch.bool)
        outside[top:bottom, left:right] = False
        # The border is nothing to the network.
        assert inputs[:, outside].abs().max() < 0.02 if outside.any() else True
        if resize == "squash":
            assert not outside.any()
        else:
            ratio = (right - left) / (bottom - top)
            assert ratio == pytest.approx(size[0] / size[1], rel=0.02)
            assert max(right - left, bottom - top) == 224


@pytest.mark.parametrize("size", [(300, 200), (201, 300), (90, 90), (400, 399), (1000, 20)])
@pytest.mark.parametrize("resized", [100, 199, 223])
def test_a_crop_larger_than_the_resized_picture_has_a_border(size, resized):
    bilinear = InterpolationMode.BILINEAR
    steps = Preprocessing(resized, 224, bilinear, (0.5,) * 3, (0.25,) * 3)
    white = np.asarray(steps.crop(Image.new("RGB", size, "white")))[..., 0] == 255
    left, top, right, bottom = steps.shown(*size)
    assert white[top:bottom, left:right].all()
    assert white.sum() == (bottom - top) * (right - left) < white.size
    cropped = np.asarray(steps.crop(_gradient(*size))).astype(float)[top:bottom, left:right]
    x0, y0, x1, y1 = steps.seen(*size)
    seen = np.asarray(_gradient(*size)).astype(float)[y0:y1, x0:x1]
    for corner in ((0, 0), (-1, -1)):
        assert np.abs(cropped[corner] - seen[corner]).max() <= 130 / min(size) + 4


def test_an_unknown_way_to_resize():
    with pytest.raises(ValueError, match="resize must be 'crop', 'squash' or 'pad', got 'fi"):
        _steps("fit")
    with pytest.raises(ValueError, match="resize must be"):
        load_classifier(resize="fit")


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1200, 250), (90, 400), (300, 300)])
def test_the_map_lies_over_the_photograph_where_the_network_saw_it(resize, size):
    """A map that is the network's own input lies where the photograph has the same content."""
    picture, steps = _gradient(*size), _steps(resize)
    classifier = replace(load_classifier(), preprocess=steps, crop=steps.crop)
    (found,) = explain(classifier, [picture])
    red = torch.from_numpy(np.asarray(found.image).astype(np.float32)[..., 0])
    found = replace(found, attribution=red)
    left, top, right, bottom = found.seen_of_photo
    figure = explanation_figure(found.photo, found.map_of_seen, seen=found.seen_of_photo)
    drawn = [axes for axes in figure.axes if axes.get_title()]
    whole = found.seen_of_photo == (0, 0, *found.photo.size)
    assert drawn[0].get_title() == ("image" if whole else "image (gray: not seen)")
    heat = np.asarray(drawn[1].images[0].get_array())
    photo = np.asarray(found.photo).astype(float)[..., 0]
    assert heat.shape == photo.shape
    inner = (slice(top, bottom), slice(left, right))
    limit = heat[inner].max()
    expected = photo[inner] / photo[inner].max() * limit
    assert np.abs(heat[inner] - expected)[2:-2, 2:-2].mean() < 0.03 * limit
    outside = np.ones_like(heat, dtype=bool)
    outside[inner] = False
    assert (heat[outside] == 0).all()
    for axes in drawn:
        covers = [np.asarray(i.get_array()) for i in axes.images if i.get_array().ndim == 3]
        covers = [each for each in covers if each.shape[2] == 4]
        assert len(covers) == (1 if outside.any() else 0)
        for each in covers:
            # Gray, opaque outside and clear inside.
            assert (each[..., 3] == outside).all()
            assert (each[..., :3].max(2) - each[..., :3].min(2) < 1e-6).all()


def test_the_whole_photograph_is_drawn_by_the_command(tmp_path, monkeypatch):
    given = {}

    def watch(image, attribution, **options):
        given.update(options, image=image, attribution=attribution)
        return explanation_figure(image, attribution, **options)

    monkeypatch.setattr("captum_tgrad.cli.explain_command.explanation_figure", watch)
    _gradient(2400, 500).save(tmp_path / "wide.png")
    command = ["explain", str(tmp_path / "wide.png"), "--out", str(tmp_path)]
    assert main([*command, "--out", str(tmp_path / "crop")]) == 0
    assert given["image"].width / given["image"].height == pytest.approx(4.8, rel=0.01)
    left, top, right, bottom = given["seen"]
    assert right - left == pytest.approx(bottom - top, abs=2)
    assert np.load(tmp_path / "crop/wide.npy").shape == (224, 224)
    assert main([*command, "--out", str(tmp_path / "pad"), "--resize", "pad"]) == 0
    assert given["seen"] == (0, 0, *given["image"].size)
    assert given["attribution"].shape == (47, 224)


@pytest.mark.parametrize("command", ["compare", "sanity-check"])
@pytest.mark.usefixtures("undrawn")
def test_other_commands_say_what_is_cut_away(tmp_path, capsys, command):
    _gradient(1200, 250).save(tmp_path / "wide.png")
    quick = ["--methods", "random", "--n-steps", "2"] if command == "compare" else []
    quick = quick or ["--method", "saliency", "--layers", "_fc", "--columns", "2"]
    assert main([command, str(tmp_path / "wide.png"), "--out", str(tmp_path / "o"), *quick]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "wide.png: cropped to the center 2" in printed


@pytest.mark.parametrize(
    ("probabilities", "unsure"),
    [
        ([0.29, 0.2, 0.1, 0.1, 0.1], True),
        ([0.31, 0.2, 0.1, 0.1, 0.1], False),
        ([0.6, 0.4], True),
        ([0.8, 0.2], False),
    ],
)
def test_a_low_probability_is_said(probabilities, unsure):
    (found,) = explain(load_classifier(), [_gradient(64, 64)])
    predictions = tuple(Prediction(i, f"class {i}", p) for i, p in enumerate(probabilities))
    found = replace(found, predictions=predictions)
    assert isinstance(found, Explanation)
    assert found.unsure == unsure
    said = f"low confidence: the best class has {probabilities[0]:.1%}; the image may show no"
    assert (said in format_report(found)) == unsure


@pytest.mark.parametrize(
    "seen", [(0, 0, 9, 4), (-1, 0, 3, 3), (3, 0, 3, 3), (0, 0, 3), [(0, 0, 2, 2), (0, 0, 2, 2)]]
)
def test_a_part_that_is_not_within_the_picture(seen):
    with pytest.raises(ValueError, match="seen "):
        explanation_figure(Image.new("RGB", (8, 4)), torch.rand(2, 2), seen=seen)


@pytest.mark.parametrize("as_parts", [list, torch.tensor, np.array])
def test_parts_of_several_pictures(as_parts):
    maps = torch.rand(2, 4, 4)[:, None]
    figure = explanation_figure(torch.rand(2, 3, 8, 8), maps, seen=as_parts([[0, 0, 4, 4]] * 2))
    assert [axes.get_title() for axes in figure.axes].count("image (gray: not seen)") == 2


def test_what_is_no_map_is_refused_also_with_a_part_that_was_seen():
    with pytest.raises(ValueError, match=r"attribution has shape \(4,\): pass"):
        explanation_figure(Image.new("RGB", (8, 4)), torch.rand(4), seen=(0, 0, 8, 4))


@pytest.mark.filterwarnings("ignore:The baseline keeps")
@pytest.mark.usefixtures("undrawn")
def test_records_are_of_one_way_to_resize(tmp_path):
    from captum_tgrad.evaluation import OutputError, evaluate, images_in

    (tmp_path / "pictures").mkdir()
    _gradient(300, 224).save(tmp_path / "pictures" / "a.png")
    crop, squash = (load_classifier(resize=resize) for resize in ("crop", "squash"))
    folder, out = tmp_path / "pictures", tmp_path / "out"
    evaluate(crop, images_in(folder, crop), ["random"], out, n_steps=2)
    assert "resize" not in (tmp_path / "out/protocol.json").read_text()
    with pytest.raises(OutputError, match="resize was not set, is 'squash'"):
        evaluate(
            squash,
            images_in(folder, squash),
            ["random"],
            tmp_path / "out",
            n_steps=2,
            resume=True,
        )
