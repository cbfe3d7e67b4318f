"""Rows of products that can't be found, for a page of the admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.admin import AdminSite
from django.core.paginator import Page
from django.db.models import Model
from django.utils.safestring import SafeString

from ..fields.registry import get_field
from ..findability import Reason, rows
from ..findability.report import Row
from ..storefront.presentation import thumbnail_of
from .products import SIDE, load_products, product_cell


@dataclass(frozen=True)
class Shown:
    """A row as it is printed."""

    row: Row
    product: SafeString
    other: SafeString | str
    picture: str
    """Address of the picture that was checked, where the product's own is another; empty where it isn't known."""


class Rows:
    """All rows of some reasons, for a Paginator: only those of its page are read."""

    def __init__(self, model: type[Model], counts: dict[Reason, int]) -> None:
        self.model = model
        self.counts = counts

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __getitem__(self, wanted: slice) -> list[Row]:
        found: list[Row] = []
        first = 0
        for reason, count in self.counts.items():
            start, stop = max(wanted.start - first, 0), min(wanted.stop - first, count)
            if start < stop:
                found += rows(self.model, reason, start, stop - start)
            first += count
        return found


def shown(site: AdminSite, model: type[Model], page: Page) -> list[Shown]:
    """The rows of a page, with links to the products as far as this admin site has them."""
    found = list(page.object_list)
    products = load_products((model, key) for row in found for key in (row.product, row.other) if key)
    return [
        Shown(
            row,
            product_cell(site, products.get((model, row.product)), row.product),
            product_cell(site, products.get((model, row.other)), row.other) if row.other else "",
            _picture(row),
        )
        for row in found
    ]


def _picture(row: Row) -> str:
    """A small version of the picture that was checked."""
    if not row.image:
        return ""
    try:
        field = get_field(row.label)
    except LookupError:  # not there any more
        return ""
    if field.product is None and field.link is None:
        return ""  # the product's own, which is shown anyway
    image = field.image_field
    return thumbnail_of(image.attr_class(None, image, row.image), 2 * SIDE)
