"""Images are brought to [0, 1] the same way for every figure."""

import numpy as np
import pytest
import torch
from PIL import Image

from captum_tgrad.visualization import as_images


def test_values_between_0_and_1_are_shown_as_they_are():
    images = torch.rand(2, 3, 4, 5)
    for picture, image in zip(as_images(images), images, strict=True):
        np.testing.assert_allclose(picture, image.permute(1, 2, 0))
    np.testing.assert_allclose(as_images(images[0])[0], images[0].permute(1, 2, 0))


def test_normalized_values_are_put_back():
    image = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    mean, std = [0.1, 0.2, 0.3], torch.tensor([0.5, 0.25, 2.0])
    normalized = (image - torch.tensor(mean).reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    (picture,) = as_images(normalized, mean, std)
    np.testing.assert_allclose(picture, image[0].permute(1, 2, 0), atol=1e-6)


def test_other_values_are_stretched_all_channels_alike():
    image = torch.tensor([-2.0, 0.0, 2.0]).reshape(3, 1, 1)
    np.testing.assert_allclose(as_images(image)[0], [[[0, 0.5, 1]]])
    np.testing.assert_allclose(as_images(torch.full((1, 1, 1), 7.0))[0], 1)


def test_whole_numbers_and_pictures_of_pillow_are_bytes():
    pixels = torch.randint(0, 2, (3, 4, 5), dtype=torch.uint8)
    expected = pixels.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(as_images(pixels)[0], expected / 255)
    np.testing.assert_allclose(as_images([Image.fromarray(expected)])[0], expected / 255)


def test_pictures_of_pillow_are_shown_as_they_are_read():
    transparent = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
    deep = Image.fromarray(np.full((2, 2), 256 * 51, dtype=np.uint16))
    for picture, level in zip(as_images([transparent, deep]), (1.0, 0.2), strict=True):
        np.testing.assert_allclose(picture, level)


def test_grey_pictures_have_three_equal_channels():
    (picture,) = as_images(torch.rand(1, 4, 5, dtype=torch.float16))
    assert picture.shape == (4, 5, 3)
    assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5), (1, 1, 3, 4, 5), (0, 3, 4, 5)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="with 1 or 3 channels"):
        as_images(torch.zeros(shape))


def test_refuses_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="not finite"):
        as_images(torch.full((3, 2, 2), float("nan")))
    with pytest.raises(TypeError, match="got a NumPy array: convert it"):
        as_images(np.zeros((2, 2, 3)))
    with pytest.raises(TypeError, match=r"real numbers, got torch\.complex64"):
        as_images(torch.zeros(3, 2, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="std is missing"):
        as_images(torch.zeros(3, 2, 2), mean=[0.5])
    with pytest.raises(ValueError, match="mean has 2 numbers for 3 channels"):
        as_images(torch.zeros(3, 2, 2), mean=[0.5, 0.5], std=[1.0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_on_a_gpu():
    image = torch.rand(3, 4, 5)
    np.testing.assert_allclose(as_images(image.cuda())[0], as_images(image)[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_arrays_are_copies(layout):
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64).to(memory_format=layout)
    before = images.clone()
    for picture in as_images(images):
        picture[:] = 0
    assert torch.equal(images, before)
