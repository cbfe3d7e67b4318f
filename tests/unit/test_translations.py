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
    texts, catalogue = translations.texts(path.parents[3]), translations.catalogue(path)
    found = translations.messages(catalogue)
    assert texts == set(found)
    assert not [key for key, strings in found.items() if not all(strings)]
    assert not [one.id for one in catalogue if one.fuzzy]


@each_catalogue
def test_placeholders(path):
    for one in translations.catalogue(path):
        ids, strings = (one.id, one.string) if one.pluralizable else ([one.id], [one.string])
        wanted = set(PLACEHOLDER.findall(ids[-1]))
        # "One picture" needs no number; the last form, for the most numbers, does.
        assert set(PLACEHOLDER.findall(strings[-1])) == wanted, one.id
        assert all(set(PLACEHOLDER.findall(string)) <= wanted for string in strings), one.id


@each_catalogue
def test_plural_forms(path):
    catalogue = translations.catalogue(path)
    assert catalogue.num_plurals == PLURALS[path.parts[-3]]
    assert {len(one.string) for one in catalogue if one.id and one.pluralizable} == {catalogue.num_plurals}


@each_catalogue
def test_compiled_is_what_was_written(path):
    """If this fails: run ``python -m tests.translations``."""
    written, compiled = translations.catalogue(path), translations.compiled(path)
    assert translations.messages(compiled) == translations.messages(written)
    assert compiled.plural_expr == written.plural_expr


def test_styles_follow_the_direction():
    """Only what lies on a photo goes by left and right: a photo isn't mirrored."""
    sides = r"((margin|padding|border)-)?(left|right)(-\w+)?:|(text-align|float): *(left|right)"
    physical = re.compile(rf"(?<![\w-])({sides})")
    for path in (translations.APP / "static").rglob("*.css"):
        rules = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S).split("}")
        found = [rule.strip() for rule in rules if physical.search(rule.rpartition("{")[2])]
        assert not [rule for rule in found if not re.match(r"\.visual-search-(box|object|canvas)", rule)], path


def test_scripts_say_nothing():
    """Texts of scripts stand in the page's markup, as ``data-`` attributes: gettext doesn't read the scripts."""
    for path in translations.APP.rglob("*.js"):
        assert "gettext" not in path.read_text(), path
