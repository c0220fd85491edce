"""What is imported, and when."""

import subprocess
import sys
from importlib import import_module

import pytest


def test_importing_the_metrics_imports_neither_torchvision_nor_torchmetrics():
    code = (
        "import sys; before = set(sys.modules); import captum.attr;"
        "captums = set(sys.modules); import captum_tgrad.metrics;"
        "new = {name.split('.')[0] for name in set(sys.modules) - captums};"
        "print(sorted(new & {'torchvision', 'torchmetrics', 'matplotlib', 'scipy', 'skimage'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_torchmetrics_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "captum_tgrad.metrics.torchmetrics", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[metrics\]"'):
        import_module("captum_tgrad.metrics.torchmetrics")
