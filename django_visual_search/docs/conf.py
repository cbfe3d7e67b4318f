"""Sphinx configuration: ``sphinx-build -W django_visual_search/docs OUTPUT``. Builds without network or database.

Directives write reference pages from the code: ``settings-list``, ``checks-table``, ``command``, ``image-codes`` and
``layers``.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import load_command_class
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["COLUMNS"] = "100"  # of a command's usage
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
    INSTALLED_APPS=[
        *("django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages"),
        *("django.contrib.sessions", "rest_framework", "django_visual_search"),
    ],
    SECRET_KEY="docs",
    USE_TZ=True,
)
django.setup()

from django_visual_search import __version__  # noqa: E402

project = "django-visual-search"
author = "the django-visual-search authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["__pycache__"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100

html_theme = "furo"
html_title = "django-visual-search"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


class SettingsList(SphinxDirective):
    """Every key of ``VISUAL_SEARCH`` with its sentence and default; a definition list, as some defaults are long."""

    def run(self) -> list[nodes.Node]:
        from django_visual_search.conf import settings_table

        items = [f"`{name}`\n: {sentence} Default: `{default}`." for name, default, sentence in settings_table()]
        return self.parse_text_to_nodes("\n\n".join(items))


class ChecksTable(SphinxDirective):
    """Every system check with what it reports."""

    def run(self) -> list[nodes.Node]:
        from django_visual_search import checks

        rows = [(f"`{name}`", sentence) for name, sentence in checks.checks_table()]
        return self.parse_text_to_nodes(table(["id", "what is wrong"], rows))


class Command(SphinxDirective):
    """The help of a management command: what it does, its usage, its arguments."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        command = load_command_class("django_visual_search", self.arguments[0])
        parser = ArgumentParser(prog=self.arguments[0], add_help=False)
        command.add_arguments(parser)
        rows = [
            (f"`{', '.join(action.option_strings) or action.metavar}`", parser._get_formatter()._expand_help(action))
            for action in parser._actions
        ]
        usage = parser.format_usage().removeprefix("usage: ").rstrip()
        text = f"{command.help}\n\n```text\n{usage}\n```\n\n"
        return self.parse_text_to_nodes(text + (table(["argument", "meaning"], rows) if rows else ""))


class ImageCodes(SphinxDirective):
    """Every reason for which a photo is refused."""

    def run(self) -> list[nodes.Node]:
        from django_visual_search.images import CODES

        return self.parse_text_to_nodes(
            table(["code", "meaning"], ((f"`{code}`", text) for code, text in CODES.items()))
        )


class Layers(SphinxDirective):
    """The layers of the package, from the contract that import-linter checks."""

    def run(self) -> list[nodes.Node]:
        with (ROOT / "pyproject.toml").open("rb") as file:
            contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
        layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
        text = "\n".join(layers)
        return self.parse_text_to_nodes(f"```text\n{text}\n```")


def table(heads: list[str], rows: Any) -> str:
    """Return a Markdown table; ``|`` in a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *([str(cell).replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def items_of_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn lines that begin with ``argument``: into list items, which docstrings write without blank lines between."""
    out: list[str] = []
    in_item = False
    for line in lines:
        text = line.strip()
        sentence = bool(out) and out[-1].rstrip().endswith(".") and text[:1].isupper()
        if re.match(r"``\w+``(, ``\w+``)*( and ``\w+``)?: ", text) and line == text:
            out += ([] if in_item else [""]) + [f"* {text}"]
            in_item = True
        elif in_item and text and not sentence:
            out.append(f"  {text}")
        else:
            out += ([""] if in_item else []) + [line]
            in_item = False
    lines[:] = out


def without_context(app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: Any, returns: Any) -> Any:
    """Leave out the argument that Django itself gives to a template tag."""
    if signature is not None and ".templatetags." in name:
        return re.sub(r"^\(context: [\w.~]+, ", "(", signature), returns
    return None


def setup(app: Sphinx) -> None:
    app.add_directive("settings-list", SettingsList)
    app.add_directive("checks-table", ChecksTable)
    app.add_directive("command", Command)
    app.add_directive("image-codes", ImageCodes)
    app.add_directive("layers", Layers)
    app.connect("autodoc-process-docstring", items_of_docstring)
    app.connect("autodoc-process-signature", without_context)
