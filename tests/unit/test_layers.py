"""Imports follow the contracts of pyproject.toml, and importing the package loads no ML runtime."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

PACKAGE = "django_visual_search"
ROOT = Path(__file__).resolve().parents[2]

ALONE = (
    "contrib.wagtail",
    "contrib.oscar",
    "extractors.build",
    "indexing.decoding.child",
    "learning.finetune.__main__",
    "learning.finetune.augmentation",
    "learning.finetune.loss",
    "learning.finetune.run",
    "learning.finetune.training",
)
"""Only ever loaded in processes of their own, or in shops on other packages."""

FRAMEWORKS = {"django", "celery", "pgvector", "psycopg", "rest_framework"}
RUNTIMES = ["tensorflow", "keras", "skimage", "sklearn", "scipy", "ai_edge_litert", "pi_heif"]


def modules():
    """Every module of the package, by its name within it."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        if not {"migrations", "docs"} & set(parts):
            yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())


def test_imports_follow_the_contracts():
    """Layers, and what may not know Django: the contracts are in pyproject.toml."""
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


MEANT = {
    # By Django, Celery or Python
    *("Command", "T", "logger", "main", "register", "urlpatterns"),
    # Thin tasks and template tags, called like the functions that they call
    *("aggregate", "embed", "sweep", "feedback_attributes", "reactions", "similar_items"),
    # In shops on other packages, the same for each
    *("check_order_of_apps", "connect_signals"),
}
"""Names that several modules define."""


def test_a_name_has_one_meaning():
    """As the architecture page says; names that begin with an underscore too."""
    defined = defaultdict(set)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
            for target in targets:
                name = getattr(target, "name", getattr(target, "id", ""))
                if not name.startswith("__"):
                    defined[name].add(module)
    defined.pop("", None)
    assert {name: sorted(modules) for name, modules in defined.items() if len(modules) > 1 and name not in MEANT} == {}


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
