"""A report is one file that says everything, and fits where it is read."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from captum_tgrad.visualization import Report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def _figure() -> Figure:
    figure = Figure(figsize=(10.5, 4))
    figure.subplots().plot([0, 1])
    return figure


@pytest.fixture
def report() -> Report:
    report = Report("Cups & <cats>", "What was seen.")
    report.section("Scores")
    report.text("One paragraph.\n\nAnother with a_very_long_name." + "_that_goes_on" * 20)
    names = [f"a column of numbers {number}" for number in range(9)]
    rows = [[f"method {row}", *(f"{row}.{place}" for place in range(9))] for row in range(12)]
    report.table(["method", *names], rows, caption="Higher is better", best={names[0]: [11]})
    report.figure(_figure(), "A line that rises.", "Fig. 1")
    report.section("Protocol")
    report.protocol({"n_steps": 224, "baseline": {"insertion": "blur"}, "sizes": [224, 224]})
    return report


class _Tags(HTMLParser):
    """Checks that tags are closed in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(report):
    page = report.html()
    tags = _Tags()
    tags.feed(page)
    assert not tags.open
    names = [tag for tag, _ in tags.seen]
    assert not {"script", "link", "iframe"} & set(names)
    assert not re.search(r"https?://|url\(|@import", page)
    assert all(
        attributes["src"].startswith("data:") for tag, attributes in tags.seen if tag == "img"
    )
    assert {"header", "main", "nav", "figure", "figcaption", "caption", "dl"} <= set(names)
    assert "Cups &amp; &lt;cats&gt;" in page


def test_sections_are_linked(report):
    report.section("Scores")
    page = report.html()
    for anchor in ("scores", "protocol", "scores-2"):
        assert f'href="#{anchor}"' in page
        assert f'id="{anchor}"' in page


def test_tables_and_protocols_say_everything(report):
    page = report.html()
    assert '<th scope="row">method 3</th><td>3.0</td>' in page
    assert '<td class="best">11.0</td>' in page
    assert "<dt>n steps</dt><dd>224</dd>" in page
    assert "<dd>insertion: blur</dd>" in page
    assert "<dd>224, 224</dd>" in page


def test_figures_are_inside_with_a_description(report):
    page = report.html()
    (encoded,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert picture.size == (1155, 440)
    assert 'alt="A line that rises."' in page
    assert "<figcaption>Fig. 1</figcaption>" in page


def test_the_same_report_is_the_same_file(report, tmp_path):
    report.write(tmp_path / "one.html")
    report.write(tmp_path / "other.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()


def test_bad_arguments(report):
    with pytest.raises(TypeError, match="must be a matplotlib Figure, got str"):
        report.figure("figure", "words")
    with pytest.raises(ValueError, match="description is empty"):
        report.figure(_figure(), " ")
    with pytest.raises(ValueError, match="row 1 has 1 cells for 2 columns"):
        report.table(["a", "b"], [[1, 2], [1]])
    with pytest.raises(ValueError, match="best has 'c', which is not a column: a, b"):
        report.table(["a", "b"], [[1, 2]], best={"c": [0]})


# The page that holds the report in a frame of a phone's or a desk's width, and measures it.
_MEASURE = """<!DOCTYPE html><body><iframe id="f" style="width:{width}px;height:900px;border:0"
 src="report.html"></iframe><pre id="out"></pre><script>
onload = () => {{ const d = document.getElementById("f").contentDocument;
 const root = d.documentElement, image = d.querySelector("img");
 document.getElementById("out").textContent = JSON.stringify({{scroll: root.scrollWidth,
 width: root.clientWidth, image: image.getBoundingClientRect().width, loaded: image.naturalWidth,
 size: parseFloat(getComputedStyle(d.querySelector("td")).fontSize)}}); }};</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser_nothing_is_wider_than_the_page(report, tmp_path, width):
    report.write(tmp_path / "report.html")
    (tmp_path / "measure.html").write_text(_MEASURE.format(width=width))
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,1000",
            "--virtual-time-budget=3000",
            "--dump-dom",
            f"file://{tmp_path / 'measure.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    found = json.loads(re.search(r'<pre id="out">(.*?)</pre>', done.stdout)[1])
    assert found["width"] in range(width - 20, width + 1)
    assert found["scroll"] <= found["width"]
    assert found["loaded"] == 1155
    # On a phone a figure keeps its letters legible, and is moved sideways in its own box.
    assert found["image"] <= max(found["width"], 44 * 16)
    assert found["size"] >= 12


def test_a_figure_has_the_size_that_the_page_says_in_any_style():
    report = Report("A report")
    with rc_context({"savefig.bbox": "tight"}):
        report.figure(_figure(), "A line that rises.")
    (part,) = report.parts
    image = Image.open(io.BytesIO(base64.b64decode(part["image"])))
    assert image.size == (part["width"], part["height"])


def test_later_changes_to_what_was_added_do_not_change_the_report():
    report = Report("A report")
    columns, rows, best, protocol = ["method", "score"], [["one", "0.5"]], [0], {"n_steps": 8}
    report.table(columns, rows, best={"score": best})
    report.protocol(protocol)
    before = report.html()
    assert '<td class="best">0.5</td>' in before
    for values in (columns, rows[0], rows, best, protocol):
        values.clear()
    assert report.html() == before
    assert report.parts[1]["protocol"] == {"n_steps": 8}


def test_several_blank_lines_separate_paragraphs_as_one_does():
    one, several = Report("A report"), Report("A report")
    one.text("first\n\nsecond")
    several.text("\nfirst\n\n \n\nsecond\n\n")
    assert several.html() == one.html()
