"""The rows of "In a stranger's shop" that need packages or models of their own: ``tests/fieldshop``, in one process."""

import ast
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("modeltranslation", reason="the extra 'field' is not installed")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
FILES = ["cases.py", "shared.py", "further.py", "reports.py", "instances.py"]
CASES = [ROOT / "tests/fieldshop" / name for name in FILES]
NAMES = [
    f"{group.name}.{test.name}"
    for cases in CASES
    for group in ast.parse(cases.read_text()).body
    if isinstance(group, ast.ClassDef)
    for test in group.body
    if isinstance(test, ast.FunctionDef) and test.name.startswith("test_")
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Return what became of each test, with its output: "Group.test" -> texts, empty for one that passed."""
    report = tmp_path_factory.mktemp("field") / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *map(str, CASES), "--ds=tests.fieldshop.settings", "--nomigrations"),
            *(
                "-o",
                f"python_files={' '.join(FILES)}",
                "-p",
                "no:xdist",
                "-p",
                "no:cacheprovider",
                "-W",
                "default",
                "--reuse-db",
            ),
            *("--create-db", f"--junitxml={report}", "-q"),
        ],
        cwd=ROOT,
        # What this process was given (by CI: "-n 3") isn't meant for that one, which has no xdist.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}.{case.get('name').partition('[')[0]}"
        faults = [child.text or child.get("message") for child in case if child.tag in ("failure", "error", "skipped")]
        found.setdefault(name, []).extend(faults)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_row(name, outcomes):
    assert outcomes[name] == [], "\n".join(outcomes[name])
