"""Other shapes of inputs and outputs: features, signals, volumes, two inputs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.building_blocks import Chain, Graph, conv, head
from tests.networks.operations import (
    Concatenate,
    Multiply,
)
from tests.networks.tiny_network import CLASSES, IMAGES, WIDTH, TinyNetwork


def _multilayer_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = torch.addmm(m.linear1.bias, x, m.linear1.weight.t()).clamp_min(0)
    x = x.matmul(m.linear2.weight.t()) + m.linear2.bias
    return F.linear(F.relu(x), m.linear3.weight, m.linear3.bias)


def _two_inputs(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    image = m.flatten(m.pool(m.relu1(m.conv(image))))
    table = m.relu2(m.linear1(table))
    return m.linear3(m.relu3(m.linear2(m.concatenate(image, table))))


def _two_inputs_twin(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    image = F.relu(m.conv(image)).mean((2, 3))
    table = F.relu(m.linear1(table))
    x = torch.cat([image, table], dim=1)
    return m.linear3(m.linear2(x).relu_())


def _gated_by_table(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    gate = m.sigmoid(m.view(m.linear(table)))
    return m.head(m.relu(m.multiply(m.conv(image), gate)))


def _gated_by_table_twin(m: nn.Module, image: Tensor, table: Tensor) -> Tensor:
    gate = m.linear(table)[:, :, None, None].sigmoid()
    x = m.conv(image)
    x.mul_(gate)
    return m.head(x.relu_())


def _one_dimension_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.norm(F.conv1d(x, m.conv1.weight, m.conv1.bias)).relu_()
    x = F.max_pool1d(x, 2)
    x = F.conv1d(x, m.conv2.weight, m.conv2.bias).relu_()
    return m.linear(x.flatten(1))


def _three_dimensions_twin(m: nn.Module, x: Tensor) -> Tensor:
    x = m.norm(F.conv3d(x, m.conv1.weight, m.conv1.bias)).relu_()
    x = F.max_pool3d(x, (1, 2, 2), ceil_mode=True)
    x = F.conv3d(x, m.conv2.weight, m.conv2.bias).relu_()
    return m.linear(x.view(len(x), -1))


NETWORKS = [
    TinyNetwork(
        "multilayer_perceptron",
        lambda: Chain(
            linear1=nn.Linear(5, 6),
            relu1=nn.ReLU(),
            linear2=nn.Linear(6, 4),
            relu2=nn.ReLU(),
            linear3=nn.Linear(4, CLASSES),
        ),
        shapes=((3, 5),),
        target=[0, 2, 1],
        twin=_multilayer_twin,
    ),
    TinyNetwork(
        "normalized_perceptron",
        lambda: Chain(
            linear1=nn.Linear(5, 6),
            norm=nn.BatchNorm1d(6),
            gelu=nn.GELU(),
            linear2=nn.Linear(6, CLASSES),
        ),
        shapes=((2, 5),),
    ),
    TinyNetwork(
        "scalar_output",
        lambda: Chain(
            conv=conv(),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTH, 1),
            squeeze=nn.Flatten(0),
        ),
        target=None,
        twin=lambda m, x: m.linear(F.relu(m.conv(x)).mean((2, 3))).squeeze(1),
    ),
    TinyNetwork(
        "one_dimension",
        lambda: Chain(
            conv1=nn.Conv1d(3, WIDTH, 3),
            norm=nn.BatchNorm1d(WIDTH),
            relu1=nn.ReLU(),
            pool=nn.MaxPool1d(2),
            conv2=nn.Conv1d(WIDTH, WIDTH, 2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            linear=nn.Linear(WIDTH * 2, CLASSES),
        ),
        shapes=((2, 3, 9),),
        twin=_one_dimension_twin,
    ),
    TinyNetwork(
        "three_dimensions",
        lambda: Chain(
            conv1=nn.Conv3d(2, 3, 2),
            norm=nn.BatchNorm3d(3),
            relu1=nn.ReLU(),
            pool=nn.MaxPool3d((1, 2, 2), ceil_mode=True),
            conv2=nn.Conv3d(3, 3, 2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            linear=nn.Linear(3, CLASSES),
        ),
        shapes=((2, 2, 3, 4, 4),),
        twin=_three_dimensions_twin,
    ),
    TinyNetwork(
        "image_and_table",
        lambda: Graph(
            _two_inputs,
            conv=conv(),
            relu1=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear1=nn.Linear(5, 6),
            relu2=nn.ReLU(),
            concatenate=Concatenate(),
            linear2=nn.Linear(WIDTH + 6, 4),
            relu3=nn.ReLU(),
            linear3=nn.Linear(4, CLASSES),
        ),
        shapes=(IMAGES, (2, 5)),
        twin=_two_inputs_twin,
    ),
    TinyNetwork(
        "image_gated_by_table",
        lambda: Graph(
            _gated_by_table,
            linear=nn.Linear(5, WIDTH),
            view=nn.Unflatten(1, (WIDTH, 1, 1)),
            sigmoid=nn.Sigmoid(),
            conv=conv(),
            multiply=Multiply(),
            relu=nn.ReLU(),
            head=head(),
        ),
        shapes=(IMAGES, (2, 5)),
        twin=_gated_by_table_twin,
    ),
]
