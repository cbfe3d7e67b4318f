"""Everything that the app and the example shop say is translated, and what is compiled is what was written."""

import re

import pytest

from .. import translations

PLACEHOLDER = re.compile(r"%\((\w+)\)")

PLURALS = {"ar": 6, "de": 2, "zh_Hans": 1}


def relative(path):
    return str(path.relative_to(translations.ROOT).parent.parent)


each_catalogue = pytest.mark.parametrize("path", translations.CATALOGUES, ids=relative)


@each_catalogue
def test_every_text_is_translated(path):
    """If this fails: docs/contributing/translations.md says how to bring the catalogues up to date."""
    texts, found = translations.texts(path.parents[3]), translations.messages(translations.catalogue(path))
    assert texts == set(found)
    empty = [key for key, one in found.items() if not (all(one.string) if one.pluralizable else one.string)]
    assert not empty
    assert not [key for key, one in found.items() if one.fuzzy]


@each_catalogue
def test_placeholders(path):
    for key, one in translations.messages(translations.catalogue(path)).items():
        strings = one.string if one.pluralizable else (one.string,)
        wanted = set(PLACEHOLDER.findall(one.id[-1] if one.pluralizable else one.id))
        # "One picture" needs no number; the last form, for the most numbers, does.
        assert set(PLACEHOLDER.findall(strings[-1])) == wanted, key
        assert all(set(PLACEHOLDER.findall(string)) <= wanted for string in strings), key


@each_catalogue
def test_plural_forms(path):
    found = translations.catalogue(path)
    assert found.num_plurals == PLURALS[path.parts[-3]]
    plurals = [one for one in found if one.id and one.pluralizable]
    assert plurals
    assert {len(one.string) for one in plurals} == {found.num_plurals}


@each_catalogue
def test_compiled_is_what_was_written(path):
    """If this fails: run ``python -m tests.translations``."""
    written, compiled = (
        translations.messages(one) for one in (translations.catalogue(path), translations.compiled(path))
    )
    assert {key: one.string for key, one in compiled.items()} == {key: one.string for key, one in written.items()}
    assert translations.compiled(path).plural_expr == translations.catalogue(path).plural_expr


def test_scripts_say_nothing():
    """Texts of scripts stand in the page's markup, as ``data-`` attributes: gettext doesn't read the scripts."""
    for path in translations.APP.rglob("*.js"):
        assert "gettext" not in path.read_text(), path
