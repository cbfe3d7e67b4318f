"""``VisualSearchAdminMixin``: visual search in the shop's own product admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_exempt

from ..fields import EmbeddingField
from ..fields.registry import fields_of_product, search_field
from ..indexing.stale import batched
from ..indexing.status import ProductStatus, State, picture_states, statuses
from .attempts import embed_again, show_resent
from .hits import neighbours
from .photo_page import StaffPhotoForm, photo_page
from .rules import rules_about
from .status_column import StatusFilter, badge

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as Base
else:
    Base = object

PRODUCTS_TOGETHER = 1000
"""Products whose pictures one query looks up."""
ACTIONS = ["visual_search_reindex", "visual_search_retry"]
STATUS, NEIGHBOURS = "visual_search_status", "visual_search_neighbours"
STYLE = "django_visual_search/admin.css"
STATUS_ATTRIBUTE, PANEL_ATTRIBUTE = "_visual_search_status", "_visual_search_panel"


class VisualSearchAdminMixin(Base):
    """Mixin for the ModelAdmin of a product model, before ``admin.ModelAdmin`` among the bases.

    Adds two actions, a status column and filter in the list, the nearest neighbours on the product's page, and a page
    on which staff search by photo. Products outside ``get_queryset(request)`` are never among the hits.
    """

    visual_search_field: str | None = None
    """Label of the embedding field to search by, where the products have several."""
    visual_search_fields: list[str] = []
    """Fields shown of each hit beside its name, as in ``list_display``."""
    visual_search_neighbours_shown = 8
    """Number of neighbours on the product's page; 0 for none."""
    visual_search_form: type[StaffPhotoForm] = StaffPhotoForm
    """Form of the search by photo. A subclass may add fields, which ``visual_search_links`` finds in the request."""
    visual_search_template = "visual_search/admin/photo_page.html"
    """A template of the shop's own may extend this one and fill its block ``hit_links``."""
    visual_search_media = forms.Media(
        css={"all": [STYLE]}, js=[forms.Script("django_visual_search/admin_photo.js", defer=True)]
    )
    change_list_template: Any = "visual_search/admin/change_list.html"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        actions = getattr(self, "actions", None)
        if actions is not None:  # None: the shop wants no actions
            self.actions = [*actions, *(name for name in ACTIONS if name not in actions)]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if admin.ModelAdmin in order and order.index(admin.ModelAdmin) < order.index(VisualSearchAdminMixin):
            raise TypeError(f"{cls.__name__}: VisualSearchAdminMixin must come before ModelAdmin, or half is lost.")

    # What a shop may change

    def has_reindex_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may have pictures embedded again: by default, the permission to change products."""
        return bool(self.has_change_permission(request))

    def get_visual_search_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the products that staff's searches find. Prefetch here what ``visual_search_links`` reads."""
        queryset = self.get_queryset(request)
        names = {f.name for f in self.opts.get_fields() if getattr(f, "many_to_one", False) and f.concrete}
        shown = names.intersection(self.visual_search_fields)
        return queryset.select_related(*sorted(shown)) if shown else queryset

    def visual_search_links(self, request: HttpRequest, product: Any) -> list[tuple[Any, str]]:
        """Return (label, URL) pairs to show with a hit of a staff search; an empty URL for a label alone."""
        return []

    # The list

    def get_list_display(self, request: HttpRequest) -> Any:
        names = super().get_list_display(request)
        return names if STATUS in names else [*names, STATUS]

    def get_list_filter(self, request: HttpRequest) -> Any:
        filters = super().get_list_filter(request)
        return filters if StatusFilter in filters else [*filters, StatusFilter]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if STATUS in changelist.list_display:
            # Evaluated here, as the list does anyway, so that one query gets the statuses of the page.
            found = statuses(self.model, [product.pk for product in changelist.result_list])
            for product in changelist.result_list:
                setattr(product, STATUS_ATTRIBUTE, found[product.pk])
        return changelist

    @admin.display(description=gettext_lazy("Visual search"))
    def visual_search_status(self, product: Any) -> SafeString:
        """Return the status of the product's pictures, with the reason."""
        status = getattr(product, STATUS_ATTRIBUTE, None)
        return badge(status or statuses(self.model, [product.pk]).get(product.pk) or ProductStatus())

    @admin.action(
        permissions=["reindex"],
        description=gettext_lazy("Embed the pictures of selected %(verbose_name_plural)s again"),
    )
    def visual_search_reindex(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._embed_again(request, queryset, list(State), _("The selected products have no pictures."))

    @admin.action(
        permissions=["reindex"],
        description=gettext_lazy("Retry quarantined pictures of selected %(verbose_name_plural)s"),
    )
    def visual_search_retry(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._embed_again(
            request, queryset, [State.QUARANTINED], _("None of the selected products has a quarantined picture.")
        )

    def _embed_again(self, request: HttpRequest, queryset: QuerySet[Any], states: list[State], none: str) -> None:
        """Embed the products' pictures that are in one of the states again; ``none``: the message if there are none."""
        # Not a subquery: the queryset may be annotated or ordered in a way that a subquery can't be.
        batches = batched(queryset.order_by().values_list("pk", flat=True), PRODUCTS_TOGETHER)
        rows = (
            (field, picture_states(field).filter(_visual_product__in=products, _visual_state__in=states).order_by("pk"))
            for products in batches
            for field in fields_of_product(self.model)
        )
        result = embed_again((field, list(found.values_list("pk", flat=True))) for field, found in rows)
        if result.pictures:
            show_resent(request, result, self.admin_site.name)
        else:
            messages.warning(request, none, fail_silently=True)

    # The product's page

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names = super().get_readonly_fields(request, obj)
        shown = obj is not None and self.visual_search_neighbours_shown and self.get_visual_search_field()
        return [*names, NEIGHBOURS] if shown and NEIGHBOURS not in names else names

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        shown = NEIGHBOURS in self.get_readonly_fields(request, obj)
        named = NEIGHBOURS in flatten_fieldsets(fieldsets)
        if shown and named and (self.fieldsets or self.fields):  # where the shop wants it
            return fieldsets
        if named:  # Django lists all read-only fields where the shop names none; the panel has its own place
            fieldsets = [(name, {**options, "fields": _without(options["fields"])}) for name, options in fieldsets]
        return [*fieldsets, (_("Visual search"), {"fields": [NEIGHBOURS]})] if shown else fieldsets

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        product = context.get("original")
        if product is not None and NEIGHBOURS in self.get_readonly_fields(request, product):
            # The read-only field gets the product only, and the panel depends on the request.
            rules = rules_about(self.admin_site, request, product)
            setattr(product, PANEL_ATTRIBUTE, neighbours(self, request, product, rules))
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("Looks like"))
    def visual_search_neighbours(self, product: Any) -> Any:
        """Return the products nearest to this one, as staff may see them."""
        return getattr(product, PANEL_ATTRIBUTE, self.get_empty_value_display())

    # The search page

    def get_visual_search_field(self) -> EmbeddingField | None:
        """Return the embedding field that staff's searches use; None where this model's products have none."""
        if not self.visual_search_field and not fields_of_product(self.model):
            return None
        return search_field(self.model, self.visual_search_field)

    @property
    def visual_search_url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_visual_search"

    def get_urls(self) -> list[Any]:
        page = self.admin_site.admin_view(csrf_exempt(self.visual_search_view))  # ``photo_page`` checks
        return [path("visual-search/", page, name=self.visual_search_url_name), *super().get_urls()]

    def visual_search_view(self, request: HttpRequest) -> HttpResponse:
        """Return staff's search by photo."""
        return photo_page(self, request)

    @property
    def visual_search_url(self) -> str:
        return reverse(f"{self.admin_site.name}:{self.visual_search_url_name}")

    @property
    def visual_search_address(self) -> str:
        """The former name of ``visual_search_url``; shops' templates may have it."""
        return self.visual_search_url

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {}
        if self.get_visual_search_field():
            context = dict.fromkeys(("visual_search_url", "visual_search_address"), self.visual_search_url)
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @property
    def media(self) -> Any:
        return super().media + forms.Media(css={"all": [STYLE]})


def _without(names: Any) -> list[Any]:
    return [
        _without(name) if isinstance(name, list | tuple) else name
        for name in names
        if name not in (NEIGHBOURS, (NEIGHBOURS,))
    ]
