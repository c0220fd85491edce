"""Every promise of SECURITY.md has tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    row.strip("|").split(" | ")
    for row in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    if row.startswith("| ") and "promise | tests" not in row
]


def test_there_are_promises():
    assert len(ROWS) >= 10


@pytest.mark.parametrize(("promise", "tests"), ROWS, ids=[row[0].strip()[:40] for row in ROWS])
def test_a_promise_has_tests(promise, tests):
    files = re.findall(r"`(tests/[a-z_/]+\.py)`", tests)
    assert files, promise
    for file in files:
        assert re.search(r"^def test_", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_versions_that_run_code_from_weights_are_not_supported():
    """CVE-2025-32434: before torch 2.6, weights_only=True did not keep what it promised."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'"torch>=(\d+)\.(\d+)', text)
    assert tuple(map(int, oldest)) >= (2, 6)


def test_the_oldest_versions_that_are_tested_are_those_that_are_named():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (tested,) = re.findall(r"^OLDEST = (.*)$", makefile, re.MULTILINE)
    for package in ("torch", "torchvision", "captum"):
        (named,) = re.findall(rf'"{package}>=([\d.]+)"', project)
        assert f"{package}=={named}" in f"{tested} ", package
    assert f"python{re.findall(r'requires-python = .>=([0-9.]+)', project)[0]}" in makefile
