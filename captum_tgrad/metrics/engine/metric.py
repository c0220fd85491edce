"""Declares a metric from its signature, its documentation, a computation and a result type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from torch import Tensor

from captum_tgrad._support.captum_private import log_usage
from captum_tgrad.metrics.engine.methods import by_name
from captum_tgrad.metrics.engine.metric_call import Attributions, MetricCall

Options = ParamSpec("Options")
Found = TypeVar("Found")
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
    """A declared metric.

    Attributes:
        run: As given to ``metric``.
        result: As given to ``metric``.
        signature: The signature of the metric.
    """

    run: Callable[..., Sequence[Any]]
    result: Callable[[Any], Any]
    signature: inspect.Signature


DECLARED: dict[str, Declared] = {}
"""All declared metrics by name."""

Declaration = Callable[
    Concatenate[
        Callable[..., Any],
        Tensor | tuple[Tensor, ...],
        Attributions | Mapping[str, Attributions],
        Options,
    ],
    Any,
]


def metric(
    run: Callable[..., Sequence[Found]], result: Callable[[Found], Result]
) -> Callable[[Declaration[Options]], Metric[Options, Result]]:
    """Turns a function with a signature and a docstring, but no body, into a metric.

    Args:
        run: Receives the ``MetricCall`` and, by name, the arguments that not all metrics have.
            Returns its findings for each method, in the order of ``call.methods``.
        result: From the findings for one method to the result of the metric.
    """

    def decorate(declaration: Declaration[Options]) -> Metric[Options, Result]:
        name, signature = declaration.__name__, inspect.signature(declaration)
        DECLARED[name] = Declared(run, result, signature)

        @wraps(declaration)
        def function(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name}(): {error}") from None
            given.apply_defaults()
            call = MetricCall(name, **given.arguments)
            results = [result(found) for found in run(call, **call.options)]
            call.findings.warn()
            return by_name(given.arguments["attributions"], results)

        one = inspect.signature(result).return_annotation
        returned = f"{one} | dict[str, {one}]"
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            return_annotation=returned
        )
        function.__annotations__ = {**function.__annotations__, "return": returned}
        return cast("Metric[Options, Result]", log_usage(function))

    return decorate


def same_arguments(
    other: Metric[Options, Any],
) -> Callable[[Callable[..., Any]], Declaration[Options]]:
    """Gives a declaration the signature of another metric."""

    def decorate(declaration: Callable[..., Any]) -> Declaration[Options]:
        declaration.__signature__ = inspect.signature(other)  # type: ignore[attr-defined]
        declaration.__annotations__ = dict(getattr(other, "__annotations__", {}))
        return declaration

    return decorate
