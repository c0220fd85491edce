"""Declares metrics; computes one, or several that share scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad._support.untouched import untouched
from captum_tgrad.metrics.engine.findings import Findings
from captum_tgrad.metrics.engine.metric_call import Attributions, MetricCall, Scores

Options = ParamSpec("Options")
Result = TypeVar("Result")


class Metric(Protocol[Options, Result]):
    """A metric: one result for the attributions of one method, a dict of them for several."""

    @overload
    def __call__(
        self,
        forward_func: Callable[..., Any],
        inputs: Tensor | tuple[Tensor, ...],
        attributions: Attributions,
        *args: Options.args,
        **kwargs: Options.kwargs,
    ) -> Result: ...

    @overload
    def __call__(
        self,
        forward_func: Callable[..., Any],
        inputs: Tensor | tuple[Tensor, ...],
        attributions: Mapping[str, Attributions],
        *args: Options.args,
        **kwargs: Options.kwargs,
    ) -> dict[str, Result]: ...


@dataclass(frozen=True)
class Declared:
    """A declared metric: its name, its own arguments' defaults, and the arguments of ``metric``."""

    name: str
    defaults: dict[str, Any]
    run: Callable[..., Scores]
    result: Callable[..., Any]

    def scores(self, call: MetricCall, **options: Any) -> Scores:
        """What ``run`` returns; the model and the random state are left unchanged."""
        with untouched(call.forward_func, call.inputs[0].device):
            return self.run(call, **options)

    def results(self, call: MetricCall, scores: Scores) -> list[Any]:
        """The result of each method, from what ``scores`` returned for the call."""
        entries, of_methods = scores
        return [
            self.result(clean_score=call.clean, protocol=protocol_of(self.name, entries), **fields)
            for fields in of_methods
        ]


DECLARED: dict[str, Declared] = {}
"""All declared metrics by name."""

_CALL_ARGUMENTS = inspect.signature(MetricCall).parameters.keys()

_Inputs = Tensor | tuple[Tensor, ...]
_ByMethod = Attributions | Mapping[str, Attributions]
Declaration = Callable[Concatenate[Callable[..., Any], _Inputs, _ByMethod, Options], Any]


def metric(
    run: Callable[..., Scores], result: Callable[..., Result]
) -> Callable[[Declaration[Options]], Metric[Options, Result]]:
    """Turns a function with a signature and a docstring, but no body, into a metric.

    Args:
        run: Receives the ``MetricCall`` and, by name, the arguments that not all metrics have.
            Returns the entries of the protocol, and the arguments of ``result`` for each method, in
            the order of ``call.maps``, without ``clean_score`` and ``protocol``.
        result: The class of the result, or a function that returns it.
    """

    def decorate(declaration: Declaration[Options]) -> Metric[Options, Result]:
        name, known = declaration.__name__, inspect.signature(declaration).parameters.values()
        # Of the arguments that not all metrics have.
        defaults = {each.name: each.default for each in known if each.name not in _CALL_ARGUMENTS}
        own = DECLARED[name] = Declared(name, defaults, run, result)

        def compute(**arguments: Any) -> list[Result]:
            options = {key: arguments.pop(key) for key in defaults}
            call = MetricCall(name, **arguments)
            results: list[Result] = own.results(call, own.scores(call, **options))
            call.findings.warn()
            return results

        return cast("Metric[Options, Result]", declared(declaration, compute, result))

    return decorate


def declared(
    declaration: Callable[..., Any],
    compute: Callable[..., Sequence[Any]],
    result: Callable[..., Any],
) -> Callable[..., Any]:
    """A function of attributions with the signature and the docstring of a declaration.

    ``compute`` gets all arguments by name, and returns the result of each method.
    """
    signature = inspect.signature(declaration)

    @wraps(declaration)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{declaration.__name__}(): {error}") from None
        given.apply_defaults()
        return by_name(given.arguments["attributions"], compute(**given.arguments))

    is_class = isinstance(result, type)
    one = result.__name__ if is_class else inspect.signature(result).return_annotation
    returned = f"{one} | dict[str, {one}]"
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation=returned
    )
    function.__annotations__ = {**function.__annotations__, "return": returned}
    return function


def by_name(given: Any, results: Sequence[Result]) -> Result | dict[str, Result]:
    """The single result, or the results by name if the argument was a dict."""
    return dict(zip(given, results, strict=True)) if isinstance(given, Mapping) else results[0]


def same_arguments(
    other: Metric[Options, Any],
) -> Callable[[Callable[..., Any]], Declaration[Options]]:
    """Gives a declaration the signature of another metric."""

    def decorate(declaration: Callable[..., Any]) -> Declaration[Options]:
        declaration.__signature__ = inspect.signature(other)  # type: ignore[attr-defined]
        declaration.__annotations__ = dict(getattr(other, "__annotations__", {}))
        return declaration

    return decorate


def protocol_of(metric: str, entries: dict[str, Any]) -> dict[str, Any]:
    """The metric's name, its entries (plain strings, numbers, lists and dicts), and versions."""
    return {
        "metric": metric,
        **entries,
        "captum_tgrad": __version__,
        "torch": str(torch.__version__),
    }


def together(
    metrics: Mapping[str, Mapping[str, Any]],
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Mapping[str, Tensor],
    **arguments: Any,
) -> tuple[dict[str, dict[str, Any]], Findings]:
    """Computes several metrics; inputs and masked inputs are scored once for all of them.

    ``metrics`` holds their names, and for each the arguments that not all metrics have. Returns the
    result of each metric for each method, and the findings, without warning of them.
    """
    call = MetricCall("metrics", forward_func, inputs, attributions, **arguments)
    scores: dict[tuple[Any, ...], Scores] = {}
    results = {}
    for name, own in metrics.items():
        known = DECLARED[name]
        options = {**known.defaults, **own}
        key = (known.run, *options.items())
        if key not in scores:
            scores[key] = known.scores(call, **options)
        found = known.results(call, scores[key])
        results[name] = dict(zip(attributions, found, strict=True))
    return results, call.findings
