"""The built-in ImageNet model and two photographs, loaded once."""

import pytest
import torch
from PIL import Image

from captum_tgrad.zoo import load_classifier, sample_image


@pytest.fixture(scope="session")
def photographs():
    """The model, and a cup of coffee and a cat as it sees them, (2, 3, 224, 224)."""
    skimage_data = pytest.importorskip("skimage.data")
    classifier = load_classifier()
    pictures = [sample_image(), Image.fromarray(skimage_data.chelsea())]
    return classifier.model, torch.stack([classifier.preprocess(each) for each in pictures])
