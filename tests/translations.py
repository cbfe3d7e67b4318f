"""The translations of the app and of the example shop: what the code says, what the catalogues have, compiled files.

``python -m tests.translations`` compiles every ``django.po`` to the ``django.mo`` beside it, without GNU gettext.
"""

from __future__ import annotations

import functools
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
APP, EXAMPLE = ROOT / "django_visual_search", ROOT / "example_project" / "shop"
LANGUAGES = ("ar", "de", "zh_Hans")
CATALOGUES = [
    folder / "locale" / language / "LC_MESSAGES" / "django.po" for folder in (APP, EXAMPLE) for language in LANGUAGES
]

DJANGOS_OWN = ["Search", "True", "False", "KB", "Control", "Command", "Mac", "Add link", "Change or view list link"]
"""What Django's admin does not translate: texts of icons, and in Chinese the units of sizes and two names of links."""

KEYWORDS = {
    **dict.fromkeys(("_", "gettext", "gettext_lazy", "gettext_noop")),
    **dict.fromkeys(("ngettext", "ngettext_lazy"), (1, 2)),
    **dict.fromkeys(("pgettext", "pgettext_lazy"), ((1, "c"), 2)),
    **dict.fromkeys(("npgettext", "npgettext_lazy"), ((1, "c"), 2, 3)),
}
"""Functions that mark a text, with the places of context, text and plural; as ``makemessages`` has them."""


@functools.cache
def texts(folder):
    """Return the keys of the texts in a folder's modules and templates."""
    found = set()
    for path in [*folder.rglob("*.py"), *folder.rglob("*.html")]:
        source = path.read_text()
        if path.suffix == ".html":
            # Python as far as gettext reads it; but for it, a template's indentation means nothing.
            source = "\n".join(line.strip() for line in templatize(source, origin=str(path)).splitlines())
        for _line, text, _comments, context in extract("python", io.BytesIO(source.encode()), keywords=KEYWORDS):
            found.add((context, text[0] if isinstance(text, tuple) else text))
    return found


@functools.cache
def catalogue(path):
    with path.open("rb") as file:
        return read_po(file, locale=path.parts[-3])


def compiled(path):
    """Return the catalogue in the compiled file beside a ``django.po``."""
    with path.with_suffix(".mo").open("rb") as file:
        return read_mo(file)


def messages(found: Catalog):
    """Return key -> translations, one for each plural form, without the header. A key is (context, text)."""
    return {
        (one.context, one.id[0] if one.pluralizable else one.id): list(one.string) if one.pluralizable else [one.string]
        for one in found
        if one.id
    }


def visible_texts(page):
    """Return what a reader sees or hears of an HTML page: its texts, and attributes that are shown or read out.

    Parts that name a language of their own are left out.
    """
    reader = Reader()
    reader.feed(page)
    return reader.found


class Reader(HTMLParser):
    SPOKEN = {"alt", "aria-label", "aria-description", "data-help", "data-label", "placeholder", "title"}
    SILENT = {"code", "script", "style", "textarea"}
    VOID = {"br", "hr", "img", "input", "link", "meta", "rect", "source"}

    def __init__(self):
        super().__init__()
        self.found = []
        self.open = []  # (tag, whether what is in it doesn't count)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        silent = self.is_silent() or tag in self.SILENT or (tag != "html" and "lang" in given)
        if tag not in self.VOID:
            self.open.append((tag, silent))
        if not silent:
            spoken = self.SPOKEN | ({"value"} if given.get("type") == "submit" else set())
            self.found += [given[name] for name in spoken & given.keys() if given[name]]

    def handle_endtag(self, tag):
        while any(tag == one for one, _ in self.open) and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if data.strip() and not self.is_silent():
            self.found.append(data.strip())

    def is_silent(self):
        return bool(self.open) and self.open[-1][1]


def latin_words(texts, language, others=()):
    """Return the texts with words in Latin letters that the language's own translations, ours and Django's, don't have.

    For languages of another script. Names of formats and programs are written so in all of them; labels of fields, such
    as ``app.Model.field``, and file names are left out, and the words of ``others``, such as the shop's own.
    """
    usual = translated_words(language) | {word for text in others for word in WORD.findall(text)}
    return [text for text in texts if set(WORD.findall(LABEL.sub("", text))) - usual]


@functools.cache
def translated_words(language):
    """Return the words in Latin letters of a language's translations."""
    found = [messages(catalogue(path)) for path in CATALOGUES if path.parts[-3] == language]
    strings = [string for one in found for translations in one.values() for string in translations]
    return frozenset(word for string in strings for word in WORD.findall(string))


WORD = re.compile("[A-Za-z]{2,}")
LABEL = re.compile(r"[\w/-]+(\.\w+)+|\w+(-\w+)*-[0-9a-f]{12}")


def compile_all():
    for path in CATALOGUES:
        with path.with_suffix(".mo").open("wb") as file:
            write_mo(file, catalogue(path))


if __name__ == "__main__":
    compile_all()
