"""Everything of captum's that is private to captum: this file alone changes when captum does."""

from __future__ import annotations

from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
)
from captum._utils.common import _format_output as format_output
from captum._utils.common import _format_tensor_into_tuples as format_tensor_into_tuples
from captum._utils.common import _is_tuple as is_tuple
from captum._utils.common import _select_targets as select_targets
from captum._utils.gradient import (
    _forward_layer_distributed_eval as forward_layer_distributed_eval,
)
from captum._utils.progress import NullProgress, progress
from captum._utils.typing import TargetType, TensorOrTupleOfTensorsGeneric
from captum.attr._utils.attribution import (
    Attribution,
    GradientAttribution,
    LayerAttribution,
)
from captum.log import log_usage

__all__ = [
    "Attribution",
    "GradientAttribution",
    "LayerAttribution",
    "NullProgress",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "format_additional_forward_args",
    "format_output",
    "format_tensor_into_tuples",
    "forward_layer_distributed_eval",
    "is_tuple",
    "log_usage",
    "progress",
    "select_targets",
]
