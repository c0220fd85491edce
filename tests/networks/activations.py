"""Activation functions, as modules and as functions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.building_blocks import Chain, Graph, conv, head
from tests.networks.operations import (
    Function,
    Multiply,
)
from tests.networks.tiny_network import WIDTH, TinyNetwork


def activation(
    name: str,
    module: Callable[[], nn.Module],
    function: Callable[[nn.Module, Tensor], Tensor] | None = None,
    scale: float = 1.0,
) -> TinyNetwork:
    """Convolution, activation, convolution, the activation again, a head."""

    def twin(network: nn.Module, x: Tensor) -> Tensor:
        x = function(network.first, network.conv1(x))
        return network.head(function(network.second, network.conv2(x)))

    return TinyNetwork(
        name,
        lambda: Chain(
            conv1=conv(),
            first=module(),
            conv2=conv(WIDTH),
            second=module(),
            head=head(),
        ),
        twin=None if function is None else twin,
        transform=lambda x: scale * x,
    )


NETWORKS = [
    activation("relu", nn.ReLU, lambda m, x: torch.relu(x)),
    activation(
        "relu_in_place",
        lambda: nn.ReLU(inplace=True),
        lambda m, x: F.relu(x, inplace=True),
    ),
    activation("relu_method", nn.ReLU, lambda m, x: x.relu_()),
    activation("relu_clamp", nn.ReLU, lambda m, x: x.clamp(min=0)),
    activation("relu6", lambda: nn.ReLU6(inplace=True), lambda m, x: F.relu6(x), scale=8),
    activation("relu6_clamp", nn.ReLU6, lambda m, x: torch.clamp_(x, 0.0, 6.0), scale=8),
    activation(
        "hardtanh",
        lambda: nn.Hardtanh(-1.0, 2.0),
        lambda m, x: F.hardtanh(x, -1.0, 2.0, inplace=True),
        scale=2,
    ),
    activation(
        "hardsigmoid",
        lambda: nn.Hardsigmoid(inplace=True),
        lambda m, x: F.hardsigmoid(x, inplace=True),
        scale=5,
    ),
    activation(
        "hardsigmoid_by_hand",
        lambda: Chain(
            shift=Function(lambda x: x + 3),
            clip=nn.ReLU6(),
            scale=Function(lambda x: x / 6),
        ),
        lambda m, x: F.relu6(x + 3.0, inplace=True) / 6,
        scale=5,
    ),
    activation(
        "hardswish",
        nn.Hardswish,
        lambda m, x: F.hardswish(x, inplace=True),
        scale=4,
    ),
    activation(
        "leaky_relu",
        lambda: nn.LeakyReLU(0.2),
        lambda m, x: F.leaky_relu(x, 0.2, inplace=True),
    ),
    activation("prelu", lambda: nn.PReLU(WIDTH), lambda m, x: torch.prelu(x, m.weight)),
    activation("rrelu", lambda: nn.RReLU(inplace=True), lambda m, x: F.rrelu(x, training=False)),
    activation("elu", nn.ELU, lambda m, x: F.elu(x, inplace=True)),
    activation("selu", nn.SELU, lambda m, x: torch.selu(x)),
    activation("celu", lambda: nn.CELU(0.5), lambda m, x: torch.celu(x, 0.5)),
    activation("silu", lambda: nn.SiLU(inplace=True), lambda m, x: F.silu(x, inplace=True)),
    activation(
        "silu_by_hand",
        lambda: Graph(
            lambda m, x: m.multiply(x, m.sigmoid(x)),
            sigmoid=nn.Sigmoid(),
            multiply=Multiply(),
        ),
        lambda m, x: x * torch.sigmoid(x),
    ),
    activation("mish", nn.Mish, lambda m, x: F.mish(x)),
    activation("gelu_erf", nn.GELU, lambda m, x: F.gelu(x)),
    activation(
        "gelu_tanh",
        lambda: nn.GELU(approximate="tanh"),
        lambda m, x: F.gelu(x, approximate="tanh"),
    ),
    activation("sigmoid", nn.Sigmoid, lambda m, x: x.sigmoid_()),
    activation("log_sigmoid", nn.LogSigmoid, lambda m, x: F.logsigmoid(x)),
    activation("tanh", nn.Tanh, lambda m, x: torch.tanh_(x)),
    activation("softplus", nn.Softplus, lambda m, x: F.softplus(x)),
    activation("softsign", nn.Softsign, lambda m, x: F.softsign(x)),
    activation(
        "threshold",
        lambda: nn.Threshold(0.3, -0.4),
        lambda m, x: F.threshold(x, 0.3, -0.4, inplace=True),
    ),
    activation("hardshrink", nn.Hardshrink, lambda m, x: F.hardshrink(x)),
    activation("softshrink", nn.Softshrink, lambda m, x: F.softshrink(x)),
    activation("square", lambda: Function(torch.square), lambda m, x: x**2),
    activation("absolute", lambda: Function(torch.abs), lambda m, x: abs(x)),
    activation("sine", lambda: Function(torch.sin), lambda m, x: x.sin_()),
]
