"""Small convolutional architectures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.building_blocks import Chain, Graph, conv, head
from tests.networks.operations import (
    Add,
    Concatenate,
    Function,
    Multiply,
)
from tests.networks.tiny_network import CLASSES, WIDTH, TinyNetwork


def _vgg_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = F.relu(F.conv2d(x, m.conv1.weight, m.conv1.bias, padding=1), inplace=True)
    x = F.max_pool2d(x, 2)
    x = torch.relu_(F.conv2d(x, m.conv2.weight, m.conv2.bias, padding=1))
    x = torch.flatten(x, 1)
    x = F.relu(F.linear(x, m.linear1.weight, m.linear1.bias))
    x = F.dropout(x, training=m.training)
    return x @ m.linear2.weight.T + m.linear2.bias


def _residual(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.relu1(m.norm1(m.conv1(x)))
    y = m.norm2(m.conv2(y))
    return m.head(m.relu2(m.add(y, m.shortcut(x))))


def _residual_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = F.relu(m.norm1(m.conv1(x)), inplace=True)
    y = m.norm2(m.conv2(y))
    y += m.shortcut(x)
    return m.head(F.relu(y, inplace=True))


def _squeeze_excitation(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    gate = m.gate(m.expand(m.relu(m.reduce(m.pool(x)))))
    return m.head(m.multiply(x, gate))


def _squeeze_excitation_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    gate = x.mean((2, 3), keepdim=True)
    gate = F.hardsigmoid(m.expand(torch.relu(m.reduce(gate))))
    x *= gate
    return m.head(x)


def _dense(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv1(x)
    x = m.concatenate(x, m.relu1(m.conv2(x)))
    return m.head(m.relu2(m.norm(x)))


def _dense_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv1(x)
    x = torch.cat((x, F.relu(m.conv2(x))), 1)
    return m.head(m.norm(x).relu())


def _channel_shuffle(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    x = x.view(n, 2, channels // 2, height, width).transpose(1, 2)
    return x.reshape(n, channels, height, width)


def _split_shuffle(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv1(x)
    y = m.relu(m.conv2(m.right(x)))
    return m.head(m.shuffle(m.concatenate(m.left(x), y)))


def _split_shuffle_twin(m: nn.Module, x: Tensor) -> Tensor:
    left, right = m.conv1(x).chunk(2, dim=1)
    x = torch.cat((left, m.conv2(right).relu()), dim=1)
    return m.head(_channel_shuffle(x))


NETWORKS = [
    TinyNetwork(
        "vgg_like",
        lambda: Chain(
            conv1=conv(),
            relu1=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            conv2=conv(WIDTH, 5),
            relu2=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            linear1=nn.Linear(5 * 3 * 2, 6),
            relu3=nn.ReLU(inplace=True),
            dropout=nn.Dropout(),
            linear2=nn.Linear(6, CLASSES),
        ),
        twin=_vgg_twin,
    ),
    TinyNetwork(
        "residual",
        lambda: Graph(
            _residual,
            stem=conv(),
            conv1=conv(WIDTH, 5, stride=2, bias=False),
            norm1=nn.BatchNorm2d(5),
            relu1=nn.ReLU(),
            conv2=conv(5, 5, bias=False),
            norm2=nn.BatchNorm2d(5),
            shortcut=nn.Conv2d(WIDTH, 5, 1, stride=2),
            add=Add(),
            relu2=nn.ReLU(),
            head=head(5),
        ),
        twin=_residual_twin,
    ),
    TinyNetwork(
        "squeeze_excitation",
        lambda: Graph(
            _squeeze_excitation,
            conv=conv(),
            pool=nn.AdaptiveAvgPool2d(1),
            reduce=nn.Conv2d(WIDTH, 2, 1),
            relu=nn.ReLU(),
            expand=nn.Conv2d(2, WIDTH, 1),
            gate=nn.Hardsigmoid(),
            multiply=Multiply(),
            head=head(),
        ),
        twin=_squeeze_excitation_twin,
    ),
    TinyNetwork(
        "dense",
        lambda: Graph(
            _dense,
            conv1=conv(),
            conv2=conv(WIDTH, 2),
            relu1=nn.ReLU(),
            concatenate=Concatenate(),
            norm=nn.BatchNorm2d(WIDTH + 2),
            relu2=nn.ReLU(),
            head=head(WIDTH + 2),
        ),
        twin=_dense_twin,
    ),
    TinyNetwork(
        "split_and_shuffle",
        lambda: Graph(
            _split_shuffle,
            conv1=conv(),
            left=Function(lambda x: x[:, : WIDTH // 2]),
            right=Function(lambda x: x[:, WIDTH // 2 :]),
            conv2=conv(WIDTH // 2, WIDTH // 2),
            relu=nn.ReLU(),
            concatenate=Concatenate(),
            shuffle=Function(_channel_shuffle),
            head=head(),
        ),
        twin=_split_shuffle_twin,
    ),
]
