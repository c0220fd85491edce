"""Convolutions of every kind."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.building_blocks import conv, layer
from tests.networks.tiny_network import WIDTH

NETWORKS = [
    layer(
        "depthwise_convolution",
        lambda: conv(WIDTH, groups=WIDTH),
        lambda m, x: F.conv2d(x, m.weight, m.bias, padding=1, groups=WIDTH),
    ),
    layer(
        "grouped_convolution",
        lambda: conv(WIDTH, 6, groups=2),
        lambda m, x: torch.conv2d(x, m.weight, m.bias, padding=1, groups=2),
        channels=6,
    ),
    layer(
        "dilated_convolution",
        lambda: conv(WIDTH, dilation=2, padding=2),
        lambda m, x: F.conv2d(x, m.weight, m.bias, padding="same", dilation=2),
    ),
    layer(
        "strided_convolution",
        lambda: conv(WIDTH, stride=2),
        lambda m, x: F.conv2d(x, m.weight, m.bias, stride=2, padding=1),
    ),
    layer("reflecting_convolution", lambda: conv(WIDTH, padding_mode="reflect")),
    layer(
        "convolution_without_bias",
        lambda: conv(WIDTH, bias=False),
        lambda m, x: F.conv2d(x, m.weight, padding=1),
    ),
    layer(
        "transposed_convolution",
        lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 3, stride=2),
        lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, stride=2),
    ),
]
