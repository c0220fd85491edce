"""Computes several metrics of the same maps; scores that they share are computed once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from captum_tgrad.metrics.engine.findings import Findings
from captum_tgrad.metrics.engine.metric import DECLARED
from captum_tgrad.metrics.engine.metric_call import MetricCall

_CALL_ARGUMENTS = inspect.signature(MetricCall).parameters.keys()


def together(
    metrics: Mapping[str, Mapping[str, Any]],
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Mapping[str, Tensor],
    **arguments: Any,
) -> tuple[dict[str, dict[str, Any]], Findings]:
    """Computes several metrics; inputs and masked inputs are scored once for all of them.

    ``metrics`` holds their names, and for each the arguments that not all metrics have. Returns the
    result of each metric for each method, and the findings, of which nobody was warned yet.
    """
    calls: dict[tuple[str, ...], MetricCall] = {}
    scores: dict[tuple[Any, ...], Any] = {}
    results = {}
    for name, own in metrics.items():
        declared = DECLARED[name]
        parameters = declared.signature.parameters
        # A metric without an argument, such as ``score``, keeps its default.
        shared = tuple(key for key in arguments if key in parameters)
        if shared not in calls:
            given = {key: arguments[key] for key in shared}
            calls[shared] = MetricCall(name, forward_func, inputs, attributions, **given)
        options = {
            key: own.get(key, parameter.default)
            for key, parameter in parameters.items()
            if key not in _CALL_ARGUMENTS
        }
        key = (shared, declared.run, *options.items())
        if key not in scores:
            scores[key] = declared.scores(calls[shared], **options)
        results[name] = dict(zip(attributions, declared.results(scores[key]), strict=True))
    findings = Findings()
    for call in calls.values():
        findings.found.update(call.findings.found)
    return results, findings
