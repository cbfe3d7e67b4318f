"""What the README says is so."""

import re

import pytest

from django_visual_search.conf import DEFAULTS

from .. import readme
from ..integration.test_checks import IDS

TEXT = readme.README.read_text()
ROWS = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", TEXT, re.MULTILINE))


def test_every_setting_is_listed():
    assert list(ROWS) == list(DEFAULTS)


@pytest.mark.parametrize("key", [key for key in DEFAULTS if key != "EXTRACTORS"])
def test_every_default_is_true(key):
    default = DEFAULTS[key]
    assert ROWS[key] == (f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`")


def test_the_default_extractor_is_the_one_that_is_shown():
    (block,) = (text for text in readme.blocks("Extractors", "python") if "what you get with no settings" in text)
    shown = {}
    exec(block, shown)
    assert shown["VISUAL_SEARCH"]["EXTRACTORS"] == DEFAULTS["EXTRACTORS"]


def test_every_check_is_listed():
    listed = set()
    for first, last in re.findall(r"`([EW]\d{3})`(?: to `([EW]\d{3})`)?", TEXT):
        numbers = range(int(first[1:]), int((last or first)[1:]) + 1)
        listed.update(f"{first[0]}{number:03}" for number in numbers)
    assert listed == set(IDS)


@pytest.mark.parametrize("block", readme.blocks("Searching", "python") + readme.blocks("In your own shop", "python"))
def test_python_is_python(block):
    compile(block, "README.md", "exec")


def test_links_and_pictures_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (readme.README.parent / target).exists(), target
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
