"""Which image goes into which files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from captum_tgrad._support.writing import check_folder
from captum_tgrad.evaluation.image_files import images_among
from captum_tgrad.zoo.images import check_image, load_image, sample_image

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLE_STEM = "coffee"


@dataclass(frozen=True)
class Job:
    """An image to explain, and where its results go.

    Attributes:
        picture: Its file; None for the built-in sample.
        figure_path: For the figure, ending in ``.png``.
        map_path: For the map, ending in ``.npy``.
        layers_path: For the figure of the terms by layer, ending in ``-layers.png``; or None.
        page_path: For the page to walk through, ending in ``.html``; or None.
    """

    picture: Path | None
    figure_path: Path
    map_path: Path
    layers_path: Path | None = None
    page_path: Path | None = None

    @property
    def title(self) -> str:
        """What the report is headed by."""
        return title_of(self.picture)

    @property
    def results(self) -> str:
        """Where the results are, for the end of the report."""
        *first, last = map(str, self.paths)
        return f"  written: {', '.join(first)} and {last}"

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files to be written."""
        further = filter(None, (self.layers_path, self.page_path))
        return (self.figure_path, self.map_path, *further)

    def load(self) -> Image:
        """Reads the image; raises as ``load_image`` and ``sample_image``."""
        return load_or_sample(self.picture)


def readable(pictures: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """The images among files and in folders, and why others cannot be read.

    Args:
        pictures: Files, or folders, of which the images directly in them are taken.

    Raises:
        FileNotFoundError: No image is there.
        ValueError: None can be read, or a folder holds none.
    """
    files: list[Path] = []
    for picture in pictures:
        if not picture.is_dir():
            files.append(picture)
            continue
        inside = images_among(picture.iterdir())
        if not inside:
            raise ValueError(f"there is no image in {picture}: name another folder, or files")
        files += inside
    found, skipped = [], {}
    for file in dict.fromkeys(files):
        try:
            check_image(file)
            found.append(file)
        except (OSError, ValueError) as error:
            if len(set(files)) == 1:
                raise
            skipped[file] = str(error)
    if skipped and not found:
        raise ValueError(next(iter(skipped.values())))
    return found, skipped


def plan_jobs(
    pictures: Sequence[Path], out: Path, layers: bool = False, page: bool = False
) -> list[Job]:
    """Gives each image files of its own.

    Args:
        pictures: None at all means the built-in sample.
        out: The folder for the results, made later if it is not there.
        layers: Whether there is to be a figure of the terms by layer.
        page: Whether there is to be a page to walk through.

    Returns:
        A job for each image, in their order. Where a file of the second would have the name of
        one of the first, as with equal stems, it gets ``STEM-2``.

    Raises:
        FileNotFoundError: An image is not there.
        ValueError: A file is not an image, ``out`` is a file, or a result would take the place of
            an image.
    """
    each: Sequence[Path | None] = pictures or [None]
    stems = _distinct_stems(
        [_SAMPLE_STEM if picture is None else picture.stem for picture in each],
        (".png", ".npy", *["-layers.png"] * layers, *[".html"] * page),
    )
    jobs = [
        Job(
            picture,
            out / f"{stem}.png",
            out / f"{stem}.npy",
            out / f"{stem}-layers.png" if layers else None,
            out / f"{stem}.html" if page else None,
        )
        for picture, stem in zip(each, stems, strict=True)
    ]
    check_files(pictures, out, [path for job in jobs for path in job.paths])
    return jobs


def check_files(pictures: Sequence[Path], out: Path, results: Sequence[Path] = ()) -> None:
    """Makes sure that images can be read, and that writing the results harms nothing.

    Raises:
        FileNotFoundError: An image is not there.
        ValueError: A file is not an image, ``out`` is a file, or a result would take the place of
            an image.
    """
    for picture in pictures:
        check_image(picture)
    check_folder(out, "--out")
    sources = {picture.resolve() for picture in pictures}
    for result in results:
        if result.resolve() in sources:
            raise ValueError(
                f"the figure {result} would take the place of an image: name another --out"
            )


def load_or_sample(picture: Path | None) -> Image:
    """Reads an image, or the built-in sample; raises as ``load_image`` and ``sample_image``."""
    return sample_image() if picture is None else load_image(picture)


def title_of(picture: Path | None) -> str:
    """What an image is called."""
    return "coffee (the built-in sample)" if picture is None else str(picture)


def _distinct_stems(stems: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """Numbers stems whose files would be others' too.

    So would names that differ in case only: some disks see no difference.
    """

    def files(stem: str) -> set[str]:
        return {f"{stem}{suffix}".casefold() for suffix in suffixes}

    taken = {"report.html"}
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
