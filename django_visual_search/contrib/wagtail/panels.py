"""``SimilarImagesPanel``: beside a page's image, the images that look like it."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from wagtail.admin.panels import Panel

from .similar import SHOWN, similar_images


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
