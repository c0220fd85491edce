"""The page by keyboard, with a screen reader, without scripts, and in both color schemes."""

import pytest

from captum_tgrad.visualization.walkthrough.numbers import signed
from tests.visualization.walkthrough.small_page import LAST, NAMES, SCORES, bar, readout

# The contrast of each text that is seen with what is behind it, as WCAG 2.2 defines it.
CONTRASTS = r"""(() => {
  const texts = "h1,h2,h3,p,dt,dd,legend,label span,button,summary,#high";
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    const color = getComputedStyle(e).backgroundColor;
    const clear = color.startsWith("rgba") && channels(color)[3] === 0;
    return clear ? behind(e.parentElement) : color;
  };
  return [...document.querySelectorAll(texts)]
    .filter((e) => e.offsetParent !== null).map((e) => {
      const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.textContent.slice(0, 30)];
    });
})()"""


def test_the_keyboard_alone_reaches_everything(browser):
    reached = []
    for _ in range(30):
        browser.press("Tab")
        reached.append(browser(
            "document.activeElement.id || document.activeElement.name ||"
            " document.activeElement.getAttribute('role') || document.activeElement.tagName"
        ))  # fmt: skip
        if reached[-1] == "option":
            assert readout(browser).startswith(NAMES[0])  # the focus alone shows a term
            browser.press("End")
            assert NAMES[LAST] in readout(browser)
            browser.press("ArrowLeft")
            assert NAMES[LAST - 1] in readout(browser)
            browser.press("Home")
            assert NAMES[0] in readout(browser)
            browser.press("Escape")
            assert "All terms together" in readout(browser)
        if reached[-1] == "stage":
            browser.press("Enter")
            before = browser("state.pin")
            browser.press("ArrowRight")
            assert browser("state.pin")[0] > before[0] or before[0] == 7
            browser.press("Escape")
            assert browser("state.pin") is None
        if reached[-1] == "view":
            before = browser("state.view")
            browser.press("ArrowRight")
            assert browser("state.view") == (before + 1) % 3
    wanted = {"stage", "opacity", "view", "side", "option", "back", "play", "next", "whole"}
    assert wanted | {"frames", "SUMMARY"} <= set(reached)


def test_with_a_screen_reader_every_control_has_a_name(browser):
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "radio", "slider", "option", "listbox", "application", "image"}
    found = [node for node in nodes if node.get("role", {}).get("value") in controls]
    named = {(node["role"]["value"], node["name"]["value"]) for node in found}
    assert all(name for _, name in named)
    assert ("option", f"2 of {len(NAMES)}: {NAMES[1]} adds {signed(SCORES[0][1])}") in named
    assert ("button", "Play the layers") in named
    assert any(role == "slider" and name.startswith("Map opacity") for role, name in named)


def test_without_scripts_it_is_a_still_picture(chrome, path):
    chrome.scripts(False)
    chrome.open(path)
    try:
        shown = chrome.call("DOM.getDocument", depth=-1)
        assert shown
        for selector, visible in {
            "#still": True, "#bars": True, "#summary": True, "noscript p": True,
            "#map": False, ".film": False, ".switches": False, "#opacity": False,
        }.items():  # fmt: skip
            root = shown["root"]["nodeId"]
            node = chrome.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
            try:
                box = chrome.call("DOM.getBoxModel", nodeId=node)["model"]
            except AssertionError:
                box = {"height": 0}
            assert bool(box["height"]) == visible, selector
    finally:
        chrome.scripts(True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_legible_in_both_color_schemes(chrome, path, scheme):
    chrome.scheme(scheme)
    chrome.open(path)
    chrome.click(bar(1))
    ratios = chrome(CONTRASTS)
    assert len(ratios) > 20
    # WCAG 2.2, success criterion 1.4.3.
    assert [text for ratio, text in ratios if ratio < 4.5] == []
