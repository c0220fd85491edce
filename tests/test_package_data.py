"""What is no Python but belongs to the package is in what is installed."""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def test_every_file_of_the_package_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    installed = set()
    for package, patterns in settings["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            installed |= set((ROOT / package.replace(".", "/")).glob(pattern))
    files = (path for path in (ROOT / "captum_tgrad").rglob("*") if path.is_file())
    assert {path for path in files if path.suffix not in (".py", ".pyc")} == installed
