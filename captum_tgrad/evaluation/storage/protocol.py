"""The settings of an evaluation, kept with its records, so that they are not mixed with others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from captum_tgrad import __version__
from captum_tgrad.evaluation.storage.files import OutputError

Protocol = dict[str, Any]

PROTOCOL_FILE = "protocol.json"
_METHODS = "methods"
# Entries that protocols of earlier versions lack.
_FURTHER = ("architecture", "preprocessing")


def versions() -> dict[str, str]:
    """The versions of the packages that compute the numbers."""
    found = {"captum_tgrad": __version__, "torch": str(torch.__version__)}
    for package in ("captum", "grad-cam"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_protocol(folder: Path) -> Protocol | None:
    """The protocol of the records in a folder, or None; raises OutputError if it is damaged."""
    path = folder / PROTOCOL_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{path} is damaged ({error}): use another folder") from error
    if not isinstance(found, dict):
        raise OutputError(f"{path} is not a protocol: use another folder")
    return found


def joined(old: Protocol, new: Protocol) -> Protocol:
    """The protocol of a run that resumes another one, perhaps with more methods.

    Raises OutputError, which names every difference, if they differ in anything else.
    """
    changes = list(_changes(old, json.loads(json.dumps(new)), ""))
    if changes:
        raise OutputError(
            f"existing records used other settings: {'; '.join(changes)}. The numbers would not be"
            " comparable: use the same settings, or use another folder"
        )
    return {**new, _METHODS: {**old[_METHODS], **new[_METHODS]}}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], within: str) -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        name = f"{within}{key}"
        if name in _FURTHER and key not in old:
            continue
        one_has_it = key not in old or key not in new
        if one_has_it and within == f"{_METHODS}.":
            continue
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            yield from _changes(old[key], new[key], f"{name}.")
        elif one_has_it or old[key] != new[key]:
            was, now = (repr(each[key]) if key in each else "not set" for each in (old, new))
            yield f"{name} was {was}, is {now}"
