"""A browser, and in it the page of a small network."""

import pytest

from tests.browser import chromium
from tests.visualization.walkthrough.small_page import document


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(document(), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def chrome(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chrome, path):
    chrome.open(path)
    yield chrome
    assert chrome.errors == []
    assert [url for url in chrome.requests if not url.startswith(("data:", "file:"))] == []
