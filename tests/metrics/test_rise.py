"""Equal to the RISE paper's procedure on the built-in ImageNet model and photographs."""

import pytest
import torch

from captum_tgrad.metrics import blur, insertion_deletion, zeros
from tests.metrics.models import permutation
from tests.metrics.reference import rise_area, rise_blur, rise_curve

# RISE's own blur keeps most of a photograph, which is why it is not the default.
pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half")


def _compare(model, images, maps, result, pixels_per_step, substrates):
    def probabilities(image):
        return model(image).softmax(1)

    for sample in range(len(images)):
        image, saliency = images[sample : sample + 1], maps[sample, 0].numpy()
        for mode, area, curve in [
            ("insertion", result.insertion, result.insertion_curve),
            ("deletion", result.deletion, result.deletion_curve),
        ]:
            expected = rise_curve(
                probabilities, image, saliency, mode, pixels_per_step, substrates[mode]
            )
            found = curve[sample].double()
            torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-5)
            assert area[sample].item() == pytest.approx(rise_area(expected), abs=1e-5)


@pytest.mark.parametrize("n_steps", [7, pytest.param(224, marks=pytest.mark.slow)])
def test_the_rise_preset_is_rise(photographs, n_steps):
    model, images = photographs
    maps = permutation(2, 1, 224, 224)
    result = insertion_deletion(
        model, images, maps, n_steps=n_steps, preset="rise", return_curves=True
    )
    assert result.protocol["baseline"] == {
        "insertion": "blur(kernel_size=11, sigma=5)",
        "deletion": "zeros",
    }
    substrates = {"insertion": rise_blur(11, 5), "deletion": torch.zeros_like}
    _compare(model, images, maps, result, 50176 // n_steps, substrates)


def test_the_default_is_rise_with_a_stronger_blur(photographs):
    model, images = photographs
    images, maps = images[:1], permutation(1, 1, 224, 224, seed=3)
    result = insertion_deletion(model, images, maps, n_steps=4, return_curves=True)
    blurred = rise_blur(51, 10)(images)  # once: a dense kernel of this size takes seconds
    substrates = dict.fromkeys(("insertion", "deletion"), lambda image: blurred)
    _compare(model, images, maps, result, 50176 // 4, substrates)


@pytest.mark.parametrize(("kernel_size", "sigma"), [(11, 5), (51, 10), (5, 1.5), (3, 4)])
def test_the_kernel_is_scipys(kernel_size, sigma):
    image = torch.randn(2, 3, 60, 40, dtype=torch.float64, generator=torch.Generator())
    expected = rise_blur(kernel_size, sigma)(image)
    torch.testing.assert_close(blur(kernel_size, sigma)(image), expected, rtol=0, atol=1e-12)


def test_the_stronger_blur_hides_the_class_and_the_rise_blur_does_not(photographs):
    model, images = photographs
    with torch.no_grad():
        target = model(images).argmax(1)
        weak, strong, none = (
            model(baseline(images)).softmax(1)[range(2), target]
            for baseline in (blur(11, 5), blur(), zeros)
        )
    assert (strong < 0.1 * weak).any()
    assert (strong < 0.05).all()
    assert (none < 0.05).all()
