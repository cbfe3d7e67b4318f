"""The code blocks of the README and of the docs, so that tests do what the pages say."""

import re
import textwrap
from pathlib import Path

import django_visual_search

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FOLDER = Path(django_visual_search.__file__).parent / "docs"
PAGES = [README, *sorted(FOLDER.rglob("*.md"))]
QUICKSTART = FOLDER / "quickstart.md"
CELERY = FOLDER / "howto/celery.md"
EXTRACTORS = FOLDER / "howto/extractors.md"

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


def blocks(page, language):
    """Return the texts of a page's code blocks in that language, in their order."""
    found = BLOCK.finditer(page.read_text())
    return [textwrap.dedent(block["text"]) for block in found if block["language"] == language]


def files(page):
    """Yield (path, text) of a page's Python blocks that begin with a comment that names their file."""
    for block in blocks(page, "python"):
        first, _, rest = block.partition("\n")
        if named := re.fullmatch(r"# (\S+\.py|manage\.py shell)", first):
            yield named[1], rest
