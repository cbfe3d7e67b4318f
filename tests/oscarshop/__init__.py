"""A shop on django-oscar, made from nothing as Oscar's documentation says, then as ours: ``docs/howto/oscar.md``.

``settings`` and ``urls`` are the shop before visual search; ``build`` runs in its processes. pytest's own process never
imports Oscar.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .. import docs
from ..migrated import copy_tables
from ..startup import STARTUP

HERE = Path(__file__).parent
PAGE = docs.FOLDER / "howto/oscar.md"


class OscarShop:
    """The project's folder, with what the page says in it, and its processes."""

    def __init__(self, folder: Path, database: dict) -> None:
        self.folder, self.database = folder, database
        for name in ("proj", "shop"):
            (folder / name).mkdir()
            (folder / name / "__init__.py").touch()
        for name in ("settings", "urls"):
            shutil.copy(HERE / f"{name}.py", folder / "proj")
        copy_tables(database, "oscar", self._migrate)
        self.lines = 0
        for path, text in docs.files(PAGE):
            with (folder / path).open("a") as file:
                file.write(text)
            self.lines += len([line for line in text.splitlines() if line.strip()])

    def _migrate(self, database: dict) -> None:
        """Run the migrations of the shop before visual search."""
        shop = json.dumps({"database": database, "folder": str(self.folder)})
        process = self.start("-m", "django", "migrate", "--verbosity=0", env={**self.environment, "OSCAR_SHOP": shop})
        assert process.wait(280) == 0

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ},
            "HOME": str(self.folder),
            "PYTHONPATH": f"{STARTUP}:{self.folder}:{docs.ROOT}",
            "DJANGO_SETTINGS_MODULE": "proj.settings",
            "OSCAR_SHOP": json.dumps({"database": self.database, "folder": str(self.folder)}),
            # Nobody listens there: without a worker there is no broker either.
            "CELERY_BROKER_URL": "amqp://127.0.0.1:1//",
        }

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        # Oscar's own code warns, of what is not ours to mend.
        options = {"env": self.environment, **options}
        return subprocess.Popen([sys.executable, "-W", "default", *arguments], cwd=self.folder, text=True, **options)

    def build(self) -> dict:
        """Run the commands of the page, between them a catalogue; return what ``build`` saw."""
        _, commands = docs.blocks(PAGE, "bash")
        lines = [line.removeprefix("python manage.py ") for line in commands.splitlines()]
        process = self.start("-m", "tests.oscarshop.build", *lines, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, f"{out}\n{err}"
        return json.loads((self.folder / "seen.json").read_text()) | {"output": out, "complaints": err}
