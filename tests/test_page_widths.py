"""Pages fit windows of every width: wide code and tables scroll by themselves."""

import shutil
from pathlib import Path

import pytest

from tests.browser import chromium

STYLES = Path(__file__).parents[1] / "docs" / "static" / "pages.css"
PAGE = f"""
A page
======

.. code-block:: text

   {"a line of code " * 7}

{"=" * 60} {"=" * 60}
{"a_cell_that_does_not_break_" * 2} {"another_cell_" * 4}
{"=" * 60} {"=" * 60}

A section
---------

{"Text that fills the page. " * 40}
"""
CONFIGURATION = """
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["pages.css"]
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    pytest.importorskip("furo")
    build = pytest.importorskip("sphinx.cmd.build")
    source = tmp_path_factory.mktemp("documentation")
    (source / "static").mkdir()
    shutil.copy(STYLES, source / "static")
    (source / "index.rst").write_text(PAGE, encoding="utf-8")
    (source / "conf.py").write_text(CONFIGURATION, encoding="utf-8")
    assert build.build_main(["-q", str(source), str(source / "html")]) == 0
    return source / "html" / "index.html"


def test_no_page_is_wider_than_its_window(page, tmp_path):
    with chromium(tmp_path) as browser:
        for width in (320, 600, 800, 1024, 1200, 1366, 1440, 1920):
            browser.open(page, width=width, phone=width < 500)
            assert browser("document.documentElement.scrollWidth") == width
