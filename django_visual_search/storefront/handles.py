"""The query handle: a photo's vectors under a signed name, so that text, filters, sorting and pages need no upload.

Entry functions: ``handle_of`` and ``read_handle``. The vectors lie in the cache ``HANDLE_CACHE`` for
``HANDLE_SECONDS``; the photo is not kept. A handle is valid for one field and while a space of its vectors is
live; that of a user who has logged in, for that user only.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, NamedTuple

import numpy as np
from django.core.cache import caches
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest

from ..conf import conf
from ..fields import EmbeddingField
from ..search import SearchResults
from ..search.query import Query
from ..spaces.heads import key_of_space
from ..spaces.live import live_spaces

logger = logging.getLogger("django_visual_search")

HANDLE_SALT = "django_visual_search.handle"
PREFIX = "visual_search.handle."
"""Of the cache's keys."""


class HandleExpired(Exception):  # noqa: N818 (a state, not a fault)
    """The handle is too old, of another field or visitor, or its vectors are gone: the photo has to be sent again."""


class PhotoQuery(NamedTuple):
    """The query behind a handle."""

    id: str
    """Id of the photo's first search, in hexadecimal."""
    queries: list[Query]

    def search_id(self, *options: str) -> str:
        """Return the id of a search by this photo, the same for the same options: a reloaded page is no new search."""
        chosen = "\n".join(options)
        return uuid.uuid5(uuid.UUID(self.id), chosen).hex if chosen else self.id


def handle_of(results: SearchResults, request: Any = None) -> str:
    """Return the handle of a photo search; empty for other searches, and where the cache fails."""
    if not results.queries:
        return ""
    name = results.ranking.search
    kept = {
        "field": results.label,
        "visitor": _visitor_of(request),
        "queries": [
            (query.extractor_key, query.blank, np.asarray(query.vector, np.float32).tobytes())
            for query in results.queries
        ],
    }
    try:
        caches[conf.HANDLE_CACHE].set(PREFIX + name, kept, conf.HANDLE_SECONDS)
    except Exception as e:  # whatever the cache's client raises, the hits must be shown
        logger.warning("visual search: the cache keeps no query: %s: %s", type(e).__name__, e)
        return ""
    return _signer().sign(name)


def read_handle(handle: str, field: EmbeddingField, request: Any = None) -> PhotoQuery:
    """Return the photo's query. Raise HandleExpired for a handle that isn't valid, for whatever reason."""
    try:
        name = _signer().unsign(handle, max_age=conf.HANDLE_SECONDS)
    except BadSignature as e:
        raise HandleExpired(str(e)) from None
    try:
        kept = caches[conf.HANDLE_CACHE].get(PREFIX + name)
    except Exception as e:
        logger.warning("visual search: the cache gives no query: %s: %s", type(e).__name__, e)
        kept = None
    if kept is None or kept["field"] != field.label or kept["visitor"] != _visitor_of(request):
        raise HandleExpired("Its vectors are gone, or of another field or visitor.")
    live = {key_of_space(field, space) for space in live_spaces(field).all}
    queries = [
        Query(np.frombuffer(vector, np.float32), key, blank) for key, blank, vector in kept["queries"] if key in live
    ]
    if not queries:
        raise HandleExpired("Its vector space is no longer live.")
    return PhotoQuery(name, queries)


def _signer() -> TimestampSigner:
    return TimestampSigner(sep=".", salt=HANDLE_SALT)


def _visitor_of(request: HttpRequest | None) -> str:
    """Return the user's identity, because visibility depends on it; empty for visitors who have not logged in."""
    user = getattr(request, "user", None)
    return str(user.pk) if user is not None and user.is_authenticated else ""
