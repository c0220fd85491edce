"""Localization in an evaluation: its columns in records, summary, table, figure and report."""

import json
import math
import warnings

import pytest
import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import Method, OutputError, evaluate
from captum_tgrad.evaluation.regions import region_of
from captum_tgrad.evaluation.report.evaluation import page
from captum_tgrad.evaluation.report.markdown import markdown
from captum_tgrad.metrics import energy_in_mask, mass_accuracy, pointing_game, rank_accuracy
from captum_tgrad.metrics.registry import LOCALIZATION_NUMBERS
from tests.evaluation.networks import classifier, images

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings("ignore:(The baseline keeps|More than a quarter|Constant)"),
]

MASK = torch.zeros(16, 16, dtype=torch.bool)
MASK[2:5, 1:7] = True
BOX = torch.tensor([[1.0, 2.0, 7.0, 5.0]])
METRICS = [pointing_game, energy_in_mask, mass_accuracy, rank_accuracy]


class Pictures:
    """Images with names."""

    names = ("a", "b", "c")

    def __init__(self):
        self.tensors = images(3)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.tensors[index]


def _ones(inputs, *further):
    return torch.ones_like(inputs), None


def _evaluate(regions, out=None, methods=("t_grad", "random"), **options):
    return evaluate(
        classifier(), Pictures(), list(methods), out, n_steps=4, regions=regions, **options
    )


@pytest.mark.parametrize("width", [3, 4])
def test_masks_and_boxes_of_one_image(width):
    mask = torch.zeros(5, width, dtype=torch.bool)
    mask[1:3, :2] = True
    box = [0.0, 1.0, 2.0, 3.0]
    # Without a dtype of masks, four columns are boxes.
    masks = [mask, mask[None], *([mask.double()] if width != 4 else [])]
    for region in (*masks, box, [box], torch.tensor(box), torch.tensor([box])):
        assert torch.equal(region_of({"a": region}, "a", mask.shape), mask[None])
    assert region_of({"a": mask}, "b", mask.shape) is None
    assert region_of(None, "a", mask.shape) is None


def test_constant_maps_are_warned_of_by_the_curves_alone():
    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        _evaluate({"a": MASK}, methods=[Method("flat", "Flat", "", lambda model, black: _ones)])
    texts = [str(each.message) for each in issued if "Constant maps" in str(each.message)]
    assert sorted(text.split(": ")[1].split(".")[0] for text in texts) == [
        "everything is masked",
        "their features are replaced in raster order",
    ]


def test_regions_outside_of_the_input_are_warned_of():
    said = r"regions of 2 of 3 images have no pixel in the model's input.*--resize pad"
    with pytest.warns(UserWarning, match=said):
        found = _evaluate({"a": MASK, "b": MASK & False, "c": MASK & False}, methods=["random"])
    assert [record["energy_in_mask"] is None for record in found.records] == [False, True, True]


def test_numbers_are_those_of_the_metrics_and_missing_where_no_region_is_known():
    found = _evaluate({"a": MASK, "b": BOX})
    by_pair = {(record["image"], record["method"]): record for record in found.records}
    for name in ("a", "b"):
        index = Pictures.names.index(name)
        record = by_pair[name, "t_grad"]
        each = TGradAttribution(classifier().model).attribute(
            Pictures()[index][None], target=record["target"]
        )
        for metric in METRICS:
            expected = getattr(metric(each, MASK[None]), metric.__name__).item()
            assert record[metric.__name__] == pytest.approx(expected, abs=1e-5)
    for method in ("t_grad", "random"):
        assert all(by_pair["c", method][name] is None for name in LOCALIZATION_NUMBERS)
    cells = found.summary["methods"]["random"]
    assert cells["energy_in_mask"]["images"] == 2
    values = [by_pair[name, "random"]["energy_in_mask"] for name in ("a", "b")]
    assert cells["energy_in_mask"]["mean"] == pytest.approx(sum(values) / 2)
    assert cells["minus_t_grad"]["energy_in_mask"]["images"] == 2
    assert found.summary["higher_is_better"]["pointing_game"] is True


