"""The images of an evaluation: those of a folder, or built in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from captum_tgrad._support.suggest import few
from captum_tgrad._support.warn import warn_user
from captum_tgrad.evaluation.image_labels import folder_labels, listed_labels
from captum_tgrad.evaluation.storage.files import PROTOCOL_FILE
from captum_tgrad.zoo.classifier import Classifier, check_classifier
from captum_tgrad.zoo.images import load_image

BUILT_IN = "built-in"
"""The name of the labeled ImageNet images that need no download."""

_NAMED = 3
_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_ANNOTATIONS = {".csv", ".xml"}  # labels and boxes, often beside the images


@dataclass(frozen=True)
class ImageFiles(Dataset[tuple[Tensor, int | None]]):
    """Image files as a torch data set of ``(image, label)``; files are read on access.

    Attributes:
        title: The name of their folder or package.
        files: The image files.
        names: The names of the images in records.
        labels: The class index of each image, or None if unknown.
        preprocess: From an RGB image to a network input, ``(C, H, W)``.
    """

    title: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[int | None, ...]
    preprocess: Callable[[Image], Tensor]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        """The image and the label; raises as ``load_image``."""
        return self.preprocess(load_image(self.files[index])), self.labels[index]


def built_in_images(classifier: Classifier) -> ImageFiles:
    """The 20 labeled ImageNet images of the ``foolbox`` package.

    Raises:
        TypeError: ``classifier`` is not a ``Classifier``.
        ModuleNotFoundError: foolbox is not installed.
    """
    check_classifier(classifier)
    # Not imported: foolbox itself needs packages that its images do not.
    found = find_spec("foolbox")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "the built-in images are in foolbox, which is not installed: run pip install"
            ' ".[evaluate]" in the clone, or pass a folder of images',
            name="foolbox",
        )
    data = Path(found.submodule_search_locations[0]) / "data"
    files = sorted(data.glob("imagenet_*_*.jpg"))
    labels = [int(file.stem.rsplit("_", 1)[1]) for file in files]
    return _pictures("foolbox", data, files, labels, classifier)


def images_in(
    folder: str | Path, classifier: Classifier, labels: str | Path | None = None
) -> ImageFiles:
    """Finds the images in a folder, in the order of their names.

    Hidden files and folders, whose names start with a dot, are ignored.

    Args:
        folder: A folder of images, or a folder with one subfolder per class, with images at any
            depth. The name of a subfolder is the name or the index of its class (an index only if
            all numbers are class indices); images in other subfolders have no label. If no
            subfolder is named after a class and there is one for each class, they are in class
            order, unless numbers among them are out of order.
        classifier: The classifier, with its classes and preprocessing.
        labels: A CSV file with two columns: the path of an image relative to ``folder``, and the
            index or name of its class. A header line is skipped. Images that are not in the file
            have no label.

    Raises:
        TypeError: ``classifier`` is not a ``Classifier``.
        FileNotFoundError: The folder or the file ``labels`` does not exist, or the folder has no
            image.
        ValueError: ``folder`` is a file, images are both in ``folder`` and in subfolders, a label
            is not a class, or ``labels`` lists no image of the folder.

    Warns:
        UserWarning: The folder has files that are neither images nor CSV or XML files.
    """
    check_classifier(classifier)
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(f"{folder} is a file: pass a folder of images")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder {folder} not found: pass a folder of images, or {BUILT_IN} for 20 images"
        )
    listed = None if labels is None else Path(labels)
    files = images_among(folder, (file for file in _walk(folder) if file != listed))
    flat = [file for file in files if file.parent == folder]
    if flat and len(flat) < len(files):
        within = next(file for file in files if file.parent != folder)
        raise ValueError(
            f"{folder} holds images, such as {flat[0].name}, and folders of images, such as"
            f" {within.relative_to(folder).as_posix()}: move one kind elsewhere"
        )
    if listed is not None:
        found: Sequence[int | None] = listed_labels(folder, files, listed, classifier)
    elif flat:
        found = [None] * len(files)
    else:
        found = folder_labels(folder, files, classifier)
    return _pictures(folder.resolve().name, folder, files, found, classifier)


def _pictures(
    title: str,
    folder: Path,
    files: Sequence[Path],
    labels: Sequence[int | None],
    classifier: Classifier,
) -> ImageFiles:
    names = tuple(file.relative_to(folder).as_posix() for file in files)
    return ImageFiles(title, tuple(files), names, tuple(labels), classifier.preprocess)


def _walk(folder: Path) -> Iterator[Path]:
    """All files outside of hidden folders; links are followed, except to folders above."""
    for within, folders, files in os.walk(folder, followlinks=True):
        # A link to a folder above would be followed forever.
        here = Path(os.path.realpath(within))
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and not here.is_relative_to(os.path.realpath(os.path.join(within, name)))
        ]
        yield from (Path(within, name) for name in files)


def images_among(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """The images among the paths in a folder, without those of an evaluation and hidden ones.

    Warns about other files. Raises FileNotFoundError if there is no image.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(paths):
        # On other file systems, macOS writes "._photo.jpg", which is no image, beside each photo.
        if path.name.startswith(".") or (path.parent / PROTOCOL_FILE).exists():
            continue
        (images if path.suffix.lower() in _SUFFIXES and not path.is_dir() else others).append(path)
    named = few([path.relative_to(folder).as_posix() for path in others], _NAMED)
    endings = ", ".join(sorted(_SUFFIXES))
    if not images:
        only = f", only {named}" if others else ""
        inner = next((f"such as {path}" for path in others if path.is_dir()), "")
        which = inner or f"with files that end in {endings}"
        raise FileNotFoundError(f"no image found in {folder}{only}: pass a folder {which}")
    if any(path.suffix.lower() not in _ANNOTATIONS for path in others):
        warn_user(f"Ignored in {folder}: {named}. Images are files that end in {endings}.")
    return images
