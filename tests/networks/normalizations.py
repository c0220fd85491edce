"""Normalizations, softmax and dropout."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.building_blocks import layer
from tests.networks.operations import (
    Function,
)
from tests.networks.tiny_network import WIDTH

NETWORKS = [
    layer(
        "batch_norm",
        lambda: nn.BatchNorm2d(WIDTH),
        lambda m, x: F.batch_norm(
            x, m.running_mean, m.running_var, m.weight, m.bias, False, 0.0, m.eps
        ),
        shapes=((3, 3, 6, 5),),
    ),
    layer(
        "batch_norm_without_affine",
        lambda: nn.BatchNorm2d(WIDTH, affine=False),
        lambda m, x: F.batch_norm(x, m.running_mean, m.running_var),
    ),
    layer(
        "layer_norm",
        lambda: nn.LayerNorm((WIDTH, 6, 5)),
        lambda m, x: F.layer_norm(x, (WIDTH, 6, 5), m.weight, m.bias),
    ),
    layer(
        "group_norm",
        lambda: nn.GroupNorm(2, WIDTH),
        lambda m, x: F.group_norm(x, 2, m.weight, m.bias),
    ),
    layer(
        "instance_norm",
        lambda: nn.InstanceNorm2d(WIDTH, affine=True),
        lambda m, x: F.instance_norm(x, weight=m.weight, bias=m.bias),
    ),
    layer(
        "instance_norm_with_statistics",
        lambda: nn.InstanceNorm2d(WIDTH, track_running_stats=True),
        lambda m, x: F.instance_norm(x, m.running_mean, m.running_var, use_input_stats=False),
    ),
    layer(
        "local_response_norm",
        lambda: nn.LocalResponseNorm(3, alpha=2.0),
        lambda m, x: F.local_response_norm(x, 3, alpha=2.0),
        twin_terms=False,
    ),
    layer(
        "unit_length",
        lambda: Function(lambda x: F.normalize(x, dim=1)),
        lambda m, x: F.normalize(x, dim=1),
    ),
    layer("softmax", lambda: nn.Softmax(dim=1), lambda m, x: torch.softmax(x, dim=1)),
    layer("softmax_2d", nn.Softmax2d, lambda m, x: x.softmax(-3)),
    layer("dropout", nn.Dropout2d, lambda m, x: F.dropout2d(x, 0.5, training=m.training)),
]
