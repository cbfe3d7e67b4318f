"""Images that look alike, of those that a user may choose.

Entry functions: ``similar_images``, and ``SimilarImagesPanel``, which shows them beside a page's image.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from wagtail.admin.panels import Panel
from wagtail.images import get_image_model
from wagtail.permissions import policy_registry

from ... import search
from ...extractors import ExtractorUnavailable
from ...fields import EmbeddingField
from ...fields.registry import fields_of_product

SHOWN = 8
RENDITION = "max-165x165"
"""The rendition that Wagtail's own chooser shows."""


def image_model() -> Any:
    """Return the project's model of images."""
    return get_image_model()


def field_of_images() -> EmbeddingField | None:
    """Return the embedding field that finds the project's images, the first of several; None without any."""
    fields = fields_of_product(image_model())
    return fields[0] if fields else None


def similar_images(image: Any, user: Any, limit: int = SHOWN) -> list[Any]:
    """Return images that look like this one, most similar first, of those that the user may choose."""
    field = field_of_images()
    if field is None or image is None or image.pk is None:
        return []
    policy = policy_registry.get_by_type(image_model())
    choosable = policy.instances_user_has_any_permission_for(user, ["choose"])
    within = choosable.select_related("collection").prefetch_renditions(RENDITION)
    try:
        hits = search.similar_to(image, field=field.label, within=within, limit=limit, ranking=False)
    except (ExtractorUnavailable, ImproperlyConfigured):
        return []  # a matter for the checks and the log, not for an editor
    return [hit.product for hit in hits]


class SimilarImagesPanel(Panel):
    """Show the images that look like the one that a page, snippet or other model has saved.

    ``field_name``: the foreign key to an image; ``limit``: how many are shown, of those that the user may choose.
    """

    def __init__(self, field_name: str, limit: int = SHOWN, **kwargs: Any) -> None:
        kwargs.setdefault("heading", _("Similar images"))
        kwargs.setdefault("icon", "image")
        super().__init__(**kwargs)
        self.field_name = field_name
        self.limit = limit

    def clone_kwargs(self) -> dict[str, Any]:
        return {**super().clone_kwargs(), "field_name": self.field_name, "limit": self.limit}

    class BoundPanel(Panel.BoundPanel):  # type: ignore[misc] # mypy sees no types of Wagtail
        template_name = "visual_search/wagtail/panel.html"

        class Media:
            css = {"all": ["django_visual_search/visual_search.css"]}

        @property
        def image(self) -> Any:
            return getattr(self.instance, self.panel.field_name, None)

        def is_shown(self) -> bool:
            return self.image is not None

        def get_context_data(self, parent_context: Any = None) -> dict[str, Any]:
            context = super().get_context_data(parent_context)
            context["images"] = similar_images(self.image, self.request.user, self.panel.limit)
            return dict(context)
