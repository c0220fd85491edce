"""The examples of the README and of every page run, one after the other, as a reader would."""

import importlib
import inspect
import pkgutil
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

import captum_tgrad
from captum_tgrad.evaluation import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts),
]
WITH_EXAMPLES = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
IMAGE = re.compile(r"!\[[^]]*\]\(([^)]*)\)|```{(?:image|figure)} (\S+)")
WITH_IMAGES = [page for page in PAGES if IMAGE.search(page.read_text(encoding="utf-8"))]
# Libraries that a guide is about; where one is missing, its guide is skipped.
OTHERS = {"lightning", "monai", "quantus", "timm", "transformers", "wandb"}


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where an example may write
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for library in OTHERS & set(re.findall(r"^(?:from|import) (\w+)", "".join(examples), re.M)):
        pytest.importorskip(library)
    namespace: dict = {"__name__": "example"}
    for example in examples:
        exec(compile(example, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_the_package_exist(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"captum_tgrad(?:\.[A-Za-z_]\w*)+", text))
    for inside, module in re.findall(
        r"((?:`[\w.]+`(?: and |, )?)+) in `(captum_tgrad[\w.]+)`", text
    ):
        names |= {f"{module}.{name}" for name in re.findall(r"`([\w.]+)`", inside)}
    for name in names:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize(
    "page",
    [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "how_to").glob("add_a_*.md"))],
    ids=lambda page: page.name,
)
def test_names_in_the_guides_for_contributors_are_in_the_sources(page):
    sources = [
        each for name in ("captum_tgrad", "docs", "tests") for each in (ROOT / name).rglob("*.py")
    ]
    blocks = re.compile(r"```.*?```", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    texts = [source.read_text(encoding="utf-8") for source in sources] + blocks.findall(text)
    files = {each.stem for each in [*sources, *PAGES]}
    known = files.union(*(re.findall(r"\w+", each) for each in texts))
    spans = " ".join(re.findall(r"`([^`\n]+)`", blocks.sub("", text)))
    assert set(re.findall(r"\b[a-z]*_\w+", spans)) - known == set()
    assert set(re.findall(r"\b(\w+)\.py\b", spans)) - files == set()


def test_no_folder_imports_a_folder_below_it():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = re.findall(r"^\| `captum_tgrad/(\w+)/` \|", table, re.M)
    sources = ROOT / "captum_tgrad"
    assert set(folders) == {each.parent.name for each in sources.glob("*/__init__.py")}
    below = []
    for number, folder in enumerate(folders):
        for source in (sources / folder).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            imported = re.findall(r"^ *(?:from|import) captum_tgrad\.(\w+)", text, re.M)
            below += [(source.name, name) for name in imported if name in folders[number + 1 :]]
    assert below == [("decomposition.py", "visualization")]


@pytest.mark.parametrize("page", WITH_IMAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_images_are_there(page):
    for inline, directive in IMAGE.findall(page.read_text(encoding="utf-8")):
        image = page.parent / (inline or directive)
        # The build of the documentation draws these, and fails where one is missing.
        assert image.is_file() or image.parent.name == "generated"


def _documented():
    """Every function, method, class and property of the package that has a docstring."""
    for info in pkgutil.walk_packages(captum_tgrad.__path__, "captum_tgrad."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != info.name or not inspect.getdoc(thing):
                continue
            yield f"{info.name}.{name}", inspect.getdoc(thing), "function"
            for member, method in vars(thing).items() if inspect.isclass(thing) else ():
                kind = "attribute" if inspect.isdatadescriptor(method) else "function"
                if method.__doc__ and (inspect.isfunction(method) or kind == "attribute"):
                    yield f"{info.name}.{name}.{member}", inspect.getdoc(method), kind


def test_no_sentence_is_taken_for_a_type():
    napoleon = pytest.importorskip("sphinx.ext.napoleon")
    config = napoleon.Config(napoleon_use_rtype=True)
    wrong = []
    for name, text, kind in _documented():
        lines = napoleon.GoogleDocstring(text, config, what=kind, name=name).lines()
        wrong += [f"{name}: {line}" for line in lines if line.startswith((":rtype:", ":type"))]
    assert wrong == []


def test_the_page_of_the_sample_image_is_beside_the_documentation(tmp_path):
    pytest.importorskip("sphinx_gallery")
    configuration = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    connected = {}
    app = SimpleNamespace(
        outdir=tmp_path,
        builder=SimpleNamespace(format="html"),
        connect=lambda event, handler, **_: connected.update({event: handler}),
    )
    configuration["setup"](app)
    connected["build-finished"](app, None)
    page = (tmp_path / "walkthrough.html").read_text(encoding="utf-8")
    assert "<title>Why espresso?</title>" in page
    shown = (ROOT / "docs" / "how_to" / "walk_through.md").read_text(encoding="utf-8")
    assert shown.count('"../walkthrough.html"') == 2


def test_the_chart_of_the_results_has_every_method():
    pytest.importorskip("matplotlib")
    build = runpy.run_path(str(ROOT / "docs" / "build_figures.py"))
    (axes,) = build["results_chart"](ROOT / "docs" / "results.md").axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) >= 12
    assert set(names) <= {method.title for method in METHODS.values()}
    assert names[-1] == "T-Grad"


@pytest.mark.parametrize(
    "module",
    ["", ".evaluation", ".explanation", ".metrics", ".sanity_checks", ".visualization", ".zoo"],
)
def test_the_reference_has_every_public_name_in_a_table_and_in_full(module):
    package = importlib.import_module(f"captum_tgrad{module}")
    text = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.rst"))
    for name in package.__all__:
        thing = getattr(package, name)
        if inspect.ismodule(thing):
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert f"   ~captum_tgrad{module}.{name}\n" in text
        assert re.search(rf":: captum_tgrad{module}\.(\w+\.)*{name}\n", text)
