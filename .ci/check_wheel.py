"""Check that a wheel holds what the package needs, and that it works once installed.

``check_wheel.py FILE`` looks into the wheel; ``--installed`` runs with the Python that it is installed in.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "django_visual_search"
LANGUAGES = ("ar", "de", "zh-hans")
"""Whose translations the wheel has, compiled."""
ROOT = Path(__file__).resolve().parent.parent

STARTS = f"""
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "{PACKAGE}"],
    DATABASES={{"default": {{"ENGINE": "django.db.backends.dummy"}}}},
)
import django
django.setup()
import sys
import {PACKAGE}
from django.utils import translation
from django.core.management import call_command
from django.db.migrations.loader import MigrationLoader
from {PACKAGE} import search, fields, indexes, tasks
assert "site-packages" in {PACKAGE}.__file__, {PACKAGE}.__file__
assert MigrationLoader(None).graph.leaf_nodes("{PACKAGE}")
call_command("makemigrations", "{PACKAGE}", check=True, dry_run=True, verbosity=0, skip_checks=True)
for language in {LANGUAGES}:
    with translation.override(language):
        assert translation.gettext("Search by photo") != "Search by photo", language
assert "tensorflow" not in sys.modules
"""


def check_contents(wheel):
    """Every file of the package in the checkout is in the wheel, apart from the docs, and nothing else."""
    files = (path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*") if path.is_file())
    caches = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
    wanted = {path.as_posix() for path in files if not {*caches, "docs"} & set(path.parts)}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"{PACKAGE}/")}
    assert f"{PACKAGE}/migrations/0001_initial.py" in held
    assert f"{PACKAGE}/py.typed" in held
    if wanted != held:
        sys.exit(f"missing from the wheel: {sorted(wanted - held)}\nnot of the package: {sorted(held - wanted)}")
    print(f"{Path(wheel).name}: {len(held)} files")


if __name__ == "__main__":
    if sys.argv[1] == "--installed":
        subprocess.run([sys.executable, "-W", "ignore", "-c", STARTS], check=True)
        print("the wheel installs and starts")
    else:
        check_contents(sys.argv[1])
