"""What the tests of recorded and replayed calls share."""

import pytest

from captum_tgrad.decomposition.tracing.trace import Trace


@pytest.fixture
def recorded(monkeypatch):
    """A list that gets an entry for every forward pass that is recorded."""
    passes, follow = [], Trace.follow

    def noted(self, leaves):
        passes.append(self)
        return follow(self, leaves)

    monkeypatch.setattr(Trace, "follow", noted)
    return passes
