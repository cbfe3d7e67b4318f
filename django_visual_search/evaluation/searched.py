"""Altered views of products with one picture, sent through the search by photo as a shopper's would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conf import conf
from ..extractors import ExtractorSpec
from ..fields import EmbeddingField
from ..learning.augment import views
from ..learning.measures import PerQuery
from ..learning.metrics import evaluate_lists
from ..search import search_by_image
from .figures import Hit, Worst
from .gallery import Gallery
from .photos import as_photo, pictures
from .pictures import Unreadable
from .space import VIEWS_EACH
from .stored import MOST_WORST, SHOWN
from .tasks import VIEWS

DEPTH = 100
"""Hits that are looked at; a product further down counts as not found."""

Indices = NDArray[np.intp]


def altered_views(
    field: EmbeddingField,
    spec: ExtractorSpec,
    gallery: Gallery,
    rows: Indices,
    *,
    seed: int,
    within: Any = None,
    unreadable: Unreadable | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[Indices, PerQuery, list[Worst]]:
    """Search by VIEWS_EACH views of each of the pictures: by query its row, its measures, and the worst queries."""
    catalogue = gallery.catalogue
    products = field.product_model._base_manager.all() if within is None else within
    queries, rankings, right, poor = [], [], [], []
    names = [catalogue.images[row] for row in rows]
    for place, picture in pictures(field, names, spec, unreadable):
        row = int(rows[place])
        product = catalogue.products[row]
        for view in views(picture, VIEWS_EACH, [seed, place]):
            photo = as_photo(view, spec)
            results = search_by_image(
                photo, field.label, limit=min(DEPTH, conf.MAX_LIMIT), within=products, ranking=False
            )
            ranking = [str(hit.product.pk) for hit in results]
            queries.append(row)
            rankings.append(ranking)
            right.append({product})
            rank = ranking.index(product) + 1 if product in ranking else None
            if rank != 1:
                hits = [
                    Hit(
                        picture_name(field, hit.row),
                        str(hit.product.pk),
                        hit.similarity,
                        str(hit.product.pk) == product,
                    )
                    for hit in list(results)[:SHOWN]
                ]
                poor.append(Worst(VIEWS, catalogue.images[row], product, rank, hits, photo))
                poor = sorted(poor, key=lambda worst: -(worst.rank or DEPTH + 1))[:MOST_WORST]
        progress(place + 1)
    return np.array(queries, np.intp), evaluate_lists(rankings, right), poor


def picture_name(field: EmbeddingField, row: Any) -> str:
    """Name in its storage of the picture that a row's vector was made from."""
    owner = row if field.link is None else getattr(row, field.link.name)
    return str(getattr(owner, field.image_field.name).name)
