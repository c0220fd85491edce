"""Pooling, padding and upsampling."""

import torch.nn.functional as F
from torch import nn

from tests.networks.building_blocks import Chain, conv, layer
from tests.networks.tiny_network import WIDTH

NETWORKS = [
    layer(
        "max_pooling",
        lambda: nn.MaxPool2d(3, stride=2, padding=1),
        lambda m, x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0],
    ),
    layer(
        "average_pooling",
        lambda: nn.AvgPool2d(3, stride=2, padding=1),
        lambda m, x: F.avg_pool2d(x, 3, stride=2, padding=1),
    ),
    layer(
        "adaptive_average_pooling",
        lambda: nn.AdaptiveAvgPool2d((4, 2)),
        lambda m, x: F.adaptive_avg_pool2d(x, (4, 2)),
    ),
    layer(
        "adaptive_max_pooling",
        lambda: nn.AdaptiveMaxPool2d(3),
        lambda m, x: F.adaptive_max_pool2d(x, 3),
    ),
    layer(
        "zero_padding",
        lambda: nn.ZeroPad2d((1, 0, 2, 1)),
        lambda m, x: F.pad(x, (1, 0, 2, 1)),
    ),
    layer(
        "constant_padding",
        lambda: nn.ConstantPad2d((1, 2, 0, 1), 0.7),
        lambda m, x: F.pad(x, (1, 2, 0, 1), value=0.7),
    ),
    layer(
        "reflection_padding",
        lambda: nn.ReflectionPad2d(1),
        lambda m, x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    ),
    layer(
        "nearest_upsampling",
        lambda: nn.Upsample(scale_factor=2),
        lambda m, x: F.interpolate(x, scale_factor=2),
    ),
    layer(
        "bilinear_upsampling",
        lambda: nn.Upsample((9, 8), mode="bilinear"),
        lambda m, x: F.interpolate(x, (9, 8), mode="bilinear"),
    ),
    layer(
        "upsampling_beyond_the_input",
        lambda: Chain(larger=nn.Upsample(scale_factor=4), conv=conv(WIDTH)),
        lambda m, x: m.conv(F.interpolate(x, scale_factor=4)),
    ),
    layer(
        "pixel_shuffle",
        lambda: nn.PixelShuffle(2),
        lambda m, x: F.pixel_shuffle(x, 2),
        channels=1,
    ),
]
