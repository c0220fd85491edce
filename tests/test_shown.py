"""What results look like in a terminal and in a notebook, and what can be done with them."""

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import evaluate
from captum_tgrad.metrics import (
    average_drop,
    energy_in_mask,
    increase_in_confidence,
    insertion,
    insertion_deletion,
    road,
)
from captum_tgrad.sanity_checks import efficient_mprt
from captum_tgrad.zoo import Classifier

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
MODEL = MODEL.append(nn.Linear(64, 5)).eval()
X = torch.rand(3, 3, 6, 6)
WHOLE = TGradAttribution(MODEL).decompose(X, target=[1, 2, 3])
ARGUMENTS = (MODEL, X, torch.rand(3, 3, 6, 6))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # an untrained model keeps its score
    RESULTS = [
        WHOLE,
        WHOLE.terms[1],
        Classifier("tiny", MODEL, ("a", "b", "<b>", "d", "e"), torch.zeros_like, torch.zeros_like),
        insertion_deletion(*ARGUMENTS, target=1, n_steps=2, return_curves=True),
        insertion(*ARGUMENTS, target=1, n_steps=2),
        average_drop(*ARGUMENTS, target=1),
        increase_in_confidence(*ARGUMENTS, target=1),
        energy_in_mask(ARGUMENTS[2], torch.ones(3, 6, 6)),
        road(*ARGUMENTS, target=1, percentages=[50]),
        efficient_mprt(MODEL, TGradAttribution, X, 1),
    ]
results = pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)


@results
def test_a_repr_is_short(result):
    assert len(repr(result)) < 700
    assert repr(result).startswith(type(result).__name__)


def test_several_numbers_are_in_brackets():
    model = nn.Linear(1, 1, bias=False)
    _ = model.weight.data.fill_(2.0)
    term = TGradAttribution(model).decompose(torch.tensor([[1.0], [-0.5]])).input
    assert repr(term) == "Term('input', score [2, -1], map -)"
    assert "score 2, map" in repr(TGradAttribution(model).decompose(torch.ones(1, 1)).input)


@pytest.mark.parametrize("result", [r for r in RESULTS if hasattr(r, "_repr_html_")], ids=str)
def test_a_notebook_shows_a_table(result):
    html = result._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == html.count("</tr>") > 2


@results
def test_torch_load_reads_a_result_with_its_defaults(result, tmp_path):
    if isinstance(result, Classifier):
        pytest.skip("its weights are loaded instead")
    torch.save(result, tmp_path / "result.pt")
    assert repr(torch.load(tmp_path / "result.pt")) == repr(result)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_evaluation():
    found = evaluate(MODEL, [(x, 1) for x in X], ["saliency", "random"], n_steps=2)
    assert repr(found).startswith("Evaluation of saliency, random on 3 images, 0 skipped")
    assert found._repr_html_().count("<tr>") == 3


def test_names_in_a_table_are_text():
    model = nn.Sequential()
    model.add_module("<b>", nn.Linear(2, 2))
    html = TGradAttribution(model).decompose(torch.ones(1, 2), target=0)._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html


def test_a_decomposition_is_a_collection_of_terms():
    assert len(WHOLE) == len(WHOLE.terms) == 4
    assert list(WHOLE) == WHOLE.terms
    assert WHOLE["1"] is WHOLE.terms[2]
    assert "1" in WHOLE
    assert WHOLE.terms[2] in WHOLE
    assert "inptu" not in WHOLE
    assert 0 not in WHOLE
    other = WHOLE.to("cpu")  # of the same names and numbers
    assert other["1"] not in WHOLE
    assert other != WHOLE
    assert len({*WHOLE, *other}) == 8
    with pytest.raises(KeyError, match="term 'inptu' not found: did you mean input"):
        WHOLE["inptu"]
    with pytest.raises(TypeError, match=r"indexed by name \(str\), got int"):
        WHOLE[0]


def test_the_largest_terms():
    for sample in range(3):
        scores = [float(term.score[sample]) for term in WHOLE]
        for sign, wanted in {
            "all": sorted(scores, key=abs, reverse=True),
            "positive": sorted((s for s in scores if s > 0), reverse=True),
            "negative": sorted(s for s in scores if s < 0),
        }.items():
            found = [float(term.score[sample]) for term in WHOLE.top(2, sign, sample)]
            assert found == wanted[:2]
    with pytest.raises(ValueError, match="sign must be"):
        WHOLE.top(sign="for")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sample": 3}, ValueError, "sample 3 is out of range: pass 0 to 2"),
        ({"sample": -4}, ValueError, "sample -4 is out of range"),
        ({"sample": 1.0}, TypeError, "sample must be an integer, got float"),
        ({"sample": "1"}, TypeError, "sample must be an integer, got str"),
        ({"sample": True}, TypeError, "sample must be an integer, got bool"),
        ({"count": -1}, ValueError, "count must be an integer of 0 or more, got -1"),
        ({"count": "2"}, TypeError, "count must be an integer of 0 or more, got str"),
    ],
)
def test_the_largest_terms_of_no_sample(options, error, message):
    with pytest.raises(error, match=message):
        WHOLE.top(**options)


def test_the_last_sample_and_no_terms():
    assert WHOLE.top(sample=-1) == WHOLE.top(sample=2)
    assert WHOLE.top(0) == []


def test_the_map_of_no_input():
    for number in (1, -1, "0", None):
        with pytest.raises(ValueError, match="there are 1 inputs, from 0"):
            WHOLE.map(number=number)


def test_the_scores_as_a_data_frame():
    pytest.importorskip("pandas")
    frame = WHOLE.to_dataframe()
    assert len(frame) == 4 * 3
    sums = frame.groupby("sample")["score"].sum()
    torch.testing.assert_close(torch.tensor(sums.to_numpy()).float(), WHOLE.output)


def test_a_plot_is_a_figure():
    assert WHOLE.plot(sample=1)._repr_png_().startswith(b"\x89PNG")


def test_moved_to_another_device():
    moved = WHOLE.to("meta")
    assert moved.output.is_meta
    assert moved["1"].maps[0].positive.is_meta
    assert moved["1"].positive.is_meta
    assert WHOLE.to("cpu")["1"].score.equal(WHOLE["1"].score)


def test_what_torch_saves_it_loads_with_its_default(tmp_path):
    path = tmp_path / "whole.pt"
    torch.save(WHOLE, path)
    program = (
        "import sys, torch\nfrom captum_tgrad import Decomposition\n"
        "whole = torch.load(sys.argv[1])\nassert isinstance(whole, Decomposition)\n"
        "print(*(float((term.positive * term.score[0]).sum()) for term in whole))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert [float(number) for number in done.stdout.split()] == [
        float((term.positive * term.score[0]).sum()) for term in WHOLE
    ]
