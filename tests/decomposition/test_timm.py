"""Completeness and places on timm's architectures: the terms add up, and none loses its places."""

import warnings

import pytest
import torch

from captum_tgrad import TGradAttribution

timm = pytest.importorskip("timm")

QUICK = ["convnext_atto", "edgenext_xx_small", "levit_128s", "mobilevit_xxs", "starnet_s1"]
SLOW = [
    "beit_base_patch16_224", "cait_xxs24_224", "coatnet_pico_rw_224", "convmixer_768_32",
    "crossvit_tiny_240", "davit_tiny", "deit3_small_patch16_224", "densenet121", "dpn68",
    "efficientformer_l1", "efficientnet_b0", "eva02_tiny_patch14_224", "fastvit_t8",
    "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_100", "hiera_tiny_224", "hrnet_w18_small",
    "inception_next_atto", "inception_v3", "mambaout_femto", "maxvit_pico_rw_256", "mixer_s16_224",
    "mobilenetv3_small_100", "nest_tiny", "nfnet_l0", "poolformer_s12", "pvt_v2_b0", "regnety_002",
    "repvit_m0_9", "resnet18", "resnetv2_50", "rexnet_100", "sequencer2d_s",
    "swin_tiny_patch4_window7_224", "tiny_vit_5m_224", "twins_pcpvt_small", "vgg11",
    "visformer_tiny", "vit_base_patch16_rope_224", "vit_tiny_patch16_224", "volo_d1_224",
    "xcit_nano_12_p16_224",
]  # fmt: skip


def _build(name):
    """Random weights; every scale, shift and statistic is moved away from 0 and 1."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.rand_like(parameter) - 0.05)
            if not parameter.any():
                parameter.normal_(std=0.05)
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn_like(buffer))
            elif key.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand_like(buffer))
    return model


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_terms_add_up_where_they_belong(name):
    model = _build(name).double()
    size = model.pretrained_cfg["input_size"]
    images = torch.randn(1, *size, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of lost places and residuals
        whole = TGradAttribution(model).decompose(images, target=1)
    scale = torch.stack([term.score for term in whole]).abs().sum(0)
    assert float(scale) > 0
    assert bool((whole.delta.abs() <= 1e-9 * scale).all())
    assert not any(term.lost_at for term in whole)
