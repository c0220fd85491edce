"""The page in Chromium: what happens on each event of a mouse and of a finger."""

import json
import time

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad.explanation.as_html import frame_of
from captum_tgrad.visualization.walkthrough.numbers import signed
from tests.visualization.walkthrough.small_page import (
    LAST,
    NAMES,
    SCORES,
    VIEWS,
    bar,
    document,
    drawn,
    readout,
)
from tests.visualization.walkthrough.test_numbers import cells, numbers_in


def test_it_opens_with_the_whole_map_and_nothing_from_elsewhere(browser):
    assert browser("getComputedStyle(byId('still')).display") == "none"
    assert browser("byId('bars').children.length") == len(NAMES)
    assert "All terms together" in readout(browser)
    positive = sum(score for score in SCORES[0] if score > 0)
    assert signed(positive) in readout(browser)
    assert signed(float(VIEWS[0].decomposition.output)) in readout(browser)


def test_hovering_a_bar_shows_its_map_until_the_mouse_leaves(browser):
    whole = drawn(browser)
    seen = set()
    for index in range(len(NAMES)):
        browser.hover(bar(index))
        assert readout(browser).startswith(NAMES[index])
        assert signed(SCORES[0][index]) in readout(browser)
        seen.add(drawn(browser))
    assert whole not in seen
    assert len(seen) == len(NAMES)
    browser.hover("h1")
    assert drawn(browser) == whole
    assert "All terms together" in readout(browser)


def test_a_map_without_places_is_called_flat(browser):
    browser.click(bar(LAST))
    assert browser("byId('shown').textContent") == f"{NAMES[LAST]}: the same everywhere"
    assert "spread evenly" in readout(browser)


def test_a_bar_that_is_clicked_stays(browser):
    browser.click(bar(1))
    browser.hover("h1")
    assert NAMES[1] in readout(browser)
    assert browser(f"document.querySelector('{bar(1)}').getAttribute('aria-selected')") == "true"
    browser.click("#whole")
    assert "All terms together" in readout(browser)


def test_a_finger_taps_a_bar_and_the_photo(chrome, path):
    chrome.open(path, 390, 844, phone=True)
    assert chrome("document.documentElement.scrollWidth") == 390
    whole = drawn(chrome)
    chrome.tap(bar(2))
    assert signed(SCORES[0][2]) in readout(chrome)
    assert drawn(chrome) != whole
    chrome.slide(bar(0), bar(3))
    assert readout(chrome).startswith(NAMES[3])
    chrome.tap("#stage")
    chrome.wait("state.pin !== null")
    assert chrome("byId('place').querySelectorAll('li').length") > 0


def test_the_slider_changes_the_opacity(browser):
    assert browser("getComputedStyle(byId('map')).opacity") == "0.8"
    browser("byId('opacity').focus()")
    browser.press("Home")
    assert browser("getComputedStyle(byId('map')).opacity") == "0"
    assert browser("document.querySelector('output').textContent") == "0%"
    browser.press("ArrowRight")
    assert browser("getComputedStyle(byId('map')).opacity") == "0.01"


def test_the_film_plays_to_the_end_and_can_be_stopped(browser):
    maps = []
    browser.click("#play")
    assert browser("byId('play').innerText").endswith("Pause")
    assert browser("byId('readout').getAttribute('aria-live')") == "off"
    for index in range(len(NAMES)):
        browser.wait(f"state.selected >= {index}")
        maps.append(drawn(browser))
    browser.wait("timer === null")
    assert len(set(maps)) > 2
    assert browser("state.selected") == LAST
    assert browser("byId('play').innerText").endswith("Play the layers")
    browser.click("#play")
    browser.wait("state.selected >= 1")
    browser.click("#play")
    stopped = browser("state.selected")
    time.sleep(0.6)
    assert browser("state.selected") == stopped
    browser.click("#whole")
    for button, wanted in (("#next", 0), ("#next", 1), ("#back", 0)):
        browser.click(button)
        assert browser("state.selected") == wanted


def test_the_last_frame_of_the_sum_is_the_whole_map(browser):
    whole = browser("Array.from(evidenceOf(viewNow().maps, 'both'))")
    browser.click("input[value=sum]")
    browser.click("input[value=both]")
    browser.click(bar(LAST))
    assert browser("state.frames") == "sum"
    found = browser(f"Array.from(sumUpTo(viewNow().terms, {LAST}, 'both'))")
    largest = max(map(abs, whole))
    assert max(abs(a - b) for a, b in zip(whole, found, strict=True)) < 0.03 * largest
    assert browser("byId('shown').textContent") == f"All terms up to {NAMES[LAST]}"


