"""The images of a report are those that the records say, with the maps of before."""

import pytest
import torch

from captum_tgrad.evaluation import METHODS, evaluate
from captum_tgrad.evaluation.report.shown_images import chosen_images, draw_images
from captum_tgrad.evaluation.running.timed_method import TimedMethod
from captum_tgrad.evaluation.samples import Samples
from tests.evaluation.networks import classifier, images, network

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]


def _records(differences):
    return [
        {"image": image, "method": method, "difference": value, "target": 1}
        for image, values in differences.items()
        for method, value in zip(("t_grad", "grad_cam", "random"), values, strict=False)
    ]


def test_the_best_the_worst_and_the_most_disputed():
    records = _records(
        {"a": (0.9, 0.8, 0.0), "b": (-0.2, 0.0, 0.9), "c": (0.1, 0.7, 0.4), "d": (0.4, 0.5, -9.0)}
    )
    found = chosen_images(records, {"a", "b", "c", "d"})
    assert [(kind, image) for kind, image, _ in found] == [
        ("Best", "a"),
        ("Worst", "b"),
        ("Most disputed", "c"),
    ]
    # (0.9 + 0.8) / 2, (-0.2 + 0) / 2, and half of 0.7 - 0.1
    for (_, _, reason), value in zip(found, ("0.850", "0.100", "0.300"), strict=True):
        assert value in reason


def test_images_that_lack_a_method_or_cannot_be_loaded_are_not_chosen():
    records = _records({"a": (0.9,), "b": (0.1, 0.2), "c": (0.3, 0.4), "d": (0.5, None)})
    assert [image for _, image, _ in chosen_images(records, {"a", "b", "d"})] == ["b"]
    assert chosen_images(records, set()) == []
    assert chosen_images([], {"a"}) == []
    only = [each for each in _records({"a": (0, 0, 0.5)}) if each["method"] == "random"]
    assert [image for _, image, _ in chosen_images(only, {"a"})] == ["a"]


def _draw(model, data, names, records):
    methods = {
        name: TimedMethod(METHODS[name], model, torch.zeros(3, 16, 16), 8, 8) for name in names
    }
    titles = {name: {"title": name} for name in names}
    summary = {"methods": titles, "protocol": {"seed": 0}}
    return draw_images(records, summary, Samples(data), methods, torch.device("cpu"), None)


def test_the_maps_are_those_of_the_method(monkeypatch):
    from captum_tgrad.evaluation.report import shown_images as module

    drawn = {}
    monkeypatch.setattr(
        module, "methods_figure", lambda image, maps, **options: drawn.update({id(image): maps})
    )
    data, model = [*images(3)], network()
    records = evaluate(model, data, ["saliency", "random"], n_steps=2).records
    shown = list(_draw(model, data, ["saliency", "random"], records))
    assert len(shown) == len(drawn) == 3
    for heading, _, _ in shown:
        index = int(heading.split(": ")[1])
        target = next(record["target"] for record in records if record["image"] == str(index))
        inputs = data[index][None].clone().requires_grad_()
        model(inputs)[0, target].backward()
        (found,) = [maps for maps in drawn.values() if _is_of(maps, inputs.grad.abs().sum(1))]
        scores = [float(key.split(": ")[1]) for key in found]
        assert scores == sorted(scores, reverse=True)


def test_a_method_whose_scores_are_missing_is_not_drawn(monkeypatch):
    from captum_tgrad.evaluation.report import shown_images as module

    drawn = []
    monkeypatch.setattr(
        module, "methods_figure", lambda image, maps, **options: drawn.append([*maps])
    )
    of_two = zip(("saliency", "random"), (0.5, None), strict=True)
    records = [
        {"image": "0", "method": method, "difference": value, "target": 1}
        for method, value in of_two
    ]
    shown = _draw(network(), images(1), ["saliency", "random"], records)
    assert [heading for heading, _, _ in shown] == ["Best image: 0"]
    assert drawn == [["saliency: 0.50"]]


def _is_of(maps, expected):
    (found,) = [each for key, each in maps.items() if key.startswith("saliency")]
    return torch.allclose(found[0, 0], expected[0], atol=1e-5)


def test_the_report_shows_them_also_after_a_resumed_run(tmp_path):
    for _ in range(2):
        evaluate(classifier(), [*images(4)], ["t_grad", "random"], tmp_path, resume=True, n_steps=2)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        for kind in ("Best", "Worst", "Most disputed"):
            assert page.count(f"{kind} image: ") >= 2
    two = [torch.rand(2, 8, 8) for _ in range(2)]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(128, 3)).eval()
    evaluate(model, two, ["t_grad"], tmp_path / "two", n_steps=2)
    assert "Best image" not in (tmp_path / "two/report.html").read_text(encoding="utf-8")
