"""What a metric is to a type checker: one result for one method, a dict of them for several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from torch import Tensor

from captum_tgrad._support.captum_private import log_usage
from captum_tgrad.metrics.engine.arguments import Attributions

Options = ParamSpec("Options")
Result = TypeVar("Result")


class Metric(Protocol[Options, Result]):
    """A function whose result depends on whether ``attributions`` are of one method or of several.

    It takes whatever further arguments the function takes that ``metric`` is put on.
    """

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


def metric(
    function: Callable[
        Concatenate[
            Callable[..., Any],
            Tensor | tuple[Tensor, ...],
            Attributions | Mapping[str, Attributions],
            Options,
        ],
        Result | dict[str, Result],
    ],
) -> Metric[Options, Result]:
    """Captum's ``log_usage``, and what a type checker should know of the function."""
    return cast("Metric[Options, Result]", log_usage(function))
