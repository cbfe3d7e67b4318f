"""The README and the docs say what is so: their code runs, and what they name exists."""

import ast
import contextlib
import importlib
import importlib.util
import io
import json
import pkgutil
import re
import shlex
import shutil

import numpy as np
import pytest
from django.apps import apps
from django.contrib.auth.management import _get_all_permissions
from django.core.management import get_commands, load_command_class
from django.db import models
from django.template import engines
from django.test.utils import isolate_apps

from django_visual_search.admin import VisualSearchAdminMixin
from django_visual_search.api import VisualSearchMixin
from django_visual_search.conf import DEFAULTS, SETTINGS
from django_visual_search.extractors import Extractor
from django_visual_search.feedback.events import WORTH
from django_visual_search.fields import EmbeddingField
from django_visual_search.ranking.types import Candidate
from django_visual_search.search.planning import MOST_EXACT_ROWS, ROWS_PER_EF
from django_visual_search.storefront.cards import Card

from .. import docs
from ..testshop.models import Product
from .test_public_names import COMMANDS, IMPORTS

LONGEST_README = 200

MIXINS = {mixin.__name__: mixin for mixin in (VisualSearchAdminMixin, VisualSearchMixin)}

NOT_OURS = {
    *("ATOMIC_REQUESTS", "CONN_MAX_AGE", "CSRF_TRUSTED_ORIGINS", "DEBUG", "DISABLE_SERVER_SIDE_CURSORS", "DIRS"),
    *("LANGUAGE_CODE", "LOCALE_PATHS"),
    *("INSTALLED_APPS", "NUM_PROXIES", "REMOTE_ADDR", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "SILENCED_SYSTEM_CHECKS"),
    *("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST", "VISUAL_SEARCH"),
}
"""What pages write like a setting of ours: settings of Django and of others."""

SHOP_COMMANDS = {"demo", "import_catalogue"}
"""Of the example shop."""

NOT_ON_THE_PAGE = {"django_visual_search.apps", "django_visual_search.urls"}
"""Modules whose names nobody imports: settings and URLs name the modules."""


def by_page(language):
    """Parameters (page, block), with the page's name and the block's number as id."""
    return [
        pytest.param(page, block, id=f"{page.relative_to(docs.ROOT)}-{number}")
        for page in docs.PAGES
        for number, block in enumerate(docs.blocks(page, language))
    ]


@pytest.mark.parametrize(("page", "block"), by_page("python"))
def test_python(page, block):
    """It compiles, and what it imports from this app exists."""
    for node in ast.walk(ast.parse(block, str(page))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django_visual_search"):
            if node.module.startswith("django_visual_search.contrib."):
                # It needs the other package's apps; a test makes a shop of that page.
                assert importlib.util.find_spec(node.module)
                continue
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module}.{name.name}"
        if isinstance(node, ast.ClassDef):
            check_class(node)


def check_class(node):
    """What a class that inherits a mixin of ours sets or overrides exists there."""
    mixins = [MIXINS[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in MIXINS]
    methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    attributes = {target.id for part in node.body if isinstance(part, ast.Assign) for target in part.targets}
    for name in methods | {name for name in attributes if name.startswith("visual_search")}:
        assert all(hasattr(mixin, name) for mixin in mixins), name


@pytest.mark.parametrize(("page", "block"), by_page("django"))
def test_templates(page, block):
    engines["django"].from_string(block)


@pytest.mark.parametrize(("page", "block"), by_page("json"))
def test_json(page, block):
    json.loads(block)


@pytest.mark.parametrize(("page", "block"), by_page("bash"))
def test_commands(page, block):
    """Programs exist, and management commands take the arguments that are shown."""
    for line in block.splitlines():
        for command in line.split(" && "):
            check_command(shlex.split(command))


def check_command(words):
    if words[:2] == ["python", "manage.py"]:
        name, *arguments = words[2:]
        if name not in SHOP_COMMANDS:
            parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors):
                try:
                    parser.parse_args(arguments)
                except SystemExit:
                    pytest.fail(errors.getvalue())
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), words[2]
    else:
        assert shutil.which(words[0]), words[0]


