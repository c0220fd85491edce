"""The tutorials as notebooks, in a real kernel: each shows the figures that its page shows."""

import ast
import json
import pickle
import runpy
import warnings
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import term_scores_figure

pytest.importorskip("sphinx_gallery")
from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]_*.py"))


def _notebook(tutorial, folder):
    blocks = split_code_and_text_blocks(str(tutorial))[1]
    content = jupyter_notebook(blocks, dict(DEFAULT_GALLERY_CONF), str(folder))
    return nbformat.reads(json.dumps(content), as_version=4), blocks


def _ends_with_a_figure(block):
    """In the tutorials, a block that ends with a name ends with a figure."""
    last = ast.parse(block.content).body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Name)


@pytest.mark.parametrize(
    "tutorial",
    # The documentation runs all of them.
    [TUTORIALS[0], *[pytest.param(each, marks=pytest.mark.slow) for each in TUTORIALS[1:]]],
    ids=lambda path: path.stem,
)
def test_a_notebook_shows_every_figure(tutorial, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook, blocks = _notebook(tutorial, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    images = [out for out in outputs if "image/png" in out.get("data", {})]
    shown = [block for block in blocks if block.type == "code" and _ends_with_a_figure(block)]
    assert len(images) == len(shown)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_notebook_has_no_markup_of_sphinx(tutorial, tmp_path):
    notebook, _ = _notebook(tutorial, tmp_path)
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert ":doc:" not in text
    assert ":class:" not in text


@pytest.fixture(scope="module")
def figure():
    method = TGradAttribution(torch.nn.Linear(2, 2))
    return term_scores_figure(method.decompose(torch.ones(1, 2), target=0))


@pytest.mark.parametrize(
    ("code", "count"), [("figure", 1), ("figure.clf()", 1), ("other = 1", 0), ("", 0)]
)
def test_a_page_shows_a_figure_under_the_block_that_ends_with_it(code, count, figure, tmp_path):
    configuration = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    scraper = configuration["figure_at_the_end"]
    paths = iter([str(tmp_path / "images" / "1.png")])
    (tmp_path / "images").mkdir()
    variables = {"example_globals": {"___": figure}, "image_path_iterator": paths}
    shown = scraper(("code", code, 1), variables, {"src_dir": str(tmp_path)})
    assert len(list((tmp_path / "images").iterdir())) == count
    assert bool(shown) == bool(count)


def test_outside_of_a_notebook_show_says_what_to_do(figure):
    with pytest.raises(RuntimeError, match=r"figure\.savefig"):
        figure.show()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_survives_pickling_and_is_known_by_the_name_of_its_class(figure):
    kind = type(figure)
    assert f"{kind.__module__}.{kind.__name__}" == "matplotlib.figure.Figure"
    assert pickle.loads(pickle.dumps(figure))._repr_png_().startswith(b"\x89PNG")
