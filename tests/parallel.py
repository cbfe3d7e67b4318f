"""For ``pytest -n 2``: which tests stay together in one process, and what is begun first."""

from __future__ import annotations

from collections import Counter

import pytest

TOGETHER = {"test_browser_admin", "test_example_celery"}
"""They share the queue of the example's worker."""

LONG = (
    *("test_training_grocery", "test_browser_admin", "test_learning_finetune", "test_ranking_simulation"),
    *("test_learning_grocery", "test_extractors_keras", "test_grocery", "test_search_scale", "test_switching"),
)
"""Modules of a minute or more. Begun last, one of them would keep one core busy and the other idle."""


def module_of(nodeid: str) -> str:
    return nodeid.partition("::")[0].rpartition("/")[2].removesuffix(".py")


def group_of(nodeid: str) -> str:
    """A module's tests share its fixtures; some modules share more."""
    module = module_of(nodeid)
    return "example" if module in TOGETHER else module


def place_of(nodeid: str) -> int:
    module = module_of(nodeid)
    return LONG.index(module) if module in LONG else len(LONG)


def refuse_alike(items) -> None:
    """Raises UsageError where tests share an id: by it alone pytest-xdist knows them, and runs one of them."""
    alike = [nodeid for nodeid, count in Counter(item.nodeid for item in items).items() if count > 1]
    if alike:
        raise pytest.UsageError(f"Several tests have the same id, so that all but one would be lost: {alike}")


def scheduler(config, log):
    """pytest-xdist's, by our groups: its own ``loadgroup`` does nothing with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