@pytest.mark.parametrize("page", docs.PAGES, ids=lambda page: str(page.relative_to(docs.ROOT)))
def test_settings_exist(page):
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+|[A-Z]{5,})`", page.read_text()))
    assert named <= {*DEFAULTS, *NOT_OURS}
    for path, text in docs.files(page):
        if path == "proj/settings.py":
            shown = {"INSTALLED_APPS": [], "DATABASES": {"default": {}}}
            exec(text, shown)
            for key, value in shown.get("VISUAL_SEARCH", {}).items():
                assert str(value).startswith("shop.") or SETTINGS[key].rule.fault(value) is None


@pytest.mark.parametrize(("page", "directive"), [("settings", "settings-list"), ("checks", "checks-table")])
def test_lists_come_from_the_code(page, directive):
    assert f"```{{{directive}}}" in (docs.FOLDER / f"reference/{page}.md").read_text()


def test_the_default_extractor_is_the_one_that_is_shown():
    (block,) = (text for text in docs.blocks(docs.EXTRACTORS, "python") if "What you get with no settings" in text)
    shown = {}
    exec(block, shown)
    assert shown["VISUAL_SEARCH"]["EXTRACTORS"] == DEFAULTS["EXTRACTORS"]


def test_rows_compared_one_by_one():
    """The setting's sentence and the page can't import the numbers of ``search.planning``."""
    most, whole = MOST_EXACT_ROWS, ROWS_PER_EF * DEFAULTS["EF_SEARCH"]
    assert f"{most:,} at most" in SETTINGS["EXACT_ROWS"].sentence
    page = (docs.FOLDER / "concepts/photo-to-hits.md").read_text()
    assert f"up to {whole:,} rows" in page
    assert f"up to {most:,} (`EXACT_ROWS`" in page


def test_the_worth_of_events():
    page = (docs.FOLDER / "howto/feedback.md").read_text()
    assert dict(re.findall(r"^\| (\w+) \| (-?\d+) \|$", page, re.MULTILINE)) == {
        str(kind): f"{worth:g}" for kind, worth in WORTH.items()
    }


def test_every_command_is_in_the_reference():
    named = re.findall(r"```\{command\} (\w+)", (docs.FOLDER / "reference/commands.md").read_text())
    assert sorted(named) == sorted(COMMANDS)


@pytest.mark.parametrize("module", sorted(set(IMPORTS) - NOT_ON_THE_PAGE))
def test_every_public_name_is_in_the_reference(module):
    text = (docs.FOLDER / "reference/python.md").read_text()
    for name in IMPORTS[module]:
        assert re.search(rf"\b{name}\b", text), f"{module}.{name}"


def test_permissions_exist():
    named = set(re.findall(r"`([a-z]+_[a-z]+)`", (docs.FOLDER / "reference/permissions.md").read_text()))
    ours = apps.get_app_config("django_visual_search").get_models()
    codenames = {codename for model in ours for codename, _ in _get_all_permissions(model._meta)}
    assert {
        name for name in named if name.partition("_")[0] in ("add", "change", "check", "delete", "view")
    } <= codenames


def test_every_page_is_reachable():
    listed = re.findall(r"^([\w.-]+(?:/[\w-]+)?)$", (docs.FOLDER / "index.md").read_text(), re.MULTILINE)
    pages = {page.relative_to(docs.FOLDER).with_suffix("").as_posix() for page in docs.PAGES[1:]}
    assert {*listed, "index"} == pages


def test_cards_have_what_templates_are_promised():
    (listed,) = re.findall(r"A card has ([^.]*?), and `hit`", (docs.FOLDER / "howto/templates.md").read_text())
    assert all(hasattr(Card, name) for name in re.findall(r"`(\w+)`", listed))
    assert hasattr(Card, "address")  # the name in templates written before


