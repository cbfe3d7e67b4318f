"""For ``pytest -n``: the tests of a module stay together in one process, and long modules begin first."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath

import pytest

LONG = (
    *("test_browser_admin", "test_learning_finetune", "test_training_grocery", "test_extractors_keras"),
    *("test_packages", "test_browser_pages", "test_learning_grocery", "test_faults_database", "test_browser_photo"),
    *("test_extractors_hub", "test_oscar", "test_switching", "test_wagtail", "test_grocery", "test_strangers_shop"),
    *("test_embedded_postgres", "test_training", "test_browser_shop", "test_ranking_simulation", "test_faults_worker"),
    *("test_evaluation", "test_faults_reindex", "test_search_scale", "test_example_demo", "test_faults_concurrency"),
    *("test_example_import", "test_api_load", "test_admin_findability", "test_example_celery", "test_findability"),
    *("test_example_languages", "test_languages", "test_api_fuzz", "test_images_refused", "test_example_figures"),
)
"""Modules of ten seconds or more. Begun last, one of them would keep one core busy and the others idle.

Modules that compute and modules that wait take turns, so that both run at the same time. The first draws the demo, for
which others would wait.
"""


def place_of(nodeid: str) -> int:
    """Return the module's place in the order of execution."""
    module = PurePath(nodeid.partition("::")[0]).stem
    return LONG.index(module) if module in LONG else len(LONG)


def refuse_alike(items) -> None:
    """Raise UsageError where tests share an id: pytest-xdist knows them by it alone, and runs one of them."""
    alike = [nodeid for nodeid, count in Counter(item.nodeid for item in items).items() if count > 1]
    if alike:
        raise pytest.UsageError(f"Several tests have the same id, so that all but one would be lost: {alike}")


def scheduler(config, log):
    """Return pytest-xdist's scheduler by file, which leaves the order of files as it is."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
