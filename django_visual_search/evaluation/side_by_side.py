"""Show the hits of two vector spaces for the same products side by side, before a switch.

Entry function: ``side_by_side``. It decodes nothing: the serving vectors are in the table, and a head's vectors come
from kept features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import router
from django.db.models import TextField
from django.db.models.functions import MD5, Cast
from numpy.typing import NDArray

from ..db.rows import all_rows, key_text
from ..extractors.backbone import BackboneExtractor
from ..fields import EmbeddingField
from ..fields.keys import in_space, split_key
from ..fields.products import with_product
from ..search.candidates import primary_keys
from ..spaces import features
from ..spaces.heads import extractor_of_space, key_of_space
from ..spaces.live import Space, live_spaces
from .space import unit

PICTURES = 400
"""Pictures that are compared with one another, drawn by the hash of their key: the same each time."""


@dataclass(frozen=True)
class Beside:
    """A product, and the products nearest to it, by primary key: as it is now, and in the other space."""

    product: Any
    before: list[Any]
    after: list[Any]

    @property
    def shared(self) -> int:
        """Number of common hits."""
        return len(set(self.before) & set(self.after))


def side_by_side(
    field: EmbeddingField, space: Space, within: Any, *, queries: int = 6, hits: int = 6, pictures: int = PICTURES
) -> tuple[list[Beside], int]:
    """Return the hits of ``queries`` products now and in ``space``, and the number of pictures searched.

    ``within``: a queryset of products. Only pictures with a vector of the serving space and with kept features of the
    other one take part. Raises ExtractorUnavailable and ImproperlyConfigured where an extractor can't be built.
    """
    extractor = extractor_of_space(field, space)
    if not isinstance(extractor, BackboneExtractor):
        return [], 0
    using = router.db_for_write(field.model)
    rows, product = with_product(field, all_rows(field.model, using))
    rows = rows.filter(
        in_space(field.key_name, key_of_space(field, live_spaces(field).serving)),
        **{f"{field.name}__isnull": False, f"{product}__in": primary_keys(within)},
    )
    target = f"{field.link.name}__pk" if field.link else "pk"
    drawn = rows.order_by(MD5(Cast("pk", TextField())))
    found = list(drawn.values_list(target, field.key_name, field.name, product)[:pictures])
    named = [(key_text(field.target_model, pk, using), split_key(key)[1]) for pk, key, _vector, _product in found]
    kept = features.read(field, extractor.features_key, named)
    both = [(row, kept[key]) for row, (key, _image) in zip(found, named, strict=True) if key in kept]
    if len(both) < 2:
        return [], len(both)
    products = [row[3] for row, _features in both]
    now = unit(np.array([_as_array(row[2]) for row, _features in both]))
    then = unit(extractor.project(np.stack([one for _row, one in both])))
    first = list(dict.fromkeys(products))[:queries]
    places = [products.index(product) for product in first]
    return [
        Beside(products[i], _nearest_products(now, i, products, hits), _nearest_products(then, i, products, hits))
        for i in places
    ], len(both)


def _as_array(vector: Any) -> Any:
    # pgvector returns lists from 0.5 on, and objects of its own before.
    return vector.to_list() if hasattr(vector, "to_list") else vector


def _nearest_products(vectors: NDArray[Any], place: int, products: list[Any], hits: int) -> list[Any]:
    """Return the products nearest to the one at ``place``, each once, without itself."""
    order = np.argsort(-(vectors @ vectors[place]), kind="stable")
    ranked = dict.fromkeys(products[i] for i in order)
    return [product for product in ranked if product != products[place]][:hits]
