"""The settings of an evaluation: runs in one folder must have the same ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from captum_tgrad import __version__
from captum_tgrad._support.writing import as_json
from captum_tgrad.evaluation.storage.files import PROTOCOL_FILE, OutputError

Protocol = dict[str, Any]

CHECKSUMS = {
    "weights": "weights",
    "architecture": "architecture",
    "preprocessing": "preprocessing",
    "black": "black image",
    "regions": "regions of objects",
}
"""Entries that only show whether something has changed, with the name that reports use."""

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
    shared = [name for name in old[_METHODS] if name in new[_METHODS]]
    was, now = (
        flattened({**each, _METHODS: {name: each[_METHODS][name] for name in shared}})
        for each in (old, json.loads(as_json(new)))
    )
    changes = [
        f"{name} was {_shown(was, name)}, is {_shown(now, name)}"
        for name in dict.fromkeys([*was, *now])
        if _shown(was, name) != _shown(now, name) and (name in was or name not in _FURTHER)
    ]
    if changes:
        raise OutputError(
            f"existing records used other settings: {'; '.join(changes)}. The numbers would not be"
            " comparable: use the same settings, or use another folder"
        )
    return {**new, _METHODS: {**old[_METHODS], **new[_METHODS]}}


def flattened(protocol: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """The entries of a protocol, those of inner dicts as ``outer.inner``."""
    found: dict[str, Any] = {}
    for key, value in protocol.items():
        is_dict = isinstance(value, Mapping)
        found |= flattened(value, f"{within}{key}.") if is_dict else {f"{within}{key}": value}
    return found


def _shown(entries: Mapping[str, Any], name: str) -> str:
    return repr(entries[name]) if name in entries else "not set"
