"""Names from files, class lists, method files and checkpoints do no harm where they are shown."""

import csv
import json
import os
import re
import unicodedata
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad._support.printable import in_html, in_markdown, printable
from captum_tgrad.cli import resolve
from captum_tgrad.cli.main import main
from captum_tgrad.evaluation import Method, evaluate
from captum_tgrad.evaluation.methods.builders import captum_class
from captum_tgrad.visualization import Report, explanation_figure, methods_figure
from captum_tgrad.zoo.recipe import load_weights
from tests.evaluation.networks import CLASSES, classifier, images, network

pytestmark = pytest.mark.filterwarnings(
    "ignore:(The baseline keeps|More than a quarter|Constant|Glyph)"
)

NOT_UTF8 = b"caf\xe9.png"
EVIL = b"\x1b[2J\x1b]0;title\x07\n| forged | 1 | <script src=x> \xe2\x80\xae $x_{ .png"
SCRIPT = "</td><script>alert(1)</script>[link](javascript:1)"
NAMES = [NOT_UTF8, EVIL, "ordinary é.png".encode()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images with names that do harm, for the smallest of networks."""
    monkeypatch.setattr(resolve, "load_classifier", lambda *arguments, **options: classifier())
    (tmp_path / "pictures").mkdir()
    for name, picture in zip(NAMES, images(3).clamp(0, 1), strict=True):
        pixels = (255 * picture.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "pictures" / os.fsdecode(name))
    return tmp_path / "pictures"


def _assert_harmless(text: str) -> None:
    bad = [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
    assert not bad, bad
    # To HTML, a line break is a space.
    assert text.startswith("<!DOCTYPE") or "\n| forged" not in text


def _assert_harmless_page(text: str) -> None:
    _assert_harmless(text)
    assert "<script" not in text
    assert text.startswith("<!DOCTYPE") or not re.search(r"(?<!\\)\[link", text)


def test_an_evaluation_takes_such_files_as_any_others(tmp_path, folder, capfd):
    labels = tmp_path / "labels.csv"
    with labels.open("w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
        csv.writer(opened).writerows([(os.fsdecode(name), 1) for name in NAMES])
    command = ["evaluate", str(folder), "--out", str(tmp_path / "out"), "--n-steps", "2"]
    command += ["--methods", "t_grad, random", "--labels", str(labels), "--target", "label"]
    assert main(command) == 0
    lines = (tmp_path / "out/records.jsonl").read_bytes().decode("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["image"] for record in records} == {os.fsdecode(name) for name in NAMES}
    assert {record["target"] for record in records} == {1}
    assert main([*command, "--resume"]) == 0
    assert (tmp_path / "out/records.jsonl").read_bytes().decode("utf-8").splitlines() == lines
    printed = capfd.readouterr()
    _assert_harmless(printed.out + printed.err)


def test_what_is_skipped_is_shown_escaped(tmp_path, folder, capfd):
    for name in NAMES[:2]:
        (folder / os.fsdecode(name)).write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["evaluate", str(folder), "--out", str(out), "--n-steps", "2", "--methods", "random"]
    assert main(command) == 1
    printed = capfd.readouterr()
    _assert_harmless(printed.out + printed.err)
    assert r"skipped: caf\xe9.png: " in printed.err
    for file in ("table.md", "report.html"):
        text = (out / file).read_text(encoding="utf-8")
        _assert_harmless_page(text)
        assert "&lt;script src=x&gt;" in text


def test_explain_and_sanity_check_take_such_files(tmp_path, folder, capfd):
    picture = str(folder / os.fsdecode(NOT_UTF8))
    assert main(["explain", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / os.fsdecode(NOT_UTF8)).is_file()
    assert main(["sanity-check", picture, "--out", str(tmp_path / "out")]) == 0
    assert "\\xe9" in (tmp_path / "out" / "t_grad-cascading.csv").read_text(encoding="utf-8")
    assert main(["explain", f"{picture}.absent"]) == 2
    printed = capfd.readouterr()
    _assert_harmless(printed.out + printed.err)
    assert r"not found" in printed.err


def test_a_method_may_have_any_name(tmp_path):
    method = Method(f"x{SCRIPT}", f"{SCRIPT} \x1b[2J $x_{{", "", partial(captum_class, "Saliency"))
    found = evaluate(network(), images(2), ["t_grad", method], tmp_path, n_steps=2)
    _assert_harmless_page(found.table)
    _assert_harmless_page((tmp_path / "table.md").read_text(encoding="utf-8"))
    _assert_harmless_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "<script" not in found._repr_html_()


def test_classes_of_a_file_are_shown_escaped(tmp_path, folder, monkeypatch, capfd):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"{SCRIPT} \x1b[2J $x_{{ {i}" for i in range(CLASSES)))
    tiny = classifier()

    def named(model, weights, class_names, *further, **options):
        return type(tiny)("tiny", tiny.model, class_names, tiny.preprocess, tiny.crop)

    monkeypatch.setattr(resolve, "load_classifier", named)
    explained, compared = tmp_path / "explained", tmp_path / "compared"
    files = ["--class-names", str(names)]
    picture = str(folder / os.fsdecode(NOT_UTF8))
    assert main(["explain", picture, "--out", str(explained), "--layers", *files]) == 0
    assert main(["compare", picture, "--out", str(compared), "--n-steps", "2", *files]) == 0
    printed = capfd.readouterr()
    _assert_harmless(printed.out + printed.err)
    for page in (explained / "report.html", compared / "table.md", compared / "report.html"):
        _assert_harmless_page(page.read_text(encoding="utf-8"))


def test_keys_of_a_checkpoint_are_shown_escaped(tmp_path, capfd):
    torch.save({"\x1b[2J\n.weight": torch.ones(2, 2)}, tmp_path / "weights.pt")
    assert main(["explain", "--weights", str(tmp_path / "weights.pt")]) == 2
    printed = capfd.readouterr()
    assert len(printed.err.splitlines()) == 1
    _assert_harmless(printed.err)
    with pytest.raises(ValueError, match="unexpected"):
        load_weights(nn.Linear(2, 2), {"\x1b.weight": torch.ones(2, 2)}, "weights.pt")


def test_modules_of_a_model_are_shown_escaped():
    model = nn.Sequential()
    model.add_module("\x1b[2J<script>", nn.Linear(3, 2))
    decomposition = TGradAttribution(model).decompose(torch.ones(1, 3), target=0)
    _assert_harmless(repr(decomposition))
    assert "<script" not in decomposition._repr_html_()


def test_a_terminal_without_these_letters(tmp_path, folder):
    import subprocess
    import sys

    (folder / "x.txt").write_text("")
    code = "import sys; from captum_tgrad.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", os.fsencode(folder / "ordinary é.txt")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 2
    assert rb"ordinary \xe9.txt" in done.stderr


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    name = "costs $x_{ and \udce9 \x1b $"
    figure = explanation_figure(torch.rand(3, 8, 8), torch.rand(3, 8, 8), class_name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "a.png")
        methods_figure(torch.rand(3, 8, 8), {name: torch.rand(1, 1, 8, 8)}).savefig(
            tmp_path / "b.png"
        )
    report = Report(name, name)
    report.section(name)
    report.figure(figure, name, name)
    report.write(tmp_path / "report.html")
    _assert_harmless_page(Path(tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[0m\x9b0m\x85", r"\x1b[0m\x9b0m\x85"),
        ("\u202e\u2066\u200b\ufeff", r"\u202e\u2066\u200b\ufeff"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\udcff\ud800", r"\xff\ud800"),
        ("né \N{CAT FACE} 日本語", "né \N{CAT FACE} 日本語"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_markdown_and_html():
    assert in_markdown("![a](b) `c` <b> &amp; |") == r"!\[a\](b) \`c\` &lt;b&gt; &amp;amp; \|"
    assert in_html("<a href='x'>\x1b") == "&lt;a href=&#x27;x&#x27;&gt;\\x1b"
