"""Checks that records belong to the images, regions and labels that the data set has now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from captum_tgrad.evaluation.running.localization import region_digest
from captum_tgrad.evaluation.samples import Samples
from captum_tgrad.evaluation.storage.files import OutputError
from captum_tgrad.evaluation.storage.records import Record


def check_images(
    records: Sequence[Record],
    samples: Samples,
    by_label: bool,
    regions: Mapping[str, Any] | None,
) -> None:
    """Raises OutputError if an image, its region, or the label that is its target has changed.

    All images of the records must be in the data set, also beyond the limit of ``samples``.
    """
    by_image = {record["image"]: record for record in records}
    if unknown := [image for image in by_image if not samples.has(image)]:
        raise OutputError(
            f"the data set lacks {len(unknown)} of the {len(by_image)} images with records, such as"
            f" {unknown[0]}: use the same images, possibly with more, or use another folder"
        )
    for image, record in by_image.items():
        known, now = record.get("digest"), samples.digest_of(image)
        if known is not None and now is not None and known != now:
            raise OutputError(
                f"{image} has changed since its records were written. The numbers would not be"
                " comparable: restore the image, or use another folder"
            )
        has_region = now is not None and "region" in record
        if has_region and record["region"] != region_digest(regions, image):
            raise OutputError(
                f"the region of {image} has changed since its records were written. The numbers"
                " would not be comparable: restore the region, or use another folder"
            )
        target, label = record["target"], samples.label(image) if by_label else None
        if label is not None and label != target:
            raise OutputError(
                f"existing records used other labels: that of {image} was {target}, is {label}. The"
                " numbers would not be comparable: use the earlier labels, or use another folder"
            )
