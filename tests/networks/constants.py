"""Operators with numbers, parameters and buffers, also in place."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.building_blocks import Chain, conv, head, layer
from tests.networks.operations import (
    Function,
    WithConstant,
    add_constant,
    concatenate_constant,
    scale_by_constant,
)
from tests.networks.tiny_network import WIDTH, TinyNetwork


def _set_first_channel(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 0.5
    return x


def _set_first_channel_in_place(m: nn.Module, x: Tensor) -> Tensor:
    x[:, 0] = 0.5
    return x


def _shift_first_channels(x: Tensor) -> Tensor:
    return torch.cat([x[:, :2] + 1, x[:, 2:]], dim=1)


def _shift_first_channels_in_place(m: nn.Module, x: Tensor) -> Tensor:
    x[:, :2].add_(1)
    return x


def _with_constant(function: Callable, *shape: int) -> Callable[[], nn.Module]:
    return lambda: WithConstant(function, shape or (1, WIDTH, 1, 1))


def _softplus_then(operation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Chain(positive=nn.Softplus(), divide=operation())


NETWORKS = [
    layer(
        "plus_parameter",
        lambda: add_constant((1, WIDTH, 6, 5)),
        lambda m, x: x + m.constant,
    ),
    layer(
        "plus_buffer",
        lambda: add_constant((1, WIDTH, 1, 1), trainable=False),
        lambda m, x: torch.add(m.constant, x),
    ),
    layer("plus_number", lambda: Function(lambda x: x + 1), lambda m, x: x.add_(1)),
    layer(
        "plus_scaled_parameter",
        _with_constant(lambda x, c: x - 2 * c),
        lambda m, x: torch.sub(x, m.constant, alpha=2),
    ),
    layer(
        "in_place_plus_parameter",
        lambda: add_constant((WIDTH, 1, 1)),
        lambda m, x: x.__iadd__(m.constant),
    ),
    layer(
        "parameter_minus",
        _with_constant(lambda x, c: c - x),
        lambda m, x: m.constant - x,
    ),
    layer("number_minus", lambda: Function(lambda x: 1 - x), lambda m, x: 1 - x),
    layer(
        "parameter_over",
        _softplus_then(_with_constant(lambda x, c: c / x)),
        lambda m, x: m.divide.constant / F.softplus(x),
    ),
    layer(
        "number_over",
        _softplus_then(lambda: Function(lambda x: 2 / x)),
        lambda m, x: 2 / F.softplus(x),
    ),
    layer(
        "times_parameter",
        lambda: scale_by_constant((1, WIDTH, 1, 1)),
        lambda m, x: x.mul_(m.constant),
    ),
    layer(
        "concatenate_parameter",
        lambda: concatenate_constant((1, 2, 6, 5)),
        lambda m, x: torch.cat([x, m.constant.expand(len(x), -1, -1, -1)], 1),
        channels=WIDTH + 2,
    ),
    layer(
        "where_parameter",
        _with_constant(lambda x, c: torch.where(x > 0.2, x, c)),
        lambda m, x: torch.where(x > 0.2, x, m.constant),
    ),
    layer(
        "maximum_with_parameter",
        _with_constant(torch.maximum),
        lambda m, x: torch.maximum(x, m.constant),
    ),
    layer(
        "masked_fill",
        lambda: Function(lambda x: x.masked_fill(x < -0.2, 0.3)),
        lambda m, x: x.masked_fill_(x < -0.2, 0.3),
    ),
    layer(
        "set_item",
        lambda: Function(_set_first_channel),
        _set_first_channel_in_place,
    ),
    layer(
        "in_place_on_a_view",
        lambda: Function(_shift_first_channels),
        _shift_first_channels_in_place,
    ),
    layer(
        "in_place_arithmetic",
        lambda: Chain(
            shift=Function(lambda x: x - 0.5),
            scale=Function(lambda x: x / 0.25),
            shift_back=Function(lambda x: x + 3),
        ),
        lambda m, x: x.sub_(0.5).div_(0.25).add_(3),
    ),
    TinyNetwork(
        "normalized_input",
        lambda: Chain(
            mean=WithConstant(lambda x, c: x - c, (3, 1, 1), trainable=False),
            deviation=WithConstant(lambda x, c: x / c, (3, 1, 1), trainable=False),
            conv=conv(),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=lambda m, x: m.head(torch.relu(m.conv((x - m.mean.constant) / m.deviation.constant))),
    ),
]
