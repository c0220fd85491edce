import math

import pytest


@pytest.fixture(autouse=True)
def _as_many_warm_ups_on_every_machine(monkeypatch):
    # A slow method is warmed up less: how often it is called would depend on the machine.
    monkeypatch.setattr("captum_tgrad.evaluation.running.timed_method._LONG", math.inf)
