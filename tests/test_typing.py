"""The package says what it returns: ``mypy --strict`` on a file of a user's has nothing to say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_types_that_a_user_sees():
    pytest.importorskip("mypy")
    options = [
        "--strict",
        "--config-file=",  # a user does not have ours
        "--follow-imports=silent",  # as in an installed package, our own lines are not judged
        f"--cache-dir={ROOT / '.mypy_cache' / 'typed_use'}",  # torch takes long the first time
    ]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, ROOT / "tests" / "typed_use.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout.startswith("Success"), checked.stdout + checked.stderr
