"""The network that needs no download sees what it was trained on, and recognises it."""

import numpy as np
import pytest
import torch
from PIL import Image

from captum_tgrad.zoo import load_classifier, sample_image


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("efficientnet_lite0")


def test_top_class_of_the_sample_is_espresso(classifier):
    inputs = classifier.preprocess(sample_image())[None]
    with torch.no_grad():
        probabilities = classifier.model(inputs).softmax(dim=1)[0]
    assert classifier.class_names[int(probabilities.argmax())] == "espresso"
    assert probabilities.max() > 0.9


def test_classifier_is_in_evaluation_mode(classifier):
    assert not any(module.training for module in classifier.model.modules())


def test_crop_is_the_middle_of_the_resized_picture(classifier):
    image = sample_image()
    # 600 x 400: the shorter side becomes 256, and 224 are cut from the middle of 384 x 256.
    expected = image.resize((384, 256), Image.Resampling.BICUBIC).crop((80, 16, 304, 240))
    assert np.array_equal(np.asarray(classifier.crop(image)), np.asarray(expected))


def test_preprocess_is_the_crop_in_the_numbers_of_the_network(classifier):
    image = sample_image()
    pixels = np.asarray(classifier.crop(image), dtype=np.float32)
    expected = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)
    torch.testing.assert_close(classifier.preprocess(image), expected, rtol=1e-5, atol=1e-6)


def test_weights_from_a_file_with_other_classes(tmp_path, classifier):
    state_dict = classifier.model.state_dict()
    state_dict["_fc.weight"] = state_dict["_fc.weight"][[967, 968]]
    state_dict["_fc.bias"] = state_dict["_fc.bias"][[967, 968]]
    torch.save(state_dict, tmp_path / "two.pt")

    two = load_classifier("efficientnet_lite0", tmp_path / "two.pt", ["espresso", "cup"])

    inputs = classifier.preprocess(sample_image())[None]
    with torch.no_grad():
        expected = classifier.model(inputs)[:, [967, 968]]
        torch.testing.assert_close(two.model(inputs), expected, rtol=1e-4, atol=1e-4)
    assert two.class_names == ("espresso", "cup")
