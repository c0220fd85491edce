"""How Sphinx builds the documentation: ``make docs``, offline, every warning an error."""

import ast
import os
import re
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from sphinx.pycode import ModuleAnalyzer
from sphinx_gallery.scrapers import figure_rst

import captum_tgrad
from captum_tgrad.explanation import explain
from captum_tgrad.zoo import load_classifier, sample_image

matplotlib.use("Agg")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "captum_tgrad"
author = copyright = "The captum_tgrad developers"
version = release = captum_tgrad.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",
    "sphinxcontrib.programoutput",
]
exclude_patterns = [
    "_build",
    "generated",
    "sg_execution_times.rst",
    "tutorials/sg_execution_times.rst",
]

html_theme = "furo"
html_title = f"captum_tgrad {version}"
html_static_path = ["static"]
html_css_files = ["pages.css"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autosummary_generate = False
viewcode_line_numbers = True

nitpicky = True
# Names of other projects that no inventory has, and aliases of types.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(torch|captum|numpy|matplotlib|PIL|nn|torchmetrics|collections|argparse|types)\..*",
    ),
    # Aliases of types in signatures; a role in a text gives the whole path.
    ("py:(class|exc)", r"[A-Z][A-Za-z]*|optional"),
    ("py:.*", r"captum_tgrad\..*\.(TensorOrTupleOfTensorsGeneric|Magnitudes|TermMap)"),
]


def _inventory(path: Path) -> tuple[str, str]:
    """Compresses a list of names: the build must not need a network to fetch the whole one."""
    url, *names = path.read_text(encoding="utf-8").splitlines()
    head = f"# Sphinx inventory version 2\n# Project: {path.stem}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    packed = HERE / "generated" / f"{path.stem}.inv"
    packed.parent.mkdir(exist_ok=True)
    packed.write_bytes(head.encode() + zlib.compress("\n".join(names).encode() + b"\n"))
    return url, str(packed.relative_to(HERE))


intersphinx_mapping = {
    path.stem: _inventory(path) for path in sorted((HERE / "inventories").glob("*.txt"))
}


def figure_at_the_end(
    block: Any, block_variables: dict[str, Any], gallery_conf: dict[str, Any]
) -> str:
    """Shows the figure that a block of a tutorial ends with, as a notebook would.

    The package's figures belong to no window, so that sphinx-gallery's own way misses them.
    """
    last = ast.parse(block[1]).body[-1:]
    # The value of an earlier block stays there.
    figure = block_variables["example_globals"].get("___")
    if not last or not isinstance(last[0], ast.Expr) or not isinstance(figure, Figure):
        return ""
    path = next(block_variables["image_path_iterator"])
    figure.savefig(path, dpi=100)
    shown: str = figure_rst([path], gallery_conf["src_dir"])
    return shown


sphinx_gallery_conf = {
    "image_scrapers": (figure_at_the_end,),
    "ignore_repr_types": r"matplotlib\.figure\.Figure",
    "examples_dirs": "../tutorials",
    "gallery_dirs": "tutorials",
    "filename_pattern": r"/\d_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "download_all_examples": False,
    "min_reported_time": 0,
    "parallel": 2,  # by joblib, which comes with scikit-learn
    "thumbnail_size": (640, 400),
}
# The second: a class of torchmetrics has the name of a result.
suppress_warnings = ["config.cache", "ref.python"]

# Captum says so at every call of a gradient method. Tutorials run in processes that inherit this.
os.environ.setdefault("PYTHONWARNINGS", "ignore:Setting backward hooks on ReLU activations")


def _home_of_public_names(app: object) -> None:
    """Puts what ``captum_tgrad`` finds on demand where autodoc looks for it."""
    for name in captum_tgrad.__all__:
        setattr(captum_tgrad, name, getattr(import_module("captum_tgrad"), name))


def _one_signature(analyze: Any = ModuleAnalyzer.analyze) -> None:
    """Shows one signature per function: overloads, which are for type checkers, differ little."""

    def without_overloads(self: ModuleAnalyzer) -> None:
        analyze(self)
        self.overloads = {}

    ModuleAnalyzer.analyze = without_overloads  # type: ignore[method-assign]


def _write_the_walkthrough(app: Any, error: Exception | None) -> None:
    """Puts the page of the sample image beside the documentation, which shows it."""
    if error is not None or app.builder.format != "html":
        return
    (found,) = explain(load_classifier(), [sample_image()], rival=True)
    page = found.to_html("coffee, the built-in sample")
    (Path(app.outdir) / "walkthrough.html").write_text(page, encoding="utf-8")


def _draw(app: Any) -> None:
    """Draws what pages show, and cuts readable thumbnails out of the figures of the tutorials."""
    from build_figures import build, thumbnails

    build(HERE, HERE / "generated")
    thumbnails(HERE / "tutorials" / "images")


def _link_the_notebook(app: Any, docname: str, source: list[str]) -> None:
    """Puts the links to the notebook and the script at the top of a tutorial."""
    if re.fullmatch(r"tutorials/\d_\w+", docname):
        name = docname.rpartition("/")[2]
        source[0] = re.sub(
            r":ref:`Go to the end <[^>]*>`\s+to download the full example code\.",
            f":download:`Open as a notebook <{name}.ipynb>` or"
            f" :download:`as a script <{name}.py>`.",
            source[0],
        )


def setup(app: Any) -> None:
    """Called by Sphinx."""
    _one_signature()
    app.connect("builder-inited", _home_of_public_names)
    app.connect("builder-inited", _draw, priority=900)  # after the gallery
    app.connect("source-read", _link_the_notebook)
    app.connect("build-finished", _write_the_walkthrough)
