"""What a search answers: the page of hits, each with the product as the viewset's own serializer shows it."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.request import Request

from ..fields import EmbeddingField
from ..search import SearchHit, SearchResults
from ..storefront.presentation import address_of, picture_of, thumbnail_of, title_of


class PlainProductSerializer(serializers.Serializer):
    """A product where the shop has no serializer of its own."""

    id = serializers.CharField(source="pk")
    title = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField(help_text="The product's page; empty where it has none.")

    def get_title(self, product: Any) -> str:
        return title_of(product)

    def get_url(self, product: Any) -> str:
        return absolute(self.context.get("request"), address_of(product))


class PictureSerializer(serializers.Serializer):
    id = serializers.CharField(help_text="Primary key of the row that has the picture.")
    url = serializers.CharField(help_text="The picture as it was uploaded.")
    thumbnail = serializers.CharField(help_text="A small version of it.")


class FacetValueSerializer(serializers.Serializer):
    value = serializers.JSONField(allow_null=True)
    label = serializers.CharField(allow_null=True, help_text="What the value is called.")
    count = serializers.IntegerField(help_text="How many of the hits have it.")


class HitSerializer(serializers.Serializer):
    """One product that was found."""

    id = serializers.CharField(help_text="The product's primary key, as feedback names it.")
    rank = serializers.IntegerField(help_text="1 for the first; over all pages.")
    similarity = serializers.FloatField(help_text="Cosine, -1 to 1 (other metrics have other scales).")
    confidence = serializers.FloatField(
        allow_null=True, help_text="How likely it is what was asked for, 0 to 1; null where that was not learned."
    )
    reasons = serializers.ListField(
        child=serializers.CharField(), help_text='Why it is here: "visual", and what else moved it, such as "pinned".'
    )
    picture = PictureSerializer(allow_null=True, help_text="The picture that matched; null where it is gone.")


class NoticeSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="For programs: nothing_close_enough.")
    detail = serializers.CharField(help_text="For people.")


class PageSerializer(serializers.Serializer):
    """One page of hits, best first."""

    next = serializers.CharField(allow_null=True, help_text="Address of the next page (GET); null on the last one.")
    token = serializers.CharField(help_text="Signed record of what this page shows, for feedback.")
    exact = serializers.BooleanField(help_text="Whether these are surely the nearest.")
    extractor = serializers.CharField(help_text="What made the vectors; empty where there was none to search by.")
    notice = NoticeSerializer(allow_null=True, help_text="Why nothing was found, where there is more to say.")
    facets = serializers.DictField(
        child=FacetValueSerializer(many=True),
        allow_null=True,
        help_text="How many of all the hits have which values; null on later pages.",
    )


class CountedSerializer(serializers.Serializer):
    counted = serializers.IntegerField(help_text="How many of the events count; those said before don't.")


def hits_as_data(
    hits: list[SearchHit], products: list[Any], field: EmbeddingField, request: Request
) -> list[dict[str, Any]]:
    """The hits with ``products``, what a serializer made of theirs, as HitSerializer says."""
    return [
        {
            "id": str(hit.product.pk),
            "rank": hit.rank,
            "similarity": round(hit.similarity, 4),
            "confidence": None if hit.confidence is None else round(hit.confidence, 4),
            "reasons": list(hit.reasons),
            "picture": _picture(hit, field, request),
            "product": product,
        }
        for hit, product in zip(hits, products, strict=True)
    ]


def notice(results: SearchResults) -> dict[str, str] | None:
    """As NoticeSerializer says; None where there is nothing to say."""
    if not results.nothing_close:
        return None
    return {"code": "nothing_close_enough", "detail": _("Nothing here looks enough like what was asked for.")}


def absolute(request: Request | None, address: str) -> str:
    return request.build_absolute_uri(address) if request is not None and address else address


def _picture(hit: SearchHit, field: EmbeddingField, request: Request) -> dict[str, str] | None:
    picture = picture_of(field, hit.row)
    if picture is None or hit.row is None:
        return None
    owner = getattr(hit.row, field.link.attname) if field.link else hit.row.pk
    return {
        "id": str(owner),
        "url": absolute(request, picture.url),
        "thumbnail": absolute(request, thumbnail_of(picture)),
    }