class TestArchitecture:
    def rows(self, heading):
        """Yield the names in each cell of a section's table."""
        text = (docs.FOLDER / "contributing/architecture.md").read_text()
        section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        for line in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[1:]:
            yield [re.findall(r"`([\w./]+)`", cell) for cell in line.split(" | ")]

    def test_every_package_is_there(self):
        listed = {name.rstrip("/") for packages, *_ in self.rows("Packages") for name in packages}
        children = {path.stem for path in docs.FOLDER.parent.iterdir() if path.suffix in ("", ".py")}
        apart = {"__init__", "__pycache__", "apps", "docs", "gate", "indexes", "migrations", "results"}
        assert listed == children - {*apart, "static", "templates", "locale"}

    def test_where_to_start_reading_exists(self):
        for packages, _, entries in self.rows("Packages"):
            for entry in entries:
                assert resolve(f"{packages[0].rstrip('/')}.{entry}"), entry

    def test_where_to_change_what_exists(self):
        assert all(resolve(name) for _, places in self.rows("Where to change what") for name in places)

    def test_the_journeys_begin_and_end_somewhere(self):
        for _, first, last in self.rows("Four journeys"):
            assert all(resolve(name) for name in (*first, *last))


@pytest.mark.parametrize("page", sorted((docs.FOLDER / "concepts").glob("*.md")), ids=lambda page: page.stem)
def test_modules_on_the_way_exist(page):
    """Each step names where to read on."""
    text = page.read_text()
    packages = "|".join(path.stem for path in docs.FOLDER.parent.iterdir() if path.suffix in ("", ".py"))
    names = re.findall(rf"`((?:{packages})\.[\w.]+)`", text)
    assert all(resolve(name) for name in names)
    steps = re.findall(r"^\d+\. .*", text, re.MULTILINE)
    assert all(re.match(r"\d+\. \*\*[\w ]+\*\* \(`", step) for step in steps), steps


def resolve(name):
    return pkgutil.resolve_name(f"django_visual_search.{name}")


# What the pages define, at work


def definitions(page, path):
    shown = {}
    exec(next(text for name, text in docs.files(docs.FOLDER / page) if name == path), shown)
    return shown


def test_the_extractor_of_ones_own():
    (made,) = (
        value
        for value in definitions("howto/extractors.md", "shop/extractors.py").values()
        if isinstance(value, type) and issubclass(value, Extractor) and value is not Extractor
    )
    extractor = made()
    side = extractor.spec.input_size
    vectors = extractor(np.random.default_rng(0).integers(0, 255, (3, side, side, 3), dtype=np.uint8))
    assert vectors.shape == (3, extractor.spec.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_the_ranker_of_ones_own():
    ranker = definitions("howto/ranking.md", "shop/ranking.py")["newest_first"]
    candidates = [Candidate(pk, pk, None, 0.1, 0.9, 0.9) for pk in (2, 3, 1)]
    assert [candidate.product_pk for candidate in ranker(candidates, None)] == [3, 2, 1]


def test_the_viewset():
    (block,) = docs.blocks(docs.FOLDER / "howto/api.md", "python")
    exec(block, {"Product": Product, "ProductSerializer": object})


@isolate_apps("tests.testshop")
def test_the_companions():
    blocks = docs.blocks(docs.FOLDER / "howto/companions.md", "python")
    shown = {"__name__": "tests.testshop.models"}
    exec("\n".join(block for block in blocks if "Embedding(models.Model)" in block), shown)
    for model in (shown["ProductImageEmbedding"], shown["ProductEmbedding"]):
        field = model._meta.get_field("embedding")
        assert isinstance(field, EmbeddingField)
        assert isinstance(field.link, models.OneToOneField)


# The README


def test_the_readme_is_short():
    assert len(docs.README.read_text().splitlines()) <= LONGEST_README


def test_the_readme_quickstart_is_that_of_the_docs():
    assert list(docs.files(docs.README)) == list(docs.files(docs.QUICKSTART))
    lines = [line for block in docs.blocks(docs.QUICKSTART, "bash") for line in block.splitlines()]
    shown = [line for block in docs.blocks(docs.README, "bash") for line in block.splitlines()]
    assert [line for line in shown if line in lines] == lines


def test_links_and_pictures_of_the_readme_lead_somewhere():
    """Those of the docs are checked by Sphinx."""
    text = docs.README.read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        page = docs.ROOT / target if target else docs.README
        assert page.exists(), target
        headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {
            re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
        }, anchor
