"""The classifiers of torchvision, against torchvision's own way to build and to feed them."""

import re
from urllib.error import URLError

import pytest
import torch
import torchvision.models
from torchvision.models import MobileNet_V3_Large_Weights, ShuffleNet_V2_X0_5_Weights

from captum_tgrad.zoo import load_classifier, sample_image

SMALL = "shufflenet_v2_x0_5"


def _save(tmp_path, architecture, name="weights.pt", **options):
    """Saves a network with random weights; returns it, in evaluation mode, and the file."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(architecture, weights=None, **options).eval()
    torch.save(network.state_dict(), tmp_path / name)
    return network, tmp_path / name


def _assert_same_outputs(actual, expected, size=64):
    inputs = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(actual(inputs), expected(inputs))


def test_weights_from_a_file(tmp_path):
    network, path = _save(tmp_path, SMALL)
    classifier = load_classifier(f"torchvision:{SMALL}", path)
    _assert_same_outputs(classifier.model, network)
    assert not classifier.model.training
    assert classifier.name == f"torchvision:{SMALL}"
    assert classifier.class_names[967] == "espresso"


def test_weights_from_a_file_with_other_classes(tmp_path):
    network, path = _save(tmp_path, SMALL, num_classes=3)
    classifier = load_classifier(f"torchvision:{SMALL}", path)
    _assert_same_outputs(classifier.model, network)
    assert classifier.class_names == ("class 0", "class 1", "class 2")
    named = load_classifier(f"torchvision:{SMALL}", path, class_names=["a", "b", "c"])
    assert named.class_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="2 class names, but the network has 3 classes"):
        load_classifier(f"torchvision:{SMALL}", path, class_names=["a", "b"])


def test_weights_of_another_network(tmp_path):
    _, path = _save(tmp_path, SMALL)
    with pytest.raises(ValueError, match=r"does not fit the network \(missing: .*; unexpected: "):
        load_classifier("torchvision:squeezenet1_1", path)


def test_preprocess_is_that_of_torchvision(tmp_path):
    _, path = _save(tmp_path, SMALL)
    classifier = load_classifier(f"torchvision:{SMALL}", path)
    expected = ShuffleNet_V2_X0_5_Weights.DEFAULT.transforms()(sample_image())
    torch.testing.assert_close(classifier.preprocess(sample_image()), expected, rtol=0, atol=0)
    assert classifier.crop(sample_image()).size == (224, 224)


@pytest.mark.parametrize(
    "published", list(MobileNet_V3_Large_Weights), ids=lambda published: published.name
)
def test_preprocess_is_that_of_the_published_file(tmp_path, published):
    name = published.url.rsplit("/", 1)[-1]
    _, path = _save(tmp_path, "mobilenet_v3_large", name)
    classifier = load_classifier("torchvision:mobilenet_v3_large", path)
    expected = published.transforms()(sample_image())
    torch.testing.assert_close(classifier.preprocess(sample_image()), expected, rtol=0, atol=0)


def test_weights_with_the_old_names_of_densenet(tmp_path):
    network, path = _save(tmp_path, "densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(norm|conv))(\d)\.", r"\1.\3.", key): value
        for key, value in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, path)
    _assert_same_outputs(load_classifier("torchvision:densenet121", path).model, network)


@pytest.mark.parametrize("aux_logits", [True, False])
def test_googlenet_is_built_as_for_its_published_weights(tmp_path, aux_logits):
    network, path = _save(
        tmp_path, "googlenet", aux_logits=aux_logits, transform_input=True, init_weights=False
    )
    _assert_same_outputs(load_classifier("torchvision:googlenet", path).model, network)


def test_published_weights(monkeypatch):
    torch.manual_seed(0)
    network = torchvision.models.get_model(SMALL, weights=None).eval()
    monkeypatch.setattr(
        ShuffleNet_V2_X0_5_Weights,
        "get_state_dict",
        lambda self, *args, **kwargs: network.state_dict(),
    )
    classifier = load_classifier(f"torchvision:{SMALL}")
    _assert_same_outputs(classifier.model, network)
    assert len(classifier.class_names) == 1000


@pytest.mark.parametrize(
    "reason", [URLError("no name"), TimeoutError("too slow"), RuntimeError("invalid hash value")]
)
def test_published_weights_that_cannot_be_downloaded(monkeypatch, tmp_path, reason):
    def fail(*args, **kwargs):
        raise reason

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConnectionError, match=r"could not be downloaded .*\.pth.*--weights FILE"):
        load_classifier(f"torchvision:{SMALL}")
