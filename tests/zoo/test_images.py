"""Images of every kind become RGB as people see them; the rest is refused with a reason."""

import errno
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from captum_tgrad.zoo import load_classifier, load_image, sample_image
from captum_tgrad.zoo.images import check_image

_EXIF_ORIENTATION = 0x0112
_ROTATED_90_CLOCKWISE_TO_VIEW = 6


def test_load_image_follows_the_exif_orientation(tmp_path):
    stored = Image.new("RGB", (3, 2), "white")
    stored.putpixel((0, 1), (0, 0, 0))  # bottom left as stored: top left when turned clockwise
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _ROTATED_90_CLOCKWISE_TO_VIEW
    stored.save(tmp_path / "turned.png", exif=exif)

    image = load_image(tmp_path / "turned.png")

    assert image.size == (2, 3)
    assert image.getpixel((0, 0)) == (0, 0, 0)
    assert image.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (10, 0), (255, 255, 255)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_load_image_returns_rgb(tmp_path, mode, color, expected):
    Image.new(mode, (4, 4), color).save(tmp_path / "picture.png")
    image = load_image(tmp_path / "picture.png")
    assert image.mode == "RGB"
    assert image.getpixel((2, 2)) == expected


@pytest.mark.parametrize(("dtype", "name"), [("<u2", "gray.png"), (">u2", "gray.tif")])
def test_load_image_reduces_16_bits_to_8(tmp_path, dtype, name):
    levels = np.array([[0, 256 * 100], [256 * 200, 65535]], dtype=dtype)
    Image.fromarray(levels).save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert np.asarray(image)[..., 0].tolist() == [[0, 100], [200, 255]]


def test_load_image_of_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "moving.gif").getpixel((0, 0)) == (255, 0, 0)


def test_load_image_refuses_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.png not found"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        load_image(tmp_path / "nowhere" / "picture.png")


def test_load_image_refuses_what_it_may_not_read(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "secret.png").touch()
    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(
        PermissionError, match=r"^\S+secret\.png cannot be read \(Permission denied"
    ):
        load_image(tmp_path / "secret.png")


def test_load_image_refuses_a_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder: pass an image in it"):
        load_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"just text", b"\x89PNG\r\n\x1a\n"])
def test_load_image_refuses_what_is_not_a_picture(tmp_path, content):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"notes\.png is not an image .*convert it"):
        load_image(tmp_path / "notes.png")


def test_load_image_refuses_a_damaged_header(tmp_path):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0abc")
    with pytest.raises(ValueError, match=r"damaged\.jpg is damaged .*Truncated"):
        load_image(tmp_path / "damaged.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_load_image_refuses_a_damaged_picture(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"whole.{suffix}"
    Image.fromarray(noise).save(path)
    damaged = tmp_path / f"damaged.{suffix}"
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"damaged\.\w+ is (damaged|not an image)"):
        load_image(damaged)


def test_load_image_refuses_32_bit_pixels(tmp_path):
    Image.new("F", (2, 2), 0.5).save(tmp_path / "measured.tif")
    with pytest.raises(ValueError, match=r"32-bit pixels.*convert it to 8 or 16 bits"):
        load_image(tmp_path / "measured.tif")


def test_sample_image_is_a_picture():
    image = sample_image()
    assert (image.mode, image.size) == ("RGB", (600, 400))


def test_sample_image_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.delitem(sys.modules, "skimage.data", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[cli\]"'):
        sample_image()


def test_a_picture_above_the_limit_of_pillow_is_called_that(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (40, 40)).save(tmp_path / "scan.png")
    for read in (load_image, check_image):
        with pytest.raises(
            ValueError, match=r"scan\.png has more pixels than Pillow reads.*MAX_IMAGE"
        ):
            read(tmp_path / "scan.png")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_every_mode_are_taken_in_rgb(mode):
    classifier = load_classifier("efficientnet_lite0")
    image = sample_image().convert(mode)
    assert torch.equal(classifier.preprocess(image), classifier.preprocess(image.convert("RGB")))
    assert classifier.crop(image).mode == "RGB"
    with pytest.raises(TypeError, match=r"got str: convert it with captum_tgrad\.zoo\.load_image"):
        classifier.preprocess("photo.jpg")
    with pytest.raises(TypeError, match=r"got ndarray: convert it with .*to_pil_image"):
        classifier.preprocess(np.asarray(image))
