"""Completeness on torchvision's classifiers: the terms add up to the output."""

import pytest
import torch
import torchvision

from captum_tgrad import TGradAttribution
from tests.networks.torchvision_models import SMALL, build

NAMES = [
    "alexnet", "vgg16", "resnet50", "densenet121", "mobilenet_v2", "mobilenet_v3_small",
    "googlenet", "inception_v3", "squeezenet1_1", "shufflenet_v2_x1_0", "regnet_y_400mf",
    "efficientnet_b0", "convnext_tiny", "swin_t", "swin_v2_t", "vit", "maxvit",
]  # fmt: skip
TARGETS = torch.tensor([3, 700])


def _inputs(name: str, dtype: torch.dtype) -> torch.Tensor:
    size = 64 if name in SMALL else 96
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_terms_add_up(name):
    model = build(name)
    whole = TGradAttribution(model).decompose(_inputs(name, torch.float64), target=TARGETS)
    with torch.no_grad():
        logits = model(_inputs(name, torch.float64))
    torch.testing.assert_close(whole.output, logits[[0, 1], TARGETS])
    scores = torch.stack([term.score for term in whole.terms])
    assert bool((whole.delta.abs() <= 1e-9 * scores.abs().sum(0)).all())
    torch.testing.assert_close(scores.sum(0) + whole.delta, whole.output, rtol=1e-12, atol=1e-12)

    model = model.float()
    attribution, delta = TGradAttribution(model).attribute(
        _inputs(name, torch.float32), target=TARGETS, return_convergence_delta=True
    )
    assert bool((delta.abs() <= 1e-4 * scores.abs().sum(0)).all())
    # The map against the terms of the float64 decomposition: positive scores, nothing below 0.
    assert float(attribution.min()) >= 0
    torch.testing.assert_close(
        attribution.sum((1, 2, 3)).double(), scores.clamp(min=0).sum(0), rtol=1e-3, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(set(torchvision.models.list_models(module=torchvision.models)) - set(NAMES))
)
def test_terms_add_up_everywhere(name):
    model = build(name)
    size = 224 if "vit" in name else 96
    inputs = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5))
    whole = TGradAttribution(model).decompose(inputs.double(), target=TARGETS)
    scores = torch.stack([term.score for term in whole.terms]).abs().sum(0)
    assert bool((whole.delta.abs() <= 1e-9 * scores).all())
    whole = TGradAttribution(model.float()).decompose(inputs, target=TARGETS)
    assert bool((whole.delta.abs() <= 1e-4 * scores).all())
