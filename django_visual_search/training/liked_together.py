"""What shoppers say belongs together: products that were liked as similar items of one another."""

from __future__ import annotations

from django.db import router

from ..fields import EmbeddingField
from ..models import Evidence
from ..ranking.reading import model_of

LEAST_GAIN = 3.0
"""Of a pair: three clicks, or one product put into the cart. One click may be a slip."""
MOST_PAIRS = 20_000


def liked_together(field: EmbeddingField) -> dict[str, str]:
    """Product's primary key as text -> the name of its pair, for products that shoppers liked as similar items.

    Each product is in one pair at most, that with the highest gain per look. Gains are as they were written down:
    what has faded alike keeps its order.
    """
    rows = Evidence.objects.using(router.db_for_read(field.model)).filter(model=model_of(field), gain__gte=LEAST_GAIN)
    pairs = [
        (gain / max(exposure, 1.0), *sorted((query_id, object_id)))
        for query_id, object_id, gain, exposure in rows.exclude(query_id="")
        .order_by("-gain", "query_id", "object_id")
        .values_list("query_id", "object_id", "gain", "exposure")[:MOST_PAIRS]
        if query_id != object_id
    ]
    found: dict[str, str] = {}
    for _, one, other in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        if one not in found and other not in found:
            found[one] = found[other] = f"{one} {other}"
    return found
