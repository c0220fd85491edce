"""Images from files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from captum_tgrad._support.optional import import_from_extra

if TYPE_CHECKING:
    from PIL.Image import Image


def check_image(path: str | Path) -> None:
    """Reads no more than the head of a file, to find early that it is no image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder, or not an image.
    """
    _open(_path(path)).close()


def load_image(path: str | Path) -> Image:
    """Reads an image as people see it.

    It is turned the way its EXIF orientation says, laid on white where it is transparent, and
    reduced to 8 bits a channel where it is gray with 16.

    Args:
        path: A file in any format that Pillow reads. Of an animation, the first frame is taken.

    Returns:
        An RGB image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder, not an image, damaged, larger than Pillow reads, or of a kind
            with no natural way to 8 bits (32-bit integers and floats).
    """
    from PIL import Image, ImageOps

    path = _path(path)
    with _open(path) as opened:
        try:
            image = ImageOps.exif_transpose(opened)
        except Image.DecompressionBombError as error:
            raise _too_large(path, error) from error
        # Pillow's decoders raise any of these on a damaged file.
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} is damaged and cannot be read as an image: {error}"
            ) from error
    return as_rgb(image, str(path))


def sample_image() -> Image:
    """Returns a photograph of a cup of coffee that needs no file and no network, 600 x 400, RGB.

    Raises:
        ModuleNotFoundError: scikit-image, which carries it, is not installed.
    """
    from PIL import Image

    return Image.fromarray(import_from_extra("skimage.data", extra="cli").coffee())


def _path(path: str | Path) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the path of an image, got {type(path).__name__}: give a str")
    return Path(path)


def _open(path: Path) -> Image:
    """Opens an image without decoding it; raises as ``check_image``."""
    from PIL import Image, UnidentifiedImageError

    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the images in it, such as {path}/*.jpg")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no image {path}: there is no folder {path.parent}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no image {path}: give the path of one")
    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:
        raise _too_large(path, error) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not an image that Pillow can read: convert it to PNG or JPEG"
        ) from error


def _too_large(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} has more pixels than Pillow reads ({error}): make it smaller, or set"
        " PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )


def as_rgb(image: Image, name: str = "image") -> Image:
    """Converts any kind of image to RGB, without losing what it looks like.

    Args:
        image: An image of Pillow.
        name: Its name in messages.

    Raises:
        TypeError: It is no image of Pillow, such as a path.
        ValueError: It has 32-bit pixels.
    """
    if not hasattr(image, "convert"):
        raise TypeError(
            f"{name} must be an image of Pillow, got {type(image).__name__}:"
            " captum_tgrad.zoo.load_image reads one from a file."
        )
    from PIL import Image

    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts everything above 255, which leaves a white image.
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{name} has 32-bit pixels (mode {image.mode}): convert it to 8 or 16 bits a channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
