"""Completeness and places on MONAI's 3-D networks: the terms add up, and none loses its places."""

import warnings

import pytest
import torch

from captum_tgrad import TGradAttribution

nets = pytest.importorskip("monai.networks.nets")

PLAIN = {"spatial_dims": 3, "in_channels": 1}
VIT = {"hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
OUT = {**PLAIN, "out_channels": 2}
NETWORKS = {
    "DenseNet": {**OUT, "init_features": 8, "growth_rate": 4, "block_config": (2, 2)},
    "ResNet": {
        "block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [8, 16, 32, 64],
        "n_input_channels": 1, "num_classes": 2,
    },
    "SENet": {
        **PLAIN, "block": "se_bottleneck", "layers": (1, 1, 1, 1), "groups": 1, "reduction": 16,
        "num_classes": 2,
    },
    "EfficientNetBN": {
        **PLAIN, "model_name": "efficientnet-b0", "num_classes": 2, "pretrained": False,
    },
    "ViT": {
        **VIT, "in_channels": 1, "img_size": (32,) * 3, "patch_size": (8,) * 3, "num_layers": 2,
        "classification": True, "num_classes": 2,
    },
    "SegResNet": {**OUT, "init_filters": 8},
    "UNet": {**OUT, "channels": (4, 8, 16), "strides": (2, 2)},
    "UNETR": {**VIT, "in_channels": 1, "out_channels": 2, "img_size": (32,) * 3, "feature_size": 4},
    "DynUNet": {
        **OUT, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 16],
    },
}  # fmt: skip
SLOW = {"EfficientNetBN", "SENet", "SegResNet"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETWORKS]
)
def test_terms_add_up_where_they_belong(name):
    if name in {"ViT", "UNETR"}:
        pytest.importorskip("einops")
    model = getattr(nets, name)(**NETWORKS[name]).double().eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():  # scales, shifts and statistics of 0 and 1
            if tensor.dim() == 1:
                tensor.add_(0.2 * torch.rand_like(tensor))

    def first_logit(volumes):
        output = model(volumes)
        output = output[0] if isinstance(output, tuple) else output
        return output[:, 1].flatten(1).sum(1) if output.dim() > 2 else output[:, 1]

    volumes = torch.rand(2, 1, 32, 32, 32, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*positions|Incomplete|The map is not")
        whole = TGradAttribution(first_logit).decompose(volumes)
    with torch.no_grad():
        torch.testing.assert_close(whole.output, first_logit(volumes))
    scale = torch.stack([term.score for term in whole]).abs().sum(0)
    assert bool((whole.delta.abs() <= 1e-9 * scale).all())
    assert not any(term.lost_at for term in whole)
