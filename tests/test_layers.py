"""Nothing imports upward, pictures and extractors know no Django, and importing the package loads no ML runtime."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "django_visual_search"
ROOT = Path(__file__).resolve().parent.parent

LAYERS = [
    ["_image_formats", "_image_pixels", "_image_rules", "_image_decode", "images", "_decoder"],
    ["extractors"],
    ["learning"],
    ["indexes", "field_checks", "fields"],
    ["registry"],
    ["conf", "models", "extension", "statements", "progress", "results", "savepoints", "vectors", "by_key"],
    ["artifacts", "backends", "decoder_process", "decoding", "decoder_pool", "publishing"],
    ["serving", "spaces", "catalogue", "feature_cache"],
    ["indexing"],
    ["ranked", "rankers", "knowledge", "ranking"],
    ["candidates", "rows", "planning", "scans", "nearest", "merging", "queries"],
    ["confidence", "closeness", "own_picture", "answering", "search"],
    ["states", "statuses", "feedback", "evaluation"],
    ["findability", "training", "switching"],
    ["tasks"],
    ["signals", "deletions", "changed_rules", "indexing.queueing"],
    ["visibility", "presentation", "gate"],
    ["storefront", "cards", "photo_form", "previews", "pages", "templatetags", "api"],
    ["urls"],
    ["admin"],
    [
        "checks",
        "settings_checks",
        "ranking_checks",
        "feedback_checks",
        "api_checks",
        "learning_checks",
        "extractor_checks",
        "database_checks",
    ],
    ["apps", "management"],
]
"""From the bottom up; a module imports from its own row and earlier ones only. A package stands for its modules."""

WITHOUT_DJANGO = [*LAYERS[0], *LAYERS[1], *LAYERS[2]]
FRAMEWORKS = {"django", "celery", "pgvector", "psycopg", "rest_framework"}
ALONE = (
    "_decoder",
    "extractors._build",
    "learning._finetune_loss",
    "learning._finetune_training",
    "learning._finetune_views",
)
"""Only ever loaded in processes of their own."""
RUNTIMES = ["tensorflow", "keras", "skimage", "sklearn", "scipy", "ai_edge_litert", "pi_heif"]


def modules():
    """Every module of the package, by its name within it."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        if "migrations" not in parts:
            yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())


def imports(name):
    """Full names of what a module imports anywhere, in functions too; not what only a type checker reads."""
    path = MODULES[name]
    package = f"{PACKAGE}.{name}".rstrip(".").split(".")
    if path.name != "__init__.py":
        package.pop()
    skipped = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(node.body)
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).rstrip(".")
            base = base if node.level else node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own_imports(name):
    """The modules of the package that a module imports."""
    for full in imports(name):
        if full.startswith(f"{PACKAGE}."):
            inside = full.removeprefix(f"{PACKAGE}.")
            found = inside if inside in MODULES else inside.rpartition(".")[0]
            if found and found != name:
                yield found


def layer(name):
    """The number of a module's row: that of its longest listed prefix."""
    rows = {listed: number for number, row in enumerate(LAYERS) for listed in row}
    while name and name not in rows:
        name = name.rpartition(".")[0]
    return rows.get(name)


def test_every_module_has_a_layer():
    assert [name for name in MODULES if name and layer(name) is None] == []


def test_every_layer_has_modules():
    assert [listed for row in LAYERS for listed in row if listed not in MODULES] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_nothing_imports_upward(name):
    assert [target for target in own_imports(name) if layer(target) > layer(name)] == []


def test_no_circles():
    graph = {name: set(own_imports(name)) for name in MODULES}
    # A package's __init__ gathers its modules, which import each other by name and not through it.
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "name", [name for name in MODULES if any(f"{name}.".startswith(f"{n}.") for n in WITHOUT_DJANGO)]
)
def test_pictures_and_extractors_know_no_django(name):
    assert {full.partition(".")[0] for full in imports(name)} & FRAMEWORKS == set()


def loaded_by(program):
    """Top-level names of what is loaded in a new process after ``program``."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_pictures_and_extractors_load_no_django():
    names = ", ".join(
        f"{PACKAGE}.{name}" for name in ("images", "extractors", "extractors.keras", "extractors.classic")
    )
    loaded = loaded_by(f"import {names}")
    assert not loaded & FRAMEWORKS
    assert not loaded & set(RUNTIMES)


def test_a_web_process_loads_no_runtime():
    everything = [name for name in MODULES if name and not name.startswith(ALONE)]
    program = f"""
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "{PACKAGE}"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.dummy"}}}},
)
import django, importlib
django.setup()
for name in {everything}:
    importlib.import_module(f"{PACKAGE}.{{name}}")
from django.core.checks import run_checks
run_checks()
"""
    loaded = loaded_by(program)
    assert {"django", "PIL", "numpy"} <= loaded
    assert not loaded & set(RUNTIMES)