def test_switching_the_class_changes_the_numbers(browser):
    for number, view in enumerate(VIEWS):
        browser.click(f"input[name=view][value='{number}']")
        assert browser("byId('summary').textContent").startswith(f"The logit of {view.name}"[:14])
        browser.click(bar(1))
        assert signed(SCORES[number][1]) in readout(browser)
        heights = browser(
            "[...byId('bars').children].map((b) => Number(b.style.getPropertyValue('--size')))"
        )
        span = max(0, *SCORES[number]) - min(0, *SCORES[number])
        assert heights == pytest.approx([abs(score) / span for score in SCORES[number]], rel=1e-5)
        rows = browser("byId('rows').textContent")
        assert all(signed(score) in rows for score in SCORES[number])
    difference = [a - b for a, b in zip(SCORES[0], SCORES[1], strict=True)]
    assert SCORES[2] == pytest.approx(difference, abs=1e-5)


def test_switching_the_evidence_changes_map_and_shares(browser):
    browser.click(bar(1))
    browser.hover("h1")
    maps = {}
    for side in ("for", "against", "both"):
        browser.click(f"input[name=side][value='{side}']")
        maps[side] = drawn(browser)
    assert len(set(maps.values())) == 3
    browser.click("#whole")
    browser.click("input[name=side][value='against']")
    assert browser("byId('high').textContent") == "against cat"
    assert "share of the map against cat" in browser("byId('share-title').textContent")


@pytest.mark.parametrize(("side", "color"), [("for", "#fff6c9"), ("against", "#efecff")])
def test_the_strongest_place_has_the_end_of_the_ramp(browser, side, color):
    browser.click(f"input[name=side][value='{side}']")
    browser.click(bar(1))
    kept = cells(numbers_in(document())["views"][0]["terms"][1]["maps"][side])
    large = F.interpolate(kept[None, None], (8, 8), mode="bilinear")[0, 0]
    y, x = divmod(int(large.argmax()), 8)
    pixel = browser(f"[...byId('map').getContext('2d').getImageData({x}, {y}, 1, 1).data]")
    assert pixel == [*bytes.fromhex(color[1:]), 255]


def test_a_click_on_the_photo_lists_the_terms_there(browser):
    browser.click("#stage")
    x, y = browser("state.pin")
    assert (x, y) in {(3, 3), (3, 4), (4, 3), (4, 4)}
    wanted = {}
    for term in numbers_in(document())["views"][0]["terms"]:
        kept = cells(term["maps"]["for"])
        large = F.interpolate(kept[None, None], (8, 8), mode="bilinear")[0, 0]
        if term["score"] > 0:
            wanted[term["name"]] = float(term["score"] * large[y, x] / large.sum())
    listed = browser(
        "[...byId('place').querySelectorAll('li')].map((e) =>"
        " [e.querySelector('.name').textContent, e.querySelector('.part').textContent])"
    )
    ordered = sorted((name for name in wanted if wanted[name]), key=lambda name: -wanted[name])
    assert [name for name, _ in listed] == ordered[:6]
    total = sum(wanted.values())
    for name, part in listed:
        assert float(part[:-1]) == pytest.approx(100 * wanted[name] / total, abs=0.06)
    browser.click("#place li button")
    assert ordered[0] in readout(browser)
    mean = sum(score for score in SCORES[0] if score > 0) / 64
    assert f"is {total / mean:.1f} times its mean" in browser("byId('place').innerText")


def test_the_page_works_in_the_frame_of_a_notebook(chrome, tmp_path):
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html>{frame_of(document())}", "utf-8")
    chrome.open(tmp_path / "notebook.html")
    with chrome.frame():
        chrome.wait("document.documentElement.className === 'alive'")
        chrome("select(1)")
        assert readout(chrome).startswith(NAMES[1])
    assert chrome.errors == []


def test_numbers_are_written_alike_with_and_without_scripts(browser):
    values = [0, 1, -2.3456, 0.1, 0.0999, -0.0321, 0.001, 0.00123, -9.99e-4, 1.144e-5, 12345.6]
    assert browser(f"{values}.map(signed)") == [signed(value) for value in values]


def test_the_browser_enlarges_as_torch_does(browser):
    stored = numbers_in(document())["views"][0]["terms"][1]["maps"]["for"]
    found = browser(f"Array.from(enlarged(cellsOf({json.dumps(stored)}), {stored['size']}))")
    wanted = F.interpolate(cells(stored)[None, None], (8, 8), mode="bilinear").flatten()
    torch.testing.assert_close(torch.tensor(found).double(), wanted, rtol=1e-5, atol=1e-6)
