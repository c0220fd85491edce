"""The labels of image files: those of their folders, or of a CSV file."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from captum_tgrad.zoo.class_names import resolve_target
from captum_tgrad.zoo.classifier import Classifier


def folder_labels(folder: Path, files: Sequence[Path], classifier: Classifier) -> list[int | None]:
    """The class that the top folder of each image is named after; None for other folders."""
    of_files = [file.relative_to(folder).parts[0] for file in files]
    folders = sorted(set(of_files))
    index = {name: _class_of(name, classifier) for name in folders}
    numbers = [name for name in folders if name.isdecimal()]
    if any(index[name] is None for name in numbers):
        # They count from 1, or are not class indices.
        index.update(dict.fromkeys(numbers))
    none_is_named = all(label is None for label in index.values())
    # False if "10" comes before "2".
    in_order = numbers == sorted(numbers, key=int)
    if none_is_named and in_order and len(folders) == len(classifier.class_names):
        index = {name: position for position, name in enumerate(folders)}
    return [index[name] for name in of_files]


def _class_of(name: str, classifier: Classifier) -> int | None:
    try:
        return resolve_target(name, classifier.class_names)
    except ValueError:
        return None


def listed_labels(
    folder: Path, files: Sequence[Path], path: Path, classifier: Classifier
) -> list[int | None]:
    """The labels that a CSV file has for the images."""
    if not path.is_file():
        raise FileNotFoundError(f"labels {path} not found: pass a CSV file")
    labels: dict[str, int] = {}
    known = {composed(file.as_posix()) for file in files}

    def name_of(row: list[str]) -> str:
        return composed((folder / row[0].strip()).as_posix())

    def is_entry(row: list[str]) -> bool:
        return name_of(row) in known or len(row) < 2 or _class_of(row[1], classifier) is not None

    # Bytes of file names that are not UTF-8 are decoded as in Python's own file names.
    for line, row in csv_rows(path, is_entry, errors="surrogateescape"):
        name = name_of(row)
        if name not in known and any("\ud800" <= letter <= "\udfff" for letter in "".join(row)):
            raise ValueError(
                f"{path} is not a CSV file in UTF-8: line {line} has other characters, and matches"
                f" no image in {folder}. Save it in UTF-8"
            )
        if len(row) < 2:
            raise ValueError(
                f"{path}, line {line}, has {','.join(row)!r}: write an image and its class,"
                " separated by a comma"
            )
        try:
            label = resolve_target(row[1], classifier.class_names)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from error
        if labels.setdefault(name, label) != label:
            raise ValueError(
                f"{path}, line {line}: {row[0].strip()} has the class {label} here, but"
                f" {labels[name]} on a line above: keep one of them"
            )
    if not labels.keys() & known:
        raise ValueError(f"{path} lists no image in {folder}: write paths relative to it")
    return [labels.get(composed(file.as_posix())) for file in files]


def csv_rows(
    path: Path, is_entry: Callable[[list[str]], bool], errors: str = "strict"
) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of its line, from 1.

    A first row that is no entry is a header, and is left out. Raises ValueError unless it is a CSV
    file in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors=errors) as opened:
            reader = csv.reader(opened)
            rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    return rows[1:] if rows and not is_entry(rows[0][1]) else rows


def composed(path: str) -> str:
    """A path with composed accents (NFC), since file systems store names in either form."""
    return unicodedata.normalize("NFC", path)
