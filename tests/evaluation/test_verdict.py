"""The sentence below a table says what the paired differences say, and no more."""

import csv
import io

import numpy as np
import pytest

from captum_tgrad.evaluation.report.evaluation import as_csv, page
from captum_tgrad.evaluation.report.markdown import markdown
from captum_tgrad.evaluation.report.summary import summarize
from captum_tgrad.evaluation.report.table import table_of, text_table
from captum_tgrad.evaluation.report.verdict import FEWEST_IMAGES, steps_or_images, verdict
from captum_tgrad.evaluation.storage.records import KEYS
from captum_tgrad.metrics.registry import LOCALIZATION_NUMBERS, NUMBERS

TITLES = {"t_grad": "T-Grad", "grad_cam": "Grad-CAM", "full_grad": "FullGrad", "random": "Random"}
TITLES |= {f"other_{number}": f"Other {number}" for number in range(3)}


def summary_of(differences, images=20, further=()):
    """Of methods whose Insertion - Deletion is T-Grad's plus the given on every image."""
    records = [
        {
            "image": f"{image:03}",
            "method": name,
            **dict.fromkeys(KEYS[2:], 0.5),
            **dict.fromkeys(further, 0.25),
            "difference": 0.1 * (image % 7) + difference * (1 + image % 3),
        }
        for name, difference in {"t_grad": 0.0, **differences}.items()
        for image in range(images)
    ]
    return summarize(records, [], {name: TITLES[name] for name in ("t_grad", *differences)}, {})


def test_ahead_of_the_others_that_ran():
    found = summary_of({"grad_cam": -0.1, "random": -0.3}, 300)
    said = "Grad-CAM and Random in Insertion - Deletion on 300 images."
    assert verdict(found) == f"T-Grad is ahead of {said}"
    found["methods"]["full_grad"] = {**found["methods"]["random"], "images": 0}
    assert verdict(found) == f"T-Grad is ahead of {said}"
    found = verdict(summary_of({"grad_cam": 0.1, "random": 0.3}, 300))
    assert found == f"T-Grad is behind {said}"


def test_two_methods_that_cannot_be_told_apart():
    found = verdict(summary_of({"grad_cam": 0.0}))
    expected = (
        "T-Grad and Grad-CAM do not differ significantly in Insertion - Deletion on 20 images."
    )
    assert found == expected


def test_up_to_three_methods_are_named():
    found = verdict(summary_of({"grad_cam": 0.0, "full_grad": 0.0}))
    assert found == (
        "T-Grad does not differ significantly from Grad-CAM and FullGrad in Insertion - Deletion"
        " on 20 images."
    )
    found = verdict(summary_of({"grad_cam": 0.1, "full_grad": 0.2, "random": 0.3}))
    assert found.startswith("T-Grad is behind Grad-CAM, FullGrad and Random in ")


def test_some_of_each():
    found = verdict(summary_of({"grad_cam": 0.0, "full_grad": 0.2, "random": -0.3}))
    assert found == (
        "T-Grad is ahead of Random, is behind FullGrad, and does not differ significantly from"
        " Grad-CAM, in Insertion - Deletion on 20 images."
    )
    many = {"random": -0.3, **dict.fromkeys(("other_0", "other_1", "other_2"), -0.1)}
    assert "is ahead of 4 methods, and" in verdict(summary_of({**many, "grad_cam": 0.0}))


def test_few_images_have_no_verdict():
    assert 2 * 0.5 ** (FEWEST_IMAGES - 1) > 0.05 > 2 * 0.5**FEWEST_IMAGES
    for images, begin in (
        (1, "One image is too few to rank methods"),
        (5, "5 images are too few to rank methods"),
    ):
        assert verdict(summary_of({"grad_cam": -0.1}, images)).startswith(begin)
    assert "T-Grad is ahead of Grad-CAM in" in verdict(summary_of({"grad_cam": -0.1}, 6))


def test_only_images_that_both_methods_have_count():
    def without(images):
        kept = [each for each in records if each["method"] != "random" or each["image"] in images]
        return verdict(summarize(kept, [], TITLES, {}))

    records = [
        {"image": image, "method": name, **dict.fromkeys(KEYS[2:], 0.5), "difference": difference}
        for name, difference in (("t_grad", 0.3), ("grad_cam", 0.2), ("random", 0.1))
        for image in "abcdefghij"
    ]
    said = "T-Grad is ahead of Grad-CAM and Random in Insertion - Deletion on"
    assert without("abcdefghij") == f"{said} 10 images."
    assert without("abcdefg") == f"{said} 7 images."
    assert without("ab").startswith("2 images are too few to rank methods")


def test_nothing_to_compare():
    assert "is the only method" in verdict(summary_of({}))
    summary = summary_of({"grad_cam": -0.1})
    del summary["methods"]["t_grad"]
    assert "No verdict" in verdict(summary)
    assert verdict(summarize([], [], TITLES, {})) == "No image was evaluated."


