"""Row 20 of "In a stranger's shop": what we show within a shop's page has that page's colours, not the device's."""

import re
from pathlib import Path

import pytest

from ...browser import browser, opened  # noqa: F401

CSS = Path(__file__).resolve().parents[3] / "django_visual_search/static/django_visual_search/visual_search.css"
PAGE = """<!doctype html><style>{css}</style><body style="background:{ground};color:{ink}">
<form class="visual-search-form"><p class="visual-search-error">No.</p>
<label class="visual-search-choice">Choose <input type="file"></label>
<button class="visual-search-send">Search</button></form>
<section class="visual-search-similar"><ul class="visual-search-cards"><li><a href="x" data-visual-search-product="1">
<span class="visual-search-picture"></span><span class="visual-search-title">Chair</span></a></li></ul></section>"""
COLOURS = """selector => {
    let element = document.querySelector(selector), style = getComputedStyle(element), ground = style.backgroundColor
    while (/, 0\\)$/.test(ground)) ground = getComputedStyle(element = element.parentElement).backgroundColor
    return [style.color, ground]
}"""


def contrast(colours):
    """By WCAG 2: 21 is black on white."""
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize(("ground", "ink"), [("#ffffff", "#222222"), ("#111111", "#eeeeee")])
def test_a_shops_page_decides(browser, dark, ground, ink):  # noqa: F811
    with opened(browser, dark=dark, java_script_enabled=False) as page:  # with scripts, no file input is seen
        page.set_content(PAGE.format(css=CSS.read_text(), ground=ground, ink=ink))
        shown = {
            selector: page.evaluate(COLOURS, selector)
            for selector in ("input[type=file]", "button", ".visual-search-error", ".visual-search-title")
        }
    assert {name: round(contrast(colours), 1) for name, colours in shown.items() if contrast(colours) < 3} == {}
    assert shown["input[type=file]"] == shown[".visual-search-title"], "the page's own"
