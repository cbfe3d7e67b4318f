"""What a search showed to whom: read from its signed token, or from its results."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core import signing
from django.db import models

from ..fields.registry import get_field
from ..search.results import Ranking, read_token
from .errors import BadToken, NotOffered


@dataclass(frozen=True)
class Showing:
    """How a search showed one product; empty where no search is known."""

    label: str = ""
    extractor_key: str = ""
    query_kind: str = ""
    query_id: str = ""
    search: uuid.UUID | None = None
    rank: int | None = None
    similarity: float | None = None


class Offer:
    """The products that a search has shown so far. Raises LookupError where its field is not there any more."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking
        self.model: type[models.Model] = get_field(ranking.label).product_model._meta.concrete_model
        """The products' concrete model."""
        # A place may be left blank where only its number matters.
        shown = ranking.places[: ranking.shown]
        self._ranks = {place.product_pk: rank for rank, place in enumerate(shown, 1) if place.product_pk}

    def showing_of(self, product_pk: str) -> Showing:
        """Raises NotOffered for a product that was not shown."""
        rank = self._ranks.get(product_pk)
        if rank is None:
            raise NotOffered(f"The search did not show a product with the primary key {product_pk[:100]!r}.")
        ranking = self.ranking
        return Showing(
            ranking.label,
            ranking.extractor_key,
            ranking.query_kind,
            ranking.query_id,
            uuid.UUID(ranking.search),
            rank,
            ranking.places[rank - 1].similarity,
        )


def read_offer(token: Any) -> tuple[Offer, datetime]:
    """What a token says was shown, and when. Raises BadToken."""
    if not isinstance(token, str):
        raise BadToken("The token must be text, as the search gave it.")
    try:
        offer = Offer(read_token(token))
    except signing.SignatureExpired as e:
        raise BadToken("The token is too old. Search again.") from e
    except (signing.BadSignature, UnicodeError) as e:
        raise BadToken("The token is not valid. Send it as the search gave it.") from e
    except LookupError as e:
        raise BadToken("The token is of a search that is not there any more. Search again.") from e
    signed_at = signing.b62_decode(token.rsplit(":", 2)[1])
    return offer, datetime.fromtimestamp(signed_at, UTC)
