"""scikit-learn is needed only where something is learned, never to search."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

from ..extractors.base import ExtractorUnavailable

INSTALL = (
    "Learning from the catalogue needs scikit-learn, which is not installed here: "
    "pip install 'django-visual-search[training]'. Searching with what was learned doesn't need it."
)


def missing() -> str | None:
    """Why nothing can be learned here and what to do, or None. Imports nothing."""
    return None if find_spec("sklearn") else INSTALL


def require() -> None:
    """Raises ExtractorUnavailable where scikit-learn is missing."""
    if problem := missing():
        raise ExtractorUnavailable(problem)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Linear algebra on one core: its threads spin while they wait for each other where others keep the cores busy.

    Measured on two busy cores, a head of 1,280 features took 16 s of processor time with two threads, 2 s with one.
    """
    require()
    from threadpoolctl import threadpool_limits  # scikit-learn depends on it

    with threadpool_limits(limits=1, user_api="blas"):
        yield
