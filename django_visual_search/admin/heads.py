"""Learned heads: their figures, their hits beside those of the serving space, and the buttons *Switch* and *Roll back*.

``better_heads`` says which head waits to serve, by the rule of ``switch_embedding``. A switch is announced here, and
``tasks.move_vectors`` moves the vectors; searches go on meanwhile. Users with the permission to change heads may
switch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..db.rows import all_rows
from ..evaluation.side_by_side import Beside, side_by_side
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..indexing import pending
from ..indexing.publishing import in_background
from ..models import EmbeddingHead, IndexingRun, ServingSpace
from ..spaces.live import Space, forget_live_spaces, live_spaces
from ..tasks import move_vectors
from ..training import switching
from ..training.head import about_in_words
from .base import (
    BREADCRUMB_LIST,
    RELOAD_SECONDS,
    FieldFilter,
    ReadOnlyAdmin,
    RunProgress,
    field_name,
    label_name,
    rounded,
)
from .products import load_products, product_cell, visible_products

METRICS = ("R@1", "R@5", "mAP")
UNAVAILABLE = (ExtractorUnavailable, ImproperlyConfigured)


@dataclass(frozen=True)
class Serves:
    """The space that serves a field, the one before it, and the state of a switch between them."""

    field: EmbeddingField
    row: ServingSpace | None
    left: int
    """Pictures whose vectors have not moved."""
    run: RunProgress | None
    """The reindex that moves them."""
    moves: bool
    """Whether vectors are moving; until then, processes learn to search both spaces."""

    @property
    def is_switching(self) -> bool:
        return self.row is not None and self.row.finished_at is None

    @property
    def name(self) -> str:
        """The name of the serving head, or of the extractor if no head serves."""
        return str(self.row.head or self.row.extractor) if self.row else str(self.field.extractor)

    @property
    def previous(self) -> str:
        """The name of the space that a rollback returns to; empty if there was no switch."""
        return str(self.row.previous_head or self.row.previous_extractor) if self.row else ""


def serves(field: EmbeddingField) -> Serves:
    """Return the serving space of a field and the state of its switch. Two or three small queries."""
    using = router.db_for_write(field.model)
    row = (
        ServingSpace.objects.using(using)
        .select_related("head", "previous_head")
        .defer(*(f"{of}__{name}" for of in ("head", "previous_head") for name in ("data", "calibration")))
    )
    found = row.filter(label=field.label).first()
    if found is None or found.finished_at is not None:
        return Serves(field, found, 0, None, False)
    moves = found.effective_at <= timezone.now()
    embedded = all_rows(field.model, using).filter(**{f"{field.name}__isnull": False})
    run = IndexingRun.objects.using(using).filter(label=field.label, kind=IndexingRun.Kind.COMMAND)
    run = run.filter(started_at__gte=found.effective_at).first()
    return Serves(
        field, found, (pending(field) if moves else embedded).count(), RunProgress(run) if run else None, moves
    )


def better_heads(fields: Iterable[EmbeddingField]) -> dict[str, EmbeddingHead]:
    """Return the newest candidate that ``switch_embedding`` would let serve, by the field's label.

    One query finds the candidates of all fields, except those of fields that are being switched.
    """
    by_label = {field.label: field for field in fields}
    switching_now = ServingSpace.objects.filter(finished_at=None).values("label")
    heads = EmbeddingHead.objects.filter(label__in=by_label, state=EmbeddingHead.State.CANDIDATE)
    found: dict[str, EmbeddingHead] = {}
    for head in heads.exclude(label__in=switching_now).defer("data", "calibration").order_by("-created_at", "-pk"):
        try:
            if head.label not in found and why_not(by_label[head.label], head) is None:
                found[head.label] = head
        except UNAVAILABLE:
            continue
    return found


def why_not(field: EmbeddingField, head: EmbeddingHead) -> str | None:
    """Return why a head should not serve, as ``switch_embedding`` says it; None where it may."""
    return switching.worse(field, Space(head.extractor, head.pk, head.key))


@admin.register(EmbeddingHead)
class EmbeddingHeadAdmin(ReadOnlyAdmin):
    change_form_template = "visual_search/admin/head.html"
    list_display = ["name", "state", "precision", "created_at"]
    list_filter = ["state", "method", FieldFilter]
    fields = [
        *("name", "products", "state", "method", "created_at"),
        *("figures", "learned_from", "extractor", "label", "features_key", "key", "baseline_key"),
    ]

    class Media:
        css = {"all": ["django_visual_search/admin.css"]}

    def has_switch_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may switch to a head and roll back: the permission to change heads."""
        return bool(request.user.has_perm("django_visual_search.change_embeddinghead"))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("data", "calibration")

    def get_urls(self) -> list[Any]:
        def page(route: str, view: Any, name: str) -> Any:
            return path(route, self.admin_site.admin_view(view), name=f"django_visual_search_embeddinghead_{name}")

        return [
            page("<path:pk>/switch/", self.switch_view, "switch"),
            page("roll-back/<str:label>/", self.roll_back_view, "roll_back"),
            page("switching/<str:label>/", self.progress_view, "switching"),
            *super().get_urls(),
        ]

    # Columns and figures

    @admin.display(description=gettext_lazy("mAP, held out"))
    def precision(self, head: EmbeddingHead) -> SafeString:
        figures = ((rounded(one["before"]["mAP"], 2), rounded(one["after"]["mAP"], 2)) for one in head.metrics)
        return format_html_join(" · ", '<bdi dir="ltr">{} → {}</bdi>', figures)  # no script turns the arrow

    @admin.display(description=gettext_lazy("products"))
    def products(self, head: EmbeddingHead) -> str:
        return label_name(head.label)

    @admin.display(description=gettext_lazy("on held-out pictures"))
    def figures(self, head: EmbeddingHead) -> SafeString | str:
        """Return a table with a row for each task before and after, and a column for each metric."""
        rows = [
            (
                f"{about_in_words(one)} · {word}",
                *(rounded(one[when][name], 3) for name in METRICS),
                one[when]["queries"],
            )
            for one in head.metrics
            for when, word in (("before", _("before")), ("after", _("with this head")))
        ]
        if not rows:
            return _("No pictures could be held out.")
        names = format_html_join("", "<th scope='col'>{}</th>", ((name,) for name in (*METRICS, _("queries"))))
        body = format_html_join(
            "", "<tr><th scope='row'>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", rows
        )
        return format_html(
            "<table class='visual-search-figures'><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>",
            names,
            body,
        )

    @admin.display(description=gettext_lazy("learned from"))
    def learned_from(self, head: EmbeddingHead) -> SafeString | str:
        lines = [*head.summary.get("given", ()), *head.summary.get("notes", ())]
        return format_html_join("", "<div>{}</div>", ((line,) for line in lines)) or "-"

    # Its page: side by side, and the buttons

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        head = context.get("original")
        field = field_of(head) if head is not None else None
        if field is not None:
            context |= self._comparison(request, field, head)
            context |= {"serves": serves(field), "may_switch": self.has_switch_permission(request)}
            context |= self._links(field, head)
        return super().render_change_form(request, context, *args, **kwargs)

    def _links(self, field: EmbeddingField, head: EmbeddingHead | None = None) -> dict[str, str]:
        name = f"{self.admin_site.name}:django_visual_search_embeddinghead"
        links = {
            "roll_back_url": reverse(f"{name}_roll_back", args=[field.label]),
            "switching_url": reverse(f"{name}_switching", args=[field.label]),
            "list_url": reverse(f"{name}_changelist"),
        }
        return links if head is None else {**links, "switch_url": reverse(f"{name}_switch", args=[quote(head.pk)])}

    def _comparison(self, request: HttpRequest, field: EmbeddingField, head: EmbeddingHead) -> dict[str, Any]:
        """Return some products' hits now and with the head, if the user may view the products."""
        within = visible_products(self.admin_site, request, field.product_model)
        try:
            rows, pictures = side_by_side(field, Space(head.extractor, head.pk, head.key), within)
        except UNAVAILABLE as e:
            return {"problem": str(e)}
        return {"compared": self._shown(request, field, rows), "pictures": pictures}

    def _shown(self, request: HttpRequest, field: EmbeddingField, rows: list[Beside]) -> list[dict[str, Any]]:
        model = field.product_model._meta.concrete_model
        keys = {(model, str(key)) for row in rows for key in (row.product, *row.before, *row.after)}
        products = load_products(self.admin_site, request, keys)

        def cell(key: Any) -> SafeString:
            return product_cell(self.admin_site, products.get((model, str(key))), str(key))

        return [
            {
                "product": cell(row.product),
                "before": [(cell(key), key in row.after) for key in row.before],
                "after": [(cell(key), key in row.before) for key in row.after],
            }
            for row in rows
        ]

    # Switch, roll back, progress

    def switch_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Ask for confirmation, then let a head serve, by the rule of ``switch_embedding`` with its ``--force``."""
        head = self.get_object(request, unquote(pk))
        field = field_of(head) if head is not None else None
        if head is None or field is None:
            raise Http404
        if not self.has_switch_permission(request):
            raise PermissionDenied
        space = Space(head.extractor, head.pk, head.key)
        try:
            problem = "" if space == live_spaces(field).serving else why_not(field, head) or ""
            if request.method == "POST" and (not problem or "force" in request.POST):
                return self._moving(request, field, switching.announce(field, space), head.name)
        except (switching.SwitchRefused, *UNAVAILABLE) as e:
            return self._refused(request, field, str(e))
        return self._page(
            request,
            "visual_search/admin/switch.html",
            field,
            title=_("Switch to %(name)s") % {"name": head.name},
            head=head,
            figures=self.figures(head),
            problem=problem,
            refused=request.method == "POST",
        )

    def roll_back_view(self, request: HttpRequest, label: str) -> HttpResponse:
        """Ask for confirmation, then let the previous space serve again."""
        field = _field_or_404(label)
        if not self.has_switch_permission(request):
            raise PermissionDenied
        now = serves(field)
        try:
            if request.method == "POST":
                _space, seconds = switching.roll_back(field)
                return self._moving(request, field, seconds, now.previous)
        except (switching.SwitchRefused, *UNAVAILABLE) as e:
            return self._refused(request, field, str(e))
        return self._page(request, "visual_search/admin/roll_back.html", field, title=_("Roll back"), serves=now)

    def progress_view(self, request: HttpRequest, label: str) -> HttpResponse:
        """Show how far a switch is; the page reloads until it has ended."""
        field = _field_or_404(label)
        if not self.has_view_permission(request):
            raise PermissionDenied
        forget_live_spaces()
        now = serves(field)
        return self._page(
            request,
            "visual_search/admin/switching.html",
            field,
            title=_("Switching") if now.is_switching else _("Serving space"),
            serves=now,
            may_switch=self.has_switch_permission(request),
            reload_seconds=RELOAD_SECONDS if now.is_switching else None,
        )

    def _moving(self, request: HttpRequest, field: EmbeddingField, seconds: float, name: str) -> HttpResponse:
        """Start to move the vectors, and redirect to the progress page."""
        if in_background(move_vectors, field.label, max(0.0, seconds)):
            text, level = (
                _("The switch to %(name)s has begun. Searches go on while the vectors move."),
                messages.SUCCESS,
            )
        else:
            text, level = (
                _(
                    "The switch to %(name)s has begun, but the message broker does not answer: the next sweep moves "
                    "the vectors."
                ),
                messages.WARNING,
            )
        messages.add_message(request, level, text % {"name": name}, fail_silently=True)
        return HttpResponseRedirect(self._links(field)["switching_url"])

    def _refused(self, request: HttpRequest, field: EmbeddingField, why: str) -> HttpResponse:
        messages.error(request, why, fail_silently=True)
        return HttpResponseRedirect(self._links(field)["switching_url"])

    def _page(self, request: HttpRequest, template: str, field: EmbeddingField, **context: Any) -> HttpResponse:
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        common = {"opts": self.opts, "breadcrumb_list": BREADCRUMB_LIST, "subtitle": None, "name": field_name(field)}
        return TemplateResponse(
            request,
            template,
            {**self.admin_site.each_context(request), **common, **self._links(field), **context},
        )


def field_of(head: EmbeddingHead) -> EmbeddingField | None:
    """Return the head's embedding field; None where that no longer exists."""
    try:
        return get_field(head.label)
    except LookupError:
        return None


def _field_or_404(label: str) -> EmbeddingField:
    try:
        return get_field(label)
    except LookupError as e:
        raise Http404(str(e)) from e
