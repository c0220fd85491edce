"""Reads object boxes from a CSV file or Pascal VOC files, cropped as the network sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from captum_tgrad.evaluation.image_files import ImageFiles
from captum_tgrad.evaluation.image_labels import composed, csv_rows
from captum_tgrad.evaluation.storage.digests import bytes_digest
from captum_tgrad.metrics.engine.regions import mask_of_boxes
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.images import load_image

ObjectBox = tuple[float, float, float, float]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image, in pixels from its upper left corner."""

    boxes: tuple[ObjectBox, ...]
    size: tuple[float, float] | None = None  # to which they refer; None: that of the image


@dataclass(frozen=True, eq=False)
class BoxRegions(Mapping[str, Tensor]):
    """The regions of images by name, each computed on access.

    An image is in one of ``files``, and the network sees what ``crop`` returns of it.
    """

    boxes: Mapping[str, Boxes]
    files: Mapping[str, Path]
    crop: Callable[[Image.Image], Image.Image] = field(repr=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.boxes)

    def __len__(self) -> int:
        return len(self.boxes)

    def __contains__(self, name: object) -> bool:
        return name in self.boxes  # by default, a mapping computes the region to find out

    def __getitem__(self, name: str) -> Tensor:
        """The pixels of the crop that are in a box, ``(H, W)``, bool; raises as ``load_image``."""
        found = self.boxes[name]
        width, height = load_image(self.files[name]).size
        boxes = torch.tensor(found.boxes, dtype=torch.float64, device="cpu").reshape(-1, 4)
        if found.size is not None:
            boxes = boxes * torch.tensor(
                [width / found.size[0], height / found.size[1]] * 2, device="cpu"
            )
        mask = mask_of_boxes(boxes, (height, width), name)
        # Cropped like the image; a pixel counts if boxes cover more than half of it.
        picture = to_pil_image(255 * mask.to(torch.uint8)).convert("RGB")
        values: Tensor = pil_to_tensor(self.crop(picture).convert("L"))[0]
        return values > 127

    def digest(self, names: Iterable[str]) -> str:
        """A short hash of the boxes of images, which are not read for it."""
        boxes = ((name, self.boxes[name]) for name in names)
        listed = repr(sorted((name, each.boxes, each.size) for name, each in boxes))
        return bytes_digest(listed.encode())


def boxes_of(
    path: str | Path, pictures: ImageFiles, classifier: Classifier
) -> Mapping[str, Tensor]:
    """Reads the boxes of the objects in images.

    Args:
        path: A CSV file. The first column is the path of an image relative to the image folder. The
            last column has its boxes, ``x0 y0 x1 y1`` in pixels from the upper left corner of the
            image, joined by ``;``. An image may have several lines. A header line is skipped. Or a
            folder of XML files in the format of Pascal VOC and ImageNet, each named after its
            image, with pixels counted from 1. All objects in a file count.
        pictures: The images.
        classifier: The classifier, which crops the images.

    Returns:
        For each image with an entry, the mask of the pixels of the crop that are in a box,
        ``(H, W)``, bool. Pass it as ``regions`` of ``evaluate``. Masks are computed on access.

    Raises:
        FileNotFoundError: The file or folder does not exist, or the folder holds no XML file.
        ValueError: A file is damaged, or no file has a box for any of the images.
    """
    path = Path(path)
    if path.is_dir():
        read = _from_xml(path, pictures)
    elif path.is_file():
        read = _from_csv(path, [composed(name) for name in pictures.names])
    else:
        raise FileNotFoundError(f"boxes {path} not found: pass a CSV file or a folder of XML files")
    known = {name: read[composed(name)] for name in pictures.names if composed(name) in read}
    if not known:
        raise ValueError(
            f"{path} has boxes of {len(read)} images, but none of these images, such as"
            f" {pictures.names[0]}: use their paths relative to the folder"
        )
    files = dict(zip(pictures.names, pictures.files, strict=True))
    return BoxRegions(known, files, classifier.crop)


def _from_csv(path: Path, images: Collection[str]) -> dict[str, Boxes]:
    def is_entry(row: list[str]) -> bool:
        return composed(row[0].strip()) in images or _boxes(row) is not None

    found: dict[str, Boxes] = {}
    for line, row in csv_rows(path, is_entry):
        boxes = _boxes(row)
        if boxes is None:
            raise ValueError(
                f"{path}, line {line}, has {','.join(row)!r}: write an image and its boxes,"
                " x0 y0 x1 y1 joined by ;"
            )
        name = composed(row[0].strip())
        found[name] = Boxes((*found[name].boxes, *boxes) if name in found else boxes)
    return found


def _boxes(row: list[str]) -> tuple[ObjectBox, ...] | None:
    """The boxes in the last cell; None if it holds anything else, or there is one cell."""
    try:
        boxes = [map(float, each.split()) for each in row[-1].split(";") if each.strip()]
        corners = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)
    except ValueError:
        return None
    return corners if len(row) > 1 else None


def _from_xml(folder: Path, pictures: ImageFiles) -> dict[str, Boxes]:
    files = sorted(folder.rglob("*.xml"))
    if not files:
        raise FileNotFoundError(
            f"no XML file found in {folder}: pass a CSV file, or a folder of Pascal VOC XML files"
        )
    by_path = {
        composed(file.relative_to(folder).with_suffix("").as_posix()): file for file in files
    }
    by_name = {composed(file.stem): file for file in files}
    found = {}
    for name in map(composed, pictures.names):
        file = by_path.get(Path(name).with_suffix("").as_posix()) or by_name.get(Path(name).stem)
        if file is not None:
            found[name] = _annotation(file)
    return found


def _annotation(file: Path) -> Boxes:
    try:
        root = ElementTree.parse(file).getroot()
        boxes = [
            [float(each.findtext(corner, "")) for corner in ("xmin", "ymin", "xmax", "ymax")]
            for each in root.iterfind("object/bndbox")
        ]
        width, height = (float(root.findtext(f"size/{side}", "0")) for side in ("width", "height"))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{file} is not a Pascal VOC annotation: {error}") from error
    # Pascal VOC counts pixels from 1, and the last one is in the box.
    corners = tuple((x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in boxes)
    return Boxes(corners, (width, height) if width > 0 and height > 0 else None)
