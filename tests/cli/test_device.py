"""Devices that are here are found, and others refused."""

import pytest
import torch

from captum_tgrad.cli.resolve import choose_device


def test_choose_device_finds_what_is_here():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta", ""])
def test_choose_device_refuses_what_is_not(name):
    with pytest.raises(ValueError, match=f"device '{name}' is not available: try cpu"):
        choose_device(name)
