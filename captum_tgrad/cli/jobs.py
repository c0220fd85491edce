"""Which picture goes into which files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captum_tgrad.zoo.images import check_image, load_image, sample_image

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLE_STEM = "coffee"


@dataclass(frozen=True)
class Job:
    """A picture to explain, and where its results go.

    Attributes:
        picture: Its file; None for the built-in sample.
        figure_path: For the figure, ending in ``.png``.
        map_path: For the map, ending in ``.npy``.
        layers_path: For the figure of the terms by layer, ending in ``-layers.png``; or None.
    """

    picture: Path | None
    figure_path: Path
    map_path: Path
    layers_path: Path | None = None

    @property
    def title(self) -> str:
        """What the report is headed by."""
        return "coffee (the built-in sample)" if self.picture is None else str(self.picture)

    @property
    def results(self) -> str:
        """Where the results are, for the end of the report."""
        return f"  written: {' and '.join(map(str, self.paths))}"

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files to be written."""
        further = () if self.layers_path is None else (self.layers_path,)
        return (self.figure_path, self.map_path, *further)

    def load(self) -> Image:
        """Reads the picture; raises as ``load_image`` and ``sample_image``."""
        return sample_image() if self.picture is None else load_image(self.picture)


def plan_jobs(pictures: Sequence[Path], out: Path, layers: bool = False) -> list[Job]:
    """Gives each picture files of its own.

    Args:
        pictures: None at all means the built-in sample.
        out: The folder for the results, made later if it is not there.
        layers: Whether there is to be a figure of the terms by layer.

    Returns:
        A job for each picture, in their order. Where two have the same stem, the second gets
        ``STEM-2``.

    Raises:
        FileNotFoundError: A picture is not there.
        ValueError: A file is not a picture, ``out`` is a file, or a result would take the place of
            a picture.
    """
    for picture in pictures:
        check_image(picture)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: name a folder, there or not yet")
    if not pictures:
        return [_job(None, out, _SAMPLE_STEM, layers)]
    stems = _distinct_stems([picture.stem for picture in pictures])
    jobs = [_job(picture, out, stem, layers) for picture, stem in zip(pictures, stems, strict=True)]
    sources = {picture.resolve() for picture in pictures}
    for job in jobs:
        taken = [path for path in job.paths if path.resolve() in sources]
        if taken:
            raise ValueError(
                f"the figure {taken[0]} would take the place of a picture: name"
                " another --out"
            )
    return jobs


def _job(picture: Path | None, out: Path, stem: str, layers: bool) -> Job:
    return Job(
        picture,
        figure_path=out / f"{stem}.png",
        map_path=out / f"{stem}.npy",
        layers_path=out / f"{stem}-layers.png" if layers else None,
    )


def _distinct_stems(stems: Sequence[str]) -> list[str]:
    """Numbers repeated stems, also those that differ in case only: some disks see no difference."""
    taken: set[str] = set()
    reserved = {stem.casefold() for stem in stems}
    distinct = []
    for stem in stems:
        candidate, number = stem, 1
        while candidate.casefold() in taken or (number > 1 and candidate.casefold() in reserved):
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(candidate.casefold())
        distinct.append(candidate)
    return distinct
