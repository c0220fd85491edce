"""What every test shares."""

import pytest
import torch
from matplotlib.figure import Figure

# The tests run in several processes: more threads than cores only get in each other's way.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    """Random inputs do not depend on the tests that ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def width_of_a_terminal(monkeypatch):
    """Commands print the same wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are not rendered, which takes most of the time of a run that writes files."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: file.write(b"a figure"))
