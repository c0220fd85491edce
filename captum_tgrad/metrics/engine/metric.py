"""Declares a metric from its signature, its documentation, a computation and a result type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from torch import Tensor

from captum_tgrad._support.captum_private import log_usage
from captum_tgrad.metrics.engine.checks import by_name
from captum_tgrad.metrics.engine.findings import Findings
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
        name: The name of the metric.
        call_type: As given to ``bound``.
        run: As given to ``metric``.
        result: As given to ``metric``.
        signature: The signature of the metric.
    """

    name: str
    call_type: Callable[..., Any]
    run: Callable[..., Sequence[Any]]
    result: Callable[[Any], Any]
    signature: inspect.Signature

    def evaluate(self, *args: Any, **kwargs: Any) -> tuple[Any, Findings]:
        """The result of the metric, and the findings without warnings."""
        try:
            arguments = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        arguments.apply_defaults()
        call = self.call_type(self.name, **arguments.arguments)
        results = [self.result(found) for found in self.run(call, **call.options)]
        return by_name(arguments.arguments["attributions"], results), call.findings


DECLARED: dict[str, Declared] = {}
"""All metrics by name."""

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
        return cast("Metric[Options, Result]", bound(declaration, MetricCall, run, result))

    return decorate


def bound(
    declaration: Callable[..., Any],
    call_type: Callable[..., Any],
    run: Callable[..., Sequence[Any]],
    result: Callable[[Any], Any],
) -> Callable[..., Any]:
    """A function with the signature of ``declaration`` that runs a metric.

    Args:
        declaration: A function with a signature and a docstring.
        call_type: Accepts the name of the metric and all its arguments, and has ``options`` (those
            for ``run``) and ``findings``.
        run: As for ``metric``.
        result: As for ``metric``.
    """
    signature = inspect.signature(declaration)
    declared = Declared(declaration.__name__, call_type, run, result, signature)
    DECLARED[declared.name] = declared

    @wraps(declaration)
    def function(*args: Any, **kwargs: Any) -> Any:
        results, findings = declared.evaluate(*args, **kwargs)
        findings.warn()
        return results

    returned = inspect.signature(result, eval_str=False).return_annotation
    annotation = f"{returned} | dict[str, {returned}]"
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation=annotation
    )
    function.__annotations__ = {**function.__annotations__, "return": annotation}
    return log_usage(function)


def same_arguments(
    other: Metric[Options, Any],
) -> Callable[[Callable[..., Any]], Declaration[Options]]:
    """Gives a declaration the signature of another metric."""

    def decorate(declaration: Callable[..., Any]) -> Declaration[Options]:
        declaration.__signature__ = inspect.signature(other)  # type: ignore[attr-defined]
        declaration.__annotations__ = dict(getattr(other, "__annotations__", {}))
        return declaration

    return decorate
