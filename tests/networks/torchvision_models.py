"""torchvision's classifiers with weights, biases and statistics that all matter."""

import torch
import torchvision
from torch import nn
from torchvision.models import MaxVit, VisionTransformer

SMALL = {
    "vit": lambda: VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
    ),
    "maxvit": lambda: MaxVit(
        input_size=(64, 64),
        stem_channels=8,
        partition_size=4,
        block_channels=[8, 16],
        block_layers=[1, 2],
        head_dim=4,
        stochastic_depth_prob=0,
    ),
}
"""Architectures of which torchvision builds just large networks, for images of 64 x 64."""


def build(name: str) -> nn.Module:
    """The architecture with random weights, in eval mode and float64.

    Every vector (bias, scale, layer scale), token, embedding, running statistic and matrix of zeros
    (the head of a vision transformer) is moved away from the 0 or 1 that it starts with.
    """
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = SMALL.get(name)
        model = small() if small else torchvision.models.get_model(name, weights=None, **options)
        model = model.eval().double()
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                leaf = parameter_name.rpartition(".")[2]
                if parameter.dim() == 1 or leaf in ("layer_scale", "class_token", "pos_embedding"):
                    parameter.add_(0.2 * torch.rand_like(parameter) - 0.05)
                elif not parameter.any():
                    parameter.normal_(std=0.1)
            for buffer_name, buffer in model.named_buffers():
                if buffer_name.endswith("running_mean"):
                    buffer.add_(0.1 * torch.randn_like(buffer))
                elif buffer_name.endswith("running_var"):
                    buffer.mul_(0.5 + torch.rand_like(buffer))
    return model
