"""What of a picture the network saw, and what was cut away."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode

from captum_tgrad.explanation import explain, format_report
from captum_tgrad.zoo import load_classifier
from captum_tgrad.zoo.preprocessing import Preprocessing


@pytest.mark.parametrize("size", [(2400, 500), (500, 2400), (640, 480), (256, 256), (300, 301)])
@pytest.mark.parametrize("steps", [(256, 224), (232, 224), (224, 224)])
def test_the_region_is_what_the_crop_shows(size, steps):
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    channels = [255 * columns / width, 255 * rows / height, np.zeros_like(rows)]
    picture = Image.fromarray(np.stack(channels, -1).astype(np.uint8))
    preprocessing = Preprocessing(*steps, InterpolationMode.BILINEAR, (0.5,) * 3, (0.5,) * 3)
    cropped = np.asarray(preprocessing.crop(picture)).astype(float)
    left, top, right, bottom = preprocessing.seen(width, height)
    seen = np.asarray(picture)[top:bottom, left:right].astype(float)
    for corner in ((0, 0), (-1, -1)):
        # A pixel of the crop is some pixels of the picture.
        assert np.abs(cropped[corner] - seen[corner]).max() <= 4


def test_the_report_says_what_is_cut_away():
    classifier = load_classifier("efficientnet_lite0")
    wide = Image.effect_noise((2400, 500), 90).convert("RGB")
    side = 500 * 224 / 256
    (found,) = explain(classifier, [wide])
    assert found.cut_away == pytest.approx(1 - side**2 / (2400 * 500), abs=0.01)
    report = format_report(found)
    assert (
        "  seen: the middle 438 x 438 of 2400 x 500 pixels; 84% of the picture is cut away"
        in report
    )


def test_a_picture_that_is_seen_whole_gets_no_line():
    preprocessing = Preprocessing(224, 224, InterpolationMode.BILINEAR, (0.5,) * 3, (0.5,) * 3)
    assert preprocessing.seen(500, 500) == (0, 0, 500, 500)
