"""Functions of a model's output: a difference, a probability, a score over a region."""

import pytest
import torch
import torchvision
from captum.attr import InputXGradient
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution

EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5).double().eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.1 * torch.rand_like(buffer))
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()


def _complete(decomposition):
    scores = torch.stack([term.score for term in decomposition.terms])
    torch.testing.assert_close(scores.sum(0), decomposition.output, **EXACT)
    return scores


def test_why_class_a_and_not_b(classifier, images):
    def difference(x):
        logits = classifier(x)
        return logits[:, 3] - logits[:, 1]

    whole = TGradAttribution(difference).decompose(images)
    with torch.no_grad():
        torch.testing.assert_close(whole.output, difference(images))
    _complete(whole)
    # Every term is linear in the output, so its share is the difference of the two.
    for_a, for_b = (TGradAttribution(classifier).decompose(images, k) for k in (3, 1))
    for term, one, other in zip(whole.terms, for_a.terms, for_b.terms, strict=True):
        assert term.name == one.name
        torch.testing.assert_close(term.score, one.score - other.score, **EXACT)


def test_a_probability(classifier, images):
    method = TGradAttribution(lambda x: classifier(x).softmax(1))
    whole = method.decompose(images, target=[3, 1])
    with torch.no_grad():
        expected = classifier(images).softmax(1)[[0, 1], [3, 1]]
    torch.testing.assert_close(whole.output, expected)
    _complete(whole)
    # Where the softmax is p, its gradient is p (1 - p) of that of the log-odds.
    log_odds = TGradAttribution(
        lambda x: classifier(x)[:, 3] - classifier(x)[:, [0, 1, 2, 4]].logsumexp(1)
    ).decompose(images[:1])
    (p,) = whole.output[:1]
    torch.testing.assert_close(whole.input.score[:1], p * (1 - p) * log_odds.input.score, **EXACT)


def test_a_segmentation_over_a_region(images):
    torch.manual_seed(2)
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    model = model.double().eval()
    mask = torch.zeros(64, 64).double()
    mask[10:30, 20:50] = 1

    def score(x):
        return (model(x)["out"] * mask).sum((2, 3))

    method = TGradAttribution(score)
    whole = method.decompose(images, target=2)
    with torch.no_grad():
        torch.testing.assert_close(whole.output, score(images)[:, 2])
    _complete(whole)
    assert method.attribute(images, target=2).shape == images.shape


@pytest.mark.parametrize("last", [nn.Identity(), nn.Flatten(0), nn.Unflatten(1, (1, 1))])
def test_one_output_per_sample_needs_no_target(last):
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), torch.randn(5, 4)
    expected = InputXGradient(model).attribute(x.clone().requires_grad_(), 0).sum(1)
    found = TGradAttribution(nn.Sequential(*model, last)).decompose(x)
    torch.testing.assert_close(found.input.score, expected.detach())
    torch.testing.assert_close(found.output, model(x).detach().flatten())
    of_layer = LayerTGradAttribution(nn.Sequential(*model, last), model[0]).decompose(x)
    torch.testing.assert_close(of_layer.output, found.output)
