"""The output files of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from captum_tgrad._support.writing import check_folder
from captum_tgrad.evaluation.image_files import images_among
from captum_tgrad.evaluation.storage.files import REPORT, check_owner
from captum_tgrad.zoo.images import check_image, load_image, sample_image

_SAMPLE_STEM = "coffee"


@dataclass(frozen=True)
class Job:
    """An image to explain, and its output files."""

    picture: Path | None  # None: the built-in sample
    stem: Path  # of the output files
    endings: tuple[str, ...]  # .png and .npy; if requested, also -layers.png and .html

    @property
    def title(self) -> str:
        """The heading of the report."""
        return image_title(self.picture)

    @property
    def paths(self) -> list[Path]:
        """All output files."""
        return [Path(f"{self.stem}{ending}") for ending in self.endings]

    @property
    def results(self) -> str:
        """The last line of the report, with the output files and which of them exist already."""
        *first, last = (f"{path}{' (replaced)' * path.exists()}" for path in self.paths)
        return f"  written: {', '.join(first)} and {last}"


def readable(pictures: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """The images among files and at the top level of folders, and why others cannot be read.

    Raises FileNotFoundError or ValueError if no image can be read, or a folder holds none.
    """
    files: list[Path] = []
    for picture in pictures:
        files += images_among(picture, picture.iterdir()) if picture.is_dir() else [picture]
    found, skipped = [], {}
    for file in dict.fromkeys(files):
        try:
            check_image(file)
            found.append(file)
        except (OSError, ValueError) as error:
            skipped[file] = str(error)
    if skipped and not found:
        raise ValueError(next(iter(skipped.values())))
    return found, skipped


def plan_jobs(
    pictures: Sequence[Path], out: Path, layers: bool = False, page: bool = False
) -> list[Job]:
    """A job for each image, or for the built-in sample if there are none.

    If file names would collide, as with equal stems, the second image gets ``STEM-2``. Raises as
    ``check_files``.
    """
    each: Sequence[Path | None] = pictures or [None]
    endings = (".png", ".npy", *["-layers.png"] * layers, *[".html"] * page)
    stems = _distinct_stems(
        [_SAMPLE_STEM if picture is None else picture.stem for picture in each], endings
    )
    jobs = [Job(picture, out / stem, endings) for picture, stem in zip(each, stems, strict=True)]
    names = [REPORT, *(path.name for job in jobs for path in job.paths)]
    check_files("explain", pictures, out, names)
    return jobs


def check_files(command: str, pictures: Sequence[Path], out: Path, names: Sequence[str]) -> None:
    """Checks that images can be read, and that a command may write files of these names to ``out``.

    Raises as ``check_image``, ``check_folder`` and ``check_owner``, and ValueError if a file would
    replace an image.
    """
    for picture in pictures:
        check_image(picture)
    check_folder(out, "--out")
    sources = {picture.resolve() for picture in pictures}
    for name in names:
        if (out / name).resolve() in sources:
            raise ValueError(f"the figure {out / name} would overwrite an image: use another --out")
    check_owner(out, command, names)


def load_or_sample(picture: Path | None) -> Image:
    """Reads an image, or the built-in sample; raises as ``load_image`` and ``sample_image``."""
    return sample_image() if picture is None else load_image(picture)


def image_title(picture: Path | None) -> str:
    """The title of an image."""
    return "coffee (the built-in sample)" if picture is None else str(picture)


def _distinct_stems(stems: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """Numbers stems whose output files would collide.

    Names that differ in case only count as equal, for case-insensitive file systems.
    """

    def files(stem: str) -> set[str]:
        return {f"{stem}{suffix}".casefold() for suffix in suffixes}

    taken = {REPORT}
    reserved = set[str]().union(*map(files, stems))
    distinct = []
    for stem in stems:
        candidate, number = stem, 1
        while files(candidate) & taken or (number > 1 and files(candidate) & reserved):
            number += 1
            candidate = f"{stem}-{number}"
        taken |= files(candidate)
        distinct.append(candidate)
    return distinct
