"""Which rankers a search uses: those of the setting, those of the call, or none."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from ..conf import conf
from .types import Ranker

NEEDS = frozenset({"evidence", "vectors", "rules"})


def rankers_for(ranking: bool | Iterable[Any] | None) -> tuple[Ranker, ...]:
    """None or True: those of ``VISUAL_SEARCH["RANKING"]``; False: none; else the functions or dotted paths given.

    The last part of a path is enough for one of the setting or of ``django_visual_search.ranking``. Raises
    ImproperlyConfigured for a path that names no ranker, ValueError for anything else.
    """
    if ranking is None or ranking is True:
        return _load(tuple(conf.RANKING))
    if ranking is False:
        return ()
    if isinstance(ranking, str) or not isinstance(ranking, Iterable):
        raise ValueError(f"'ranking' is a bool or a list of rankers, not {ranking!r}.")
    return _load(tuple(ranking))


def needs_of(rankers: Iterable[Ranker]) -> frozenset[str]:
    """What these rankers want read along with the neighbours."""
    return frozenset().union(*(getattr(ranker, "needs", ()) for ranker in rankers))


@functools.lru_cache(maxsize=64)
def _load(names: tuple[Any, ...]) -> tuple[Ranker, ...]:
    return tuple(load_ranker(name) for name in names)


def load_ranker(name: Any) -> Ranker:
    """A ranker by its path or as the function itself. Raises ImproperlyConfigured for what is none."""
    ranker = name if callable(name) else _import(str(name))
    if not callable(ranker) or not frozenset(getattr(ranker, "needs", ())) <= NEEDS:
        raise ImproperlyConfigured(f"{name!r} is not a ranker: a function whose 'needs' are of {sorted(NEEDS)}.")
    return ranker


def _import(path: str) -> Any:
    if "." not in path:
        named = [listed for listed in map(str, conf.RANKING) if listed.endswith(f".{path}")]
        path = named[0] if named else f"django_visual_search.ranking.{path}"
    try:
        return import_string(path)
    except ImportError as e:
        raise ImproperlyConfigured(f"There is no ranker {path!r}: {e}") from e


@receiver(setting_changed)
def reset(*, setting: str, **kwargs: Any) -> None:
    if setting == "VISUAL_SEARCH":
        _load.cache_clear()
