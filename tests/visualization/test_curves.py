"""Curves with their areas, and the images that belong to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.visualization import curves_figure, replaced_images
from tests.visualization.networks import images, small_network, titles

# Of a network that has learned nothing, the curves are flat.
pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half:UserWarning")


@pytest.fixture(scope="module")
def maps() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.rand(2, 1, 8, 8, generator=generator) for name in ("one", "other")}


@pytest.fixture(scope="module")
def results(maps):
    return insertion_deletion(
        small_network(), images(), maps, 0.0, target=1, n_steps=8, return_curves=True
    )


def test_the_curves_are_those_of_the_sample(results):
    insertion, deletion = curves_figure(results, 1).axes
    for axes, curve in ((insertion, "insertion_curve"), (deletion, "deletion_curve")):
        for line, result in zip(axes.lines, results.values(), strict=True):
            fractions, scores = line.get_data()
            np.testing.assert_allclose(fractions, np.arange(9) / 8)
            np.testing.assert_allclose(scores, getattr(result, curve)[1])
    assert insertion.get_ylabel() == "probability"


def test_the_legends_have_areas_and_the_best_first(results):
    for axes, curve, higher in zip(
        curves_figure(results, 0).axes, ("insertion", "deletion"), (True, False), strict=True
    ):
        areas = {name: float(getattr(result, curve)[0]) for name, result in results.items()}
        order = sorted(areas, key=areas.get, reverse=higher)
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == [f"{areas[name]:.3f}  {name}" for name in order]


def test_results_with_different_scores_have_no_common_name_for_them(results, maps):
    logits = insertion_deletion(
        small_network(), images(), maps["one"], 0.0, target=1, score="logit", return_curves=True
    )
    both = {"softmax": results["one"], "logit": logits}
    assert curves_figure(both).axes[0].get_ylabel() == "score"
    assert curves_figure(logits).axes[0].get_ylabel() == "output"


def test_pictures_stand_below_with_the_score_of_each(results, maps):
    figure = curves_figure(results, 1, inputs=images(), attributions=maps, baselines=0.0)
    assert titles(figure)[2:] == [
        f"{share}% {done}" for done in ("inserted", "deleted") for share in (10, 25, 50)
    ]
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 12
    expected = replaced_images(images(), maps["one"], 0.0)["insertion"][1]
    for axes, image in zip(panels[:3], expected, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), image.permute(1, 2, 0), atol=1e-6)
    assert figure.subfigs[1].get_supxlabel() == "below each image: its probability"
    # Of 8 steps, the second is at 25%.
    assert panels[1].get_xlabel() == f"{float(results['one'].insertion_curve[1, 2]):.3f}"


def test_one_method_needs_no_name(maps):
    model = small_network()
    inputs = images()
    result = insertion_deletion(
        model, inputs, maps["one"], inputs / 2, target=1, n_steps=4, return_curves=True
    )
    figure = curves_figure(result, 1, inputs=inputs, attributions=maps["one"], baselines=inputs / 2)
    assert len([axes for axes in figure.axes if axes.images]) == 6


def test_a_baseline_of_the_whole_batch(maps):
    def mean(inputs):
        return inputs.mean(0, keepdim=True)

    inputs = images()
    result = insertion_deletion(
        small_network(), inputs, maps["one"], mean, target=1, n_steps=4, return_curves=True
    )
    options = {"attributions": maps["one"], "fractions": [0.25]}
    figure = curves_figure(result, 1, inputs=inputs, baselines=mean, **options)
    panels = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    gone = maps["one"][1] >= maps["one"][1].flatten().sort(descending=True).values[15]
    expected = (
        torch.where(gone, inputs[1], inputs.mean(0)),
        torch.where(gone, inputs.mean(0), inputs[1]),
    )
    for panel, image in zip(panels, expected, strict=True):
        np.testing.assert_allclose(panel, image.permute(1, 2, 0), atol=1e-6)


def test_replaced_images_have_so_many_of_the_most_important_pixels():
    image = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    found = replaced_images(image, image, 0.0, [0.0, 0.25, 1.0])
    assert found["insertion"].shape == (1, 3, 1, 4, 4)
    assert found["insertion"][0, 1].flatten().tolist() == [0.0] * 12 + [13, 14, 15, 16]
    assert found["deletion"][0, 1].flatten().tolist() == [*range(1, 13), 0, 0, 0, 0]
    assert torch.equal(found["insertion"][0, 2], image[0])
    assert torch.equal(found["deletion"][0, 0], image[0])


def test_replaced_images_are_those_that_are_scored():
    scored = []

    def model(inputs):
        scored.extend(inputs.clone())
        return inputs.sum((1, 2, 3))

    inputs, attribution = images(1), torch.rand(1, 1, 8, 8)
    insertion_deletion(model, inputs, attribution, n_steps=4)
    for image in replaced_images(inputs, attribution, fractions=[0.25, 0.5])["deletion"][0]:
        assert any(torch.equal(image, other) for other in scored)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        # 16 patches of 2 x 2 of an image of 8 x 8: 4 are a quarter of them, 1 a tenth.
        ({"patch_size": 2, "n_steps": 16}, [1 / 16, 4 / 16]),
        # 9 patches of 3 x 3 and, at two borders, smaller. A tenth of 9 are none, a quarter 2.
        ({"patch_size": 3, "n_steps": 9}, [0, 15 / 64]),
        # 20 pixels of 2, then 44 of 1: 0 is the nearest end to 6 pixels, 20 to 16.
        ({"ties": "group", "n_steps": 64}, [0, 20 / 64]),
    ],
)
def test_what_is_shown_is_what_was_scored(options, shown):
    attribution = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    if "ties" in options:
        attribution = 1.0 + (attribution >= attribution.flatten().sort().values[-20])
    else:
        size = options["patch_size"]  # the first patch, then the last of its row, then the others
        attribution[..., :size, :size], attribution[..., :size, 2 * 3 :] = 3, 2
    inputs = images(1).abs() + 1
    result = insertion_deletion(
        lambda x: (x != 0).double().mean((1, 2, 3)),  # the share of the pixels that are there
        inputs,
        attribution,
        0.0,
        return_curves=True,
        **options,
    )
    figure = curves_figure(
        result, inputs=inputs, attributions=attribution, baselines=0.0, fractions=[0.1, 0.25]
    )
    panels = [axes for axes in figure.axes if axes.images]
    shares = [(axes.images[0].get_array() != 0).any(-1).mean() for axes in panels[:2]]
    assert shares == pytest.approx(shown)
    wanted = [f"{share:.3f}" for share in [*shown, *(1 - share for share in shown)]]
    assert [axes.get_xlabel() for axes in panels] == wanted
    if "patch_size" in options:
        found = panels[1].images[0].get_array()[: options["patch_size"], : options["patch_size"]]
        assert (found != 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_map_that_ranks_nothing(results, maps, value):
    broken = maps["one"].clone()
    broken[1, 0, 3, 3] = value
    with pytest.raises(ValueError, match=r"^attributions holds NaN or inf in sample 1"):
        replaced_images(images(), broken)
    options = {"inputs": images(), "baselines": 0.0}
    methods = {"other": maps["other"], "one": broken}
    with pytest.raises(ValueError, match=r"^attributions\['one'\] holds NaN or inf in sample 1"):
        curves_figure(results, 1, attributions=methods, **options)
    with pytest.raises(ValueError, match=r"^attributions holds NaN or inf in sample 1"):
        curves_figure(results["one"], 1, attributions=broken, **options)
    # The other sample has nothing to do with it.
    figure = curves_figure(results, 0, attributions=methods, **options)
    assert len([axes for axes in figure.axes if axes.images]) == 12


def test_bad_arguments(results, maps):
    without = {name: replace(result, fractions=None) for name, result in results.items()}
    with pytest.raises(ValueError, match=r"results\['one'\] has no curves: pass return_curves"):
        curves_figure(without)
    with pytest.raises(TypeError, match="must be a result of insertion_deletion, got Tensor"):
        curves_figure(torch.ones(3))
    with pytest.raises(ValueError, match="sample 2 is out of range: pass 0 to 1"):
        curves_figure(results, 2)
    with pytest.raises(ValueError, match="attributions is missing"):
        curves_figure(results, inputs=images())
    with pytest.raises(ValueError, match="attributions has 'third', but results has"):
        curves_figure(results, inputs=images(), attributions={"third": maps["one"]})
    with pytest.raises(
        TypeError, match="attributions must be a dict by method, as results is, got"
    ):
        curves_figure(results, inputs=images(), attributions=maps["one"])
    with pytest.raises(TypeError, match="attributions must be one tensor, got dict"):
        curves_figure(results["one"], inputs=images(), attributions=maps)
    with pytest.raises(ValueError, match="inputs has 3 samples, but the results have 2"):
        curves_figure(results, inputs=images(3), attributions=maps)
    with pytest.raises(ValueError, match="results is empty"):
        curves_figure({})
    with pytest.raises(ValueError, match="fractions must be from 0 to 1, got 10"):
        replaced_images(images(), maps["one"], fractions=[10])
    for fractions, message in (
        ([], "0 entries"),
        ([0.1] * 6, "6 entries, and there is room for 1"),
    ):
        with pytest.raises(ValueError, match=f"fractions has {message}"):
            curves_figure(results, inputs=images(), attributions=maps, fractions=fractions)
    with pytest.raises(TypeError, match="fractions must be a list of numbers"):
        curves_figure(results, inputs=images(), attributions=maps, fractions=0.5)
    with pytest.raises(ValueError, match="fractions is empty"):
        replaced_images(images(), maps["one"], fractions=[])
    with pytest.raises(ValueError, match="inputs must be images"):
        replaced_images(torch.rand(2, 3), torch.rand(2, 3))
    with pytest.raises(ValueError, match="ties must be 'stable' or 'group', got 'random'"):
        replaced_images(images(), maps["one"], ties="random")
    with pytest.raises(TypeError, match="inputs must be a tensor, got a NumPy array"):
        replaced_images(images().numpy(), maps["one"])
    with pytest.raises(TypeError, match="attributions must be a tensor, got a NumPy array"):
        replaced_images(images(), maps["one"].numpy())
    with pytest.raises(TypeError, match="attributions must be a tensor, got NoneType"):
        replaced_images(images(), None)
    with pytest.raises(TypeError, match="baselines must be a tensor, a number or a callable"):
        replaced_images(images(), maps["one"], "blur")


def test_a_fraction_of_a_whole_number_of_pixels_is_that_number():
    # As floats, 0.29 * 100 is 28.999999999999996.
    image = torch.arange(1.0, 101.0).reshape(1, 1, 10, 10)
    for percent in range(101):
        found = replaced_images(image, image, 0.0, [percent / 100])
        assert int((found["deletion"] == 0).sum()) == percent
