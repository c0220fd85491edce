"""Branches that are unused, constant or detached; layers that are called twice."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.building_blocks import Graph, conv, head
from tests.networks.operations import (
    Add,
    Detach,
    Divide,
    add_constant,
)
from tests.networks.tiny_network import WIDTH, TinyNetwork


def _called_twice(m: nn.Module, x: Tensor) -> Tensor:
    x = m.relu(m.shared(m.stem(x)))
    return m.head(m.relu(m.shared(x)))


def _called_twice_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    for _ in range(2):
        x = m.shared(x).relu_()
    return m.head(x)


def _unused_branch(m: nn.Module, x: Tensor) -> Tensor:
    x = m.relu(m.conv(x))
    m.auxiliary(x)
    return m.head(x)


def _constant_branch(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    constant = m.project(m.query.constant)
    return m.head(m.relu(m.add(constant, x)))


def _constant_branch_twin(m: nn.Module, x: Tensor) -> Tensor:
    query = m.query.constant
    return m.head(F.relu(m.conv(x) + torch.sigmoid(query) * query))


def _detached_branch(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    x = m.add(x, m.detach(m.side(x)))
    return m.head(m.relu(x))


def _detached_branch_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    with torch.no_grad():
        side = m.side(x)
    return m.head(torch.relu(x + side))


def _ratio(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(m.divide(m.conv1(x), m.softplus(m.conv2(x))))


def _ratio_twin(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(m.conv1(x).div_(F.softplus(m.conv2(x))))


NETWORKS = [
    TinyNetwork(
        "called_twice",
        lambda: Graph(
            _called_twice,
            stem=conv(),
            shared=conv(WIDTH),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=_called_twice_twin,
    ),
    TinyNetwork(
        "activation_called_three_times",
        lambda: Graph(
            lambda m, x: m.head(m.act(m.conv2(m.act(m.conv1(m.act(x)))))),
            conv1=conv(),
            conv2=conv(WIDTH),
            act=nn.SiLU(),
            head=head(),
        ),
        twin=lambda m, x: m.head(F.silu(m.conv2(F.silu(m.conv1(F.silu(x)))))),
    ),
    TinyNetwork(
        "unused_branch",
        lambda: Graph(
            _unused_branch,
            conv=conv(),
            relu=nn.ReLU(),
            auxiliary=conv(WIDTH),
            head=head(),
        ),
    ),
    TinyNetwork(
        "constant_branch",
        lambda: Graph(
            _constant_branch,
            conv=conv(),
            query=add_constant((1, WIDTH, 1, 1)),
            project=nn.SiLU(),
            add=Add(),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=_constant_branch_twin,
    ),
    TinyNetwork(
        "detached_branch",
        lambda: Graph(
            _detached_branch,
            conv=conv(),
            side=conv(WIDTH),
            detach=Detach(),
            add=Add(),
            relu=nn.ReLU(),
            head=head(),
        ),
        twin=_detached_branch_twin,
    ),
    TinyNetwork(
        "ratio",
        lambda: Graph(
            _ratio,
            conv1=conv(),
            conv2=conv(),
            softplus=nn.Softplus(),
            divide=Divide(),
            head=head(),
        ),
        twin=_ratio_twin,
    ),
]
