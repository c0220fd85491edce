"""Methods compared on one picture: the numbers of the metrics, the files, and what cannot run."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as transform

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import Method, compare, evaluate
from captum_tgrad.evaluation.report.comparison import (
    draw_curves,
    draw_methods,
    page,
    write_comparison,
)
from captum_tgrad.evaluation.report.markdown import markdown
from captum_tgrad.metrics import average_drop, insertion_deletion
from captum_tgrad.zoo import Classifier, load_classifier, sample_image
from captum_tgrad.zoo.preprocessing import normalization

NAMES = ["t_grad", "saliency", "grad_cam", "random"]


def _preprocess(image: Image.Image) -> torch.Tensor:
    return transform.normalize(
        transform.to_tensor(image.resize((16, 16))), [0.5, 0.4, 0.3], [0.25, 0.5, 1.0]
    )


def _broken(model, black):
    raise RuntimeError("not on this model")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3)).eval()
    return Classifier(
        "small", model, ("cup", "cat", "hat"), _preprocess, lambda image: image.resize((16, 16))
    )


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB").rotate(30)


@pytest.fixture(scope="module")
def comparison(classifier, picture):
    methods = [*NAMES, Method("broken", "Broken", "none", _broken)]
    return compare(classifier, picture, methods, "cat", n_steps=8)


def test_the_numbers_are_those_of_the_metrics(comparison, classifier, picture):
    inputs = _preprocess(picture)[None]
    attribution = TGradAttribution(classifier.model).attribute(inputs, target=1)
    record, curves = comparison.records["t_grad"], comparison.curves["t_grad"]
    expected = attribution.sum(1, keepdim=True).detach()
    torch.testing.assert_close(comparison.maps["t_grad"], expected)
    with pytest.warns(UserWarning, match="baseline") as caught:
        areas = insertion_deletion(classifier.model, inputs, attribution, target=1, n_steps=8)
    torch.testing.assert_close(curves.difference, areas.difference)
    assert record["difference"] == pytest.approx(float(areas.difference))
    drop = average_drop(classifier.model, inputs, attribution, target=1)
    assert record["average_drop"] == pytest.approx(float(drop.average_drop))
    assert record["seconds"] > 0
    assert abs(record["residual"]) < 1e-4
    assert "residual" not in comparison.records["saliency"]
    # What the metrics warn of is kept for the reader.
    assert any(str(caught[0].message)[:40] in note for note in comparison.notes)


def test_what_cannot_run_is_named_and_the_rest_is_complete(comparison):
    assert list(comparison.records) == list(comparison.maps) == list(comparison.titles) == NAMES
    (skipped,) = comparison.summary["skipped"]
    assert (skipped["method"], skipped["reason"]) == ("broken", "RuntimeError: not on this model")
    assert "| Broken | RuntimeError: not on this model |" in markdown(page(comparison))
    assert repr(comparison) == "Comparison of t_grad, saliency, grad_cam, random for cat (1)"


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_the_numbers_are_those_of_an_evaluation_of_one_image(comparison, classifier, picture):
    found = evaluate(
        classifier,
        [(_preprocess(picture), 1)],
        ["t_grad", "saliency"],
        target="label",
        n_steps=8,
    )
    for record in found.records:
        other = comparison.records[record["method"]]
        for name in ("clean_score", "insertion", "deletion", "average_drop", "step_error"):
            assert record[name] == pytest.approx(other[name], abs=1e-6), name
    cells = comparison.summary["methods"]["t_grad"]["insertion"]
    assert cells["mean"] == comparison.records["t_grad"]["insertion"]


def test_the_target_is_the_predicted_class_unless_told(classifier, picture, comparison):
    assert (comparison.target, comparison.class_name) == (1, "cat")
    found = compare(classifier, picture, ["random"], n_steps=2)
    logits = classifier.model(_preprocess(picture)[None]).detach()
    assert found.target == int(logits.argmax())
    assert found.probability == pytest.approx(float(logits.softmax(1).max()))


def test_the_files_hold_every_method(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "new")
    paths = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in paths] == ["curves.png", "methods.png", "report.html", "table.md"]
    page, table = (path.read_text(encoding="utf-8") for path in paths[2:])
    for title in ("T-Grad", "Vanilla Gradient", "Grad-CAM", "Random"):
        assert f"| {title} | " in table
        assert f'<th scope="row">{title}</th>' in page
    assert "n_steps: 8" in table
    assert page.count("data:image/webp") == 3
    assert Image.open(paths[1]).width > 700


def test_the_best_of_a_column_is_bold(comparison):
    best = max(NAMES, key=lambda name: comparison.records[name]["insertion"])
    title = comparison.titles[best]
    (row,) = (
        line for line in markdown(page(comparison)).splitlines() if line.startswith(f"| {title} |")
    )
    assert row.split(" | ")[1] == f"**{comparison.records[best]['insertion']:#.3g}**"


def test_the_figure_of_curves_shows_the_way_of_the_reference_first(comparison):
    rows = [axes.get_ylabel() for axes in draw_curves(comparison).axes[2:] if axes.get_ylabel()]
    assert rows[0] == "T-Grad"
    assert len(rows) == 4


def test_normalization_is_what_brings_inputs_back_to_pixels(classifier):
    mean, std = normalization(classifier)
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.4, 0.3]))
    torch.testing.assert_close(std, torch.tensor([0.25, 0.5, 1.0]))


def test_normalization_of_a_built_in_classifier_is_that_of_its_pixels():
    built_in = load_classifier("efficientnet_lite0")
    image = sample_image()
    mean, std = (each[:, None, None] for each in normalization(built_in))
    pixels = transform.to_tensor(built_in.crop(image))
    torch.testing.assert_close(built_in.preprocess(image) * std + mean, pixels)


def test_a_model_that_overwrites_its_input_is_scored_on_the_picture(classifier, picture):
    found = []
    for inplace in (False, True):
        model = nn.Sequential(nn.ReLU(inplace), *classifier.model).eval()
        overwriting = replace(classifier, model=model)
        found.append(compare(overwriting, picture, ["t_grad", "eigen_cam"], n_steps=4))
    expected, comparison = found
    assert torch.equal(comparison.inputs, _preprocess(picture)[None])
    assert bool((comparison.inputs < 0).any())
    for name, record in comparison.records.items():
        torch.testing.assert_close(comparison.maps[name], expected.maps[name])
        assert record["average_drop"] == pytest.approx(expected.records[name]["average_drop"])


def test_methods_of_one_title_are_told_apart(classifier, picture, tmp_path):
    def build(model, black):
        return lambda inputs, target: inputs

    methods = [Method("one", "Same", "none", build), Method("two", "Same", "none", build)]
    methods += [Method(name, "Broken", "none", _broken) for name in ("three", "four")]
    comparison = compare(classifier, picture, methods, n_steps=2)
    found = [each["title"] for each in comparison.summary["methods"].values()]
    assert found == ["Same (one)", "Same (two)", "Broken (three)", "Broken (four)"]
    titles = [axes.get_title() for axes in draw_methods(comparison).axes]
    assert {"Same (one)", "Same (two)"} <= set(titles)


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_examples_at_once_are_those_of_evaluate(classifier, picture):
    asked_for = []

    def build(model, black):
        def compute(inputs, target, examples_at_once):
            asked_for.append(examples_at_once)
            if examples_at_once > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inputs

        return compute

    methods = [Method("listening", "Listening", "none", build)]
    comparison = compare(classifier, picture, methods, n_steps=2)
    dataset = [_preprocess(picture)]
    protocol = evaluate(classifier, dataset, ["random"], n_steps=2).summary["protocol"]
    assert protocol["examples_at_once"] == asked_for[0]
    assert comparison.summary["protocol"]["examples_at_once"] == asked_for[0]
    # What did not fit is said.
    assert set(asked_for[1:]) == {4}
    assert any("timed with 1 and 4" in note for note in comparison.notes)


def test_bad_arguments(classifier, picture):
    with pytest.raises(ValueError, match="methods is empty"):
        compare(classifier, picture, [])
    with pytest.raises(ValueError, match="none of the methods can run: Broken: RuntimeError"):
        compare(classifier, picture, [Method("broken", "Broken", "none", _broken)])
    with pytest.raises(ValueError, match="methods must be distinct"):
        compare(classifier, picture, ["random", "random"])
    with pytest.raises(ValueError, match="class 'dog' not found"):
        compare(classifier, picture, target="dog")
