"""Loads images from files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from captum_tgrad._support.extras import import_from_extra


def check_image(path: str | Path) -> None:
    """Checks that a file is an image by reading its header only; raises as ``load_image``."""
    path = _path(path)
    with _reading(path):
        Image.open(path).close()


def load_image(path: str | Path) -> Image.Image:
    """Reads an image as RGB.

    It applies the EXIF orientation, composites transparent pixels on white, and converts 16-bit
    gray images to 8 bits.

    Args:
        path: A file in any format that Pillow reads. For animations, the first frame is used.

    Returns:
        An RGB image.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is a folder, not an image, damaged, above Pillow's size limit, or has
            32-bit pixels, which have no standard conversion to 8 bits.
    """
    path = _path(path)
    with _reading(path), Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    return as_rgb(image, str(path))


def sample_image() -> Image.Image:
    """The photo of a cup of coffee in scikit-image, 600 x 400, RGB: no download.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
    return Image.fromarray(import_from_extra("skimage.data", extra="cli").coffee())


def _path(path: str | Path) -> Path:
    """The path of an existing file; raises as ``load_image``."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the path of an image, got {type(path).__name__}: pass a str")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass an image in it, such as {path / 'photo.jpg'}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} not found: the folder {path.parent} does not exist")
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: pass the path of an image")
    return path


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A context in which Pillow's errors name the file and say what to do."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} has more pixels than Pillow reads ({error}): downsize it, or, if you"
            " trust it, set PIL.Image.MAX_IMAGE_PIXELS in Python"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not an image that Pillow can read: convert it to PNG or JPEG"
        ) from error
    # Pillow's decoders raise any of these on a damaged file, and seek to invalid positions in it.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise type(error)(f"{path} cannot be read ({error.strerror})") from error
        raise ValueError(f"{path} is damaged and cannot be read as an image: {error}") from error


def as_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Converts an image of any mode to RGB.

    Raises:
        TypeError: It is not a Pillow image, such as a path.
        ValueError: It has 32-bit pixels.
    """
    if not hasattr(image, "convert"):
        is_path = isinstance(image, (str, os.PathLike))
        way = "captum_tgrad.zoo.load_image" if is_path else "torchvision's to_pil_image"
        raise TypeError(
            f"{name} must be a Pillow image, got {type(image).__name__}: convert it with {way}."
        )
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which leaves a white image. Its ``point`` cannot
        # scale 16-bit pixels with the high byte first, as in many TIFF files, but 32-bit ones.
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{name} has 32-bit pixels (mode {image.mode}): convert it to 8 or 16 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
