"""A uniform view of data sets: indexed images with names."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_count, got
from captum_tgrad.evaluation.image_files import ImageFiles
from captum_tgrad.evaluation.regions import region_digest
from captum_tgrad.evaluation.storage.digests import bytes_digest, image_digest
from captum_tgrad.evaluation.storage.files import OutputError
from captum_tgrad.evaluation.storage.records import Record


class Samples:
    """The first ``limit`` images of a data set as of ``evaluate``, each with a name.

    Without ``dataset.names``, images are named by their indices. Raises TypeError or ValueError if
    it is not such a data set, or ``limit`` is not a positive integer.
    """

    def __init__(self, dataset: Any, limit: int | None = None) -> None:
        if isinstance(dataset, (str, Path)):
            raise TypeError(
                "dataset must be a torch Dataset or a list, got a path: for a folder of images,"
                " pass captum_tgrad.evaluation.images_in(folder, classifier)."
            )
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"dataset must have a length and be indexed, got {type(dataset).__name__}: a torch"
                " Dataset, a list of tensors or of (tensor, label). For a DataLoader, pass its"
                " dataset; for another iterable, pass a list."
            )
        if limit is not None:
            check_count(limit, "limit")
        count = len(dataset)
        if not count:
            raise ValueError("dataset is empty: pass at least one image.")
        # A tensor's ``names``, in some versions of torch, are those of its dimensions.
        given = None if isinstance(dataset, Tensor) else getattr(dataset, "names", None)
        names = [str(name) for name in (range(count) if given is None else given)]
        if len(names) != count or len(set(names)) != count:
            raise ValueError(
                f"dataset.names must be one distinct name for each image, got {len(set(names))}"
                f" for {count}."
            )
        self._dataset = dataset
        self._indices = {name: index for index, name in enumerate(names)}
        self.names = names[:limit]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        """An image and its label or None.

        Raises TypeError if they are no tensor and no integer, and ValueError if the image cannot be
        loaded, or is not one of finite floats.
        """
        try:
            item = self._dataset[index]
        # A user's data set and the decoders of image files may raise anything.
        except Exception as error:
            raise ValueError(str(error) or type(error).__name__) from error
        image, label = item if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
        if isinstance(image, (tuple, list)) and len(image) == 1:  # a TensorDataset
            image = image[0]
        if not isinstance(image, Tensor):
            what = f"{len(image)} items" if isinstance(image, (tuple, list)) else got(image)
            raise TypeError(
                f"dataset[{index}] must be a tensor or (tensor, label), got {what}. Return"
                " one of these from the data set; torchvision.transforms.ToTensor() converts one."
            )
        if image.dim() != 3 or not image.is_floating_point() or not image.numel():
            raise ValueError(
                f"dataset[{index}] must be a float image (C, H, W), got {image.dtype} of shape"
                f" {tuple(image.shape)}: {_how_to_pass(image)}"
            )
        if not bool(torch.isfinite(image).all()):
            raise ValueError("the image holds NaN or inf")
        return image, None if label is None else _index(label, index)

    def digest_of(self, name: str, image: Tensor | None = None) -> str | None:
        """A short hash of the bytes of a file, or of the pixels; None if it cannot be read."""
        index = self._indices[name]
        try:
            if isinstance(self._dataset, ImageFiles):
                return bytes_digest(self._dataset.files[index].read_bytes())
            return image_digest(self[index][0] if image is None else image)
        except (OSError, ValueError):
            return None

    def check_records(
        self, records: Sequence[Record], by_label: bool, regions: Mapping[str, Any] | None
    ) -> None:
        """Checks that records are of these images, with their present regions and labels.

        Images beyond ``limit`` may have records. ``by_label``: the label is the target. Raises
        OutputError if an image is missing, or it, its region or its label has changed.
        """
        by_image = {record["image"]: record for record in records}
        if unknown := [name for name in by_image if name not in self._indices]:
            raise OutputError(
                f"the data set lacks {len(unknown)} of the {len(by_image)} images with records,"
                f" such as {unknown[0]}: use the same images, possibly with more, or use another"
                " folder"
            )
        for name, record in by_image.items():
            known, now = record.get("digest"), self.digest_of(name)
            region = region_digest(regions, name)
            target, label = record["target"], self._label(name) if by_label else None
            if known is not None and now is not None and known != now:
                change, what = f"{name} has changed", "image"
            elif now is not None and record.get("region", region) != region:
                change, what = f"the region of {name} has changed", "region"
            elif label is not None and label != target:
                change = f"the label of {name} has changed from {target} to {label}"
                what = "label"
            else:
                continue
            raise OutputError(
                f"{change} since its records were written. The numbers would not be comparable:"
                f" restore the {what}, or use another folder"
            )

    def _label(self, name: str) -> int | None:
        index = self._indices[name]
        if isinstance(self._dataset, ImageFiles):  # has it without reading the file
            return self._dataset.labels[index]
        try:
            return self[index][1]
        except ValueError:
            return None


def _how_to_pass(image: Tensor) -> str:
    if not image.is_floating_point():
        return "convert it as in training, such as image.float() / 255."
    if image.dim() == 4:
        return "return the images of a batch one by one, such as list(batch)."
    if image.dim() < 3:
        return "return image[None] if it is grayscale; for tables and sequences, use the metrics."
    return "return one image, without the batch dimension."


def _index(label: Any, index: int) -> int:
    try:
        return operator.index(label)
    except TypeError:
        raise TypeError(
            f"the label of dataset[{index}] must be the index of a class, got {label!r}. Pass an"
            " int, or no label."
        ) from None