def test_the_verdict_is_that_of_the_intervals():
    generator = np.random.default_rng(0)
    for _ in range(5):
        summary = summary_of({"grad_cam": float(generator.normal(scale=0.02))})
        cell = summary["methods"]["grad_cam"]["minus_t_grad"]["difference"]
        told_apart = not cell["low"] <= 0 <= cell["high"]
        assert ("do not differ significantly" in verdict(summary)) != told_apart
        assert verdict(summary) in markdown(page(summary))


@pytest.mark.parametrize(("of_a_mean", "what"), [(0.2, "images"), (0.21, "steps")])
def test_what_would_narrow_the_intervals(of_a_mean, what):
    numbers = [(0.3, 0.2, 0.4), (0.3, 0.1, 0.5), (None, None, None)]
    cells = [dict(zip(("mean", "low", "high"), each, strict=True)) for each in numbers]
    methods = {str(n): {"images": 2, "difference": cell} for n, cell in enumerate(cells)}
    summary = {
        "images": 2,
        "methods": {**methods, "skipped": {"images": 0}},
        "steps": {"of_an_image": 0.5, "of_a_mean": of_a_mean},
    }
    assert steps_or_images(summary) == (
        "With half the steps, Insertion - Deletion changes by 0.5000 per image (root mean square),"
        f" and the mean of a method by at most {of_a_mean:.4f}. The intervals over images are"
        f" ±0.200. Use more {what} for more precision."
    )
    for unknown in ({"images": 1}, {"steps": None}, {"methods": {"2": methods["2"]}}):
        assert steps_or_images(summary | unknown) == ""


@pytest.mark.parametrize("width", [60, 100])
def test_a_text_table_fits_and_has_every_number(width):
    summary = summary_of(dict.fromkeys([*TITLES][1:], -0.1), further=LOCALIZATION_NUMBERS)
    summary["methods"]["random"]["title"] = "A method with \x1b a very long name, and more of it"
    table = table_of(summary, brief=True)
    lines = text_table(table, width).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("Grad-CAM ")]
    numbers = [cell.rstrip("*") for row in rows for cell in row.split()[1:]]
    assert numbers == [cell for row in table.rows if row[0] == "Grad-CAM" for cell in row[1:]]
    assert len(numbers) == len([*NUMBERS, *LOCALIZATION_NUMBERS]) + 1
    assert not any("\x1b" in line for line in lines)
    (ours,) = [line for line in lines if line.startswith("T-Grad") and "*" in line]
    assert ours.split().count("0.285*") == 1  # (2 * 2.1 + 1.5) / 20
    assert any(line.startswith("A method with ") and "very..." in line for line in lines)


def test_a_text_table_has_as_few_parts_as_fit():
    table = table_of(summary_of({"grad_cam": -0.1}), brief=True)
    whole = text_table(table, 1000)
    assert whole.count("Method ") == 1
    width = max(map(len, whole.splitlines()))
    assert text_table(table, width) == whole
    assert text_table(table, width - 1).count("Method ") == 2
    assert text_table(table, 1).count("Method ") == len(table.headings) - 1  # a column each


def test_a_brief_table_has_no_reasons_and_counts_only_where_methods_differ():
    summary = summary_of({"grad_cam": 0.0})
    assert "Images" not in table_of(summary, brief=True).headings
    assert table_of(summary).headings[-1] == "Images"
    assert "Images" not in table_of(summary_of({"grad_cam": 0.0}, 1)).headings
    reason = [{"image": "a", "method": "random", "reason": "no layer"}]
    records = [{"image": "a", "method": "t_grad", **dict.fromkeys(KEYS[2:], 0.5)}] * 2
    records[1] = {**records[1], "image": "b"}
    table = table_of(summarize(records, reason, TITLES, {}), brief=True)
    assert table.headings[-1] == "Images"
    (row,) = [row for row in table.rows if row[0] == "Random"]
    assert row[1:] == ["-"] * (len(NUMBERS) + 1) + ["0"]


def test_the_csv_has_the_numbers_of_the_summary():
    summary = summary_of({"grad_cam": -0.1})
    rows = list(csv.DictReader(io.StringIO(as_csv(summary))))
    assert len(rows) == 2 * (len(NUMBERS) + 1)
    (row,) = [row for row in rows if (row["method"], row["metric"]) == ("grad_cam", "difference")]
    cell = summary["methods"]["grad_cam"]["difference"]
    assert (row["title"], row["higher_is_better"], row["images"]) == ("Grad-CAM", "True", "20")
    assert [float(row[key]) for key in ("mean", "low", "high")] == [
        cell[key] for key in ("mean", "low", "high")
    ]
    paired = summary["methods"]["grad_cam"]["minus_t_grad"]["difference"]
    assert float(row["minus_t_grad_high"]) == paired["high"]
    assert {row["minus_t_grad_mean"] for row in rows if row["method"] == "t_grad"} == {""}
    assert {row["higher_is_better"] for row in rows if row["metric"] == "seconds"} == {"False"}