def test_columns_of_table_report_and_figure(tmp_path):
    found = _evaluate({"a": BOX, "b": BOX}, tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert table == found.table == markdown(page(found.summary))
    heading = next(line for line in table.splitlines() if line.startswith("| Method"))
    cells = [cell.strip() for cell in heading.strip("|").split("|")]
    assert cells[6:10] == [
        "Pointing Game ↑",
        "Energy in Mask ↑",
        "Mass Accuracy ↑",
        "Rank Accuracy ↑",
    ]
    assert "Energy in Mask" in (tmp_path / "report.html").read_text()
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert all(set(LOCALIZATION_NUMBERS) <= record.keys() for record in records)
    assert "Energy in Mask" in found._repr_html_()

    from captum_tgrad.visualization.evaluation_figures import metrics_figure

    titles = [axes.get_title() for axes in metrics_figure(found.summary).axes]
    assert "Rank Accuracy (higher is better)" in titles


def test_without_regions_nothing_is_added(tmp_path):
    found = _evaluate(None, tmp_path)
    assert "Pointing" not in found.table
    assert not any(name in record for record in found.records for name in LOCALIZATION_NUMBERS)
    assert "regions" not in json.loads((tmp_path / "protocol.json").read_text())


def test_other_regions_are_not_mixed_in(tmp_path):
    regions = {"a": BOX, "b": BOX}
    _evaluate(regions, tmp_path, limit=1)
    resumed = _evaluate(regions, tmp_path, limit=1, resume=True)
    assert len(resumed.records) == 2
    for other, said in (
        ({"a": BOX + 1, "b": BOX}, "the region of a has changed"),
        ({"b": BOX, "c": BOX}, "the region of a has changed"),
        (None, "regions was"),
    ):
        with pytest.raises(OutputError, match=said):
            _evaluate(other, tmp_path, limit=2, resume=True)


def test_more_images_and_regions_can_be_added(tmp_path):
    _evaluate({"a": BOX}, tmp_path, limit=2)
    resumed = _evaluate({"a": BOX, "c": MASK}, tmp_path, resume=True)
    assert len(resumed.records) == 6
    assert resumed.summary["methods"]["t_grad"]["energy_in_mask"]["images"] == 2
    with pytest.raises(OutputError, match="the region of b has changed"):
        _evaluate({"a": BOX, "b": BOX, "c": MASK}, tmp_path, resume=True)


def test_regions_of_records_without_a_digest_stay_as_they_were(tmp_path):
    _evaluate({"a": BOX}, tmp_path, limit=1)
    path = tmp_path / "records.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        del record["region"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert len(_evaluate({"a": BOX}, tmp_path, ["saliency"], limit=1, resume=True).records) == 3
    with pytest.raises(OutputError, match="regions was"):
        _evaluate({"a": BOX, "b": BOX}, tmp_path, limit=2, resume=True)


@pytest.mark.filterwarnings("ignore:The regions of 1 of 3 images have no pixel")
def test_an_image_whose_region_does_not_fit_is_skipped():
    found = _evaluate({"a": torch.tensor([[0.0, 0.0, 99.0, 2.0]]), "b": BOX, "c": BOX[:0]})
    assert {record["image"] for record in found.records} == {"b", "c"}
    assert [each["image"] for each in found.skipped] == ["a"]
    assert found.skipped[0]["reason"].startswith("regions['a'] has a box (0.0, 0.0, 99.0, 2.0)")
    assert "is not in an image of height 16 and width 16" in found.skipped[0]["reason"]
    empty = next(record for record in found.records if record["image"] == "c")
    assert empty["energy_in_mask"] is None


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (None, "must be a mask or boxes, got NoneType"),
        ("a box", "must be a mask or boxes, got str"),
        (MASK.numpy(), "must be a mask or boxes, got a NumPy array"),
        ([[1, 2, 3, 4], [1, 2]], r"must hold numbers, \(x0, y0, x1, y1\)"),
    ],
)
def test_what_is_no_region_is_named(region, said):
    with pytest.raises(TypeError, match=rf"regions\['b'\] {said}"):
        _evaluate({"a": MASK, "b": region})


def test_an_image_whose_region_does_not_fit_is_not_explained():
    explained = []

    def compute(inputs, target):
        explained.extend(inputs)
        return inputs

    regions = {"a": torch.tensor([[0.0, 0.0, 99.0, 2.0]]), "b": BOX, "c": MASK[:8]}
    _evaluate(regions, methods=[Method("own", "Own", "", lambda model, black: compute)])
    assert all(torch.equal(each, Pictures()[1]) for each in explained)


def test_a_constant_map_is_what_chance_gives():
    method = Method("flat", "Flat", "", lambda model, black: _ones)
    found = _evaluate(dict.fromkeys(Pictures.names, BOX), methods=[method])
    assert found.summary["methods"]["flat"]["energy_in_mask"]["mean"] == pytest.approx(18 / 256)
    assert not math.isnan(found.records[0]["pointing_game"])


def test_bad_regions():
    with pytest.raises(TypeError, match="regions must be a mapping"):
        _evaluate([BOX])
    with pytest.raises(ValueError, match="regions has no image of the data set"):
        _evaluate({"z": BOX})
