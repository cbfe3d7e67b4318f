"""Visitors of a shop, rankings that searches show them, and changed clocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from unittest import mock

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils import timezone

from django_visual_search.models import Evidence
from django_visual_search.search.results import Place, Ranking

LABEL = "testshop.Product.embedding"


def visitor(address: str = "192.0.2.1", agent: str = "Firefox", user=None, **meta) -> HttpRequest:
    """Return a request without a session, as from a browser without cookies."""
    request = RequestFactory().get("/", REMOTE_ADDR=address, HTTP_USER_AGENT=agent, **meta)
    request.user = user or AnonymousUser()
    return request


def ranking(products, query="", *, label: str = LABEL, shown: int | None = None, kind: str = "") -> Ranking:
    """Return the ranking of a search for similar items (by photo without ``query``), of products or primary keys."""
    keys = [str(getattr(product, "pk", product)) for product in products]
    query_id = str(getattr(query, "pk", query))
    places = tuple(Place(key, key, 0.9 - 0.01 * i) for i, key in enumerate(keys))
    kind = kind or ("product" if query_id else "photo")
    return Ranking(label, kind, query_id, "colour-1", True, places, len(keys) if shown is None else shown)


def token(products, query="", **kwargs) -> str:
    return ranking(products, query, **kwargs).sign()


@contextlib.contextmanager
def moved_to(moment: datetime) -> Iterator[None]:
    """Move the clocks of Django and of signed tokens."""
    with (
        mock.patch.object(timezone, "now", return_value=moment),
        mock.patch("time.time", return_value=moment.timestamp()),
    ):
        yield


def evidence(query="", model: str = "testshop.product") -> dict[str, tuple[float, float]]:
    """Return gain and exposure by product, rounded, for one query product or for all queries."""
    rows = Evidence.objects.filter(model=model, query_id=str(getattr(query, "pk", query)))
    return {row.object_id: (round(row.gain, 4), round(row.exposure, 4)) for row in rows}
