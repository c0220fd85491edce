"""Eight threads on one model: each its own right result, and nothing of the process is changed."""

import threading
import warnings
from functools import partial

import pytest
import torch

from captum_tgrad import FullGradAttribution, TGradAttribution
from tests.alive import tensors_left_by
from tests.global_settings import global_settings
from tests.networks import FAMILIES, each_network

THREADS = 8


def _in_threads(work):
    errors = []

    def run():
        try:
            work()
        except BaseException as error:  # shown by the test
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("calls", [2, pytest.param(100, marks=pytest.mark.slow)])
@each_network
def test_each_thread_has_its_own_right_result(tiny, calls):
    method = TGradAttribution(tiny.build())
    inputs = tiny.inputs if len(tiny.inputs) > 1 else tiny.inputs[0]
    expected = method.decompose(inputs, tiny.target)
    before = global_settings()

    def work():
        for _ in range(calls):
            whole = method.decompose(inputs, tiny.target)
            assert [term.name for term in whole.terms] == [term.name for term in expected.terms]
            for term, other in zip(whole.terms, expected.terms, strict=True):
                torch.testing.assert_close(term.score, other.score, rtol=1e-9, atol=1e-9)
                torch.testing.assert_close(term.positive, other.positive, rtol=1e-9, atol=1e-9)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _in_threads(work)
    assert global_settings() == before


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.split(".")[-1])
def test_what_a_call_held_is_gone_without_garbage_collection(family):
    calls = [
        partial(method(tiny.build()).attribute, tiny.inputs, tiny.target)
        for tiny in family.NETWORKS
        for method in (TGradAttribution, FullGradAttribution)
    ]
    assert tensors_left_by(lambda: [call() for call in calls]) == []
