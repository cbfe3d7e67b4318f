"""A page that follows pictures which staff had embedded again, until each has a result.

``keep_batch`` writes which pictures an action was about, ``outcome_of`` counts their states now, and ``batch_page``
shows them. The table holds no state of its own: whichever process embeds a picture, the page is right.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from ..db.rows import keys_from_texts
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..indexing.stale import batched
from ..indexing.status import NO_PICTURE, State, picture_states
from ..models import EmbeddingBatch, IndexingAttempt
from .base import BREADCRUMB_LIST, RELOAD_SECONDS, field_name
from .products import may_view

MOST_LISTED = 20_000
"""Pictures that one row lists."""
KEPT_DAYS = 30
ASKED_TOGETHER = 5_000
"""Pictures whose states one query counts."""


@dataclass
class BatchOutcome:
    """The states of a batch's pictures: ``counts`` by State, NO_PICTURE for rows that have lost their picture."""

    counts: Counter[str] = dataclass_field(default_factory=Counter)
    failed: int = 0
    """Waiting pictures whose last attempt failed and will be repeated."""

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def done(self) -> int:
        return self.counts[State.CURRENT] + self.counts[NO_PICTURE]

    @property
    def refused(self) -> int:
        return self.counts[State.REFUSED]

    @property
    def quarantined(self) -> int:
        return self.counts[State.QUARANTINED]

    @property
    def waiting(self) -> int:
        return self.counts[State.STALE] + self.counts[State.MISSING] - self.failed

    @property
    def is_over(self) -> bool:
        """Return whether every picture has its final state."""
        return self.waiting + self.failed <= 0

    @property
    def percent(self) -> int:
        left = max(0, self.waiting + self.failed)
        return 100 * (self.total - left) // self.total if self.total else 100

    def in_words(self) -> str:
        """Return "3 done, 1 refused, 0 failed", with quarantined and waiting pictures if there are any."""
        parts = [
            _("%(count)d done") % {"count": self.done},
            _("%(count)d refused") % {"count": self.refused},
            _("%(count)d failed") % {"count": self.failed + self.quarantined},
        ]
        if self.waiting > 0:
            parts.append(_("%(count)d waiting") % {"count": self.waiting})
        return ", ".join(parts)


def keep_batch(pictures: dict[str, list[str]], total: int) -> EmbeddingBatch:
    """Store which pictures an action was about, and delete actions older than KEPT_DAYS."""
    now = timezone.now()
    EmbeddingBatch.objects.filter(created_at__lt=now - datetime.timedelta(days=KEPT_DAYS)).delete()
    listed = sum(map(len, pictures.values()))
    return EmbeddingBatch.objects.create(created_at=now, pictures=pictures, beyond=max(0, total - listed))


def outcome_of(batch: EmbeddingBatch) -> BatchOutcome:
    """Return the states of a batch's pictures, without pictures of a field that no longer exists."""
    outcome = BatchOutcome()
    for label, keys in batch.pictures.items():
        try:
            _add(outcome, get_field(label), keys)
        except LookupError:
            continue
    return outcome


def _add(outcome: BatchOutcome, field: EmbeddingField, keys: list[str]) -> None:
    for some in batched(keys, ASKED_TOGETHER):
        rows = picture_states(field)
        rows = rows.filter(pk__in=keys_from_texts(field.target_model, some, rows.db))
        counted = dict(rows.values_list("_visual_state").annotate(count=Count("*")).order_by())
        outcome.counts.update(counted)
        failed = IndexingAttempt.objects.filter(label=field.label, object_id__in=some)
        outcome.failed += failed.filter(state=IndexingAttempt.State.FAILED).exclude(message="").count()


def batch_url(admin_name: str, batch: EmbeddingBatch) -> str:
    """Return the URL of a batch's page; empty where the admin has none."""
    try:
        return reverse(f"{admin_name}:django_visual_search_indexingattempt_batch", args=[batch.pk])
    except NoReverseMatch:
        return ""


def batch_page(model_admin: Any, request: HttpRequest, pk: int) -> HttpResponse:
    """Show the states of a batch's pictures to users who may view all its products."""
    batch = EmbeddingBatch.objects.filter(pk=pk).first()
    if batch is None:
        raise Http404
    fields = []
    for label in batch.pictures:
        try:
            fields.append(get_field(label))
        except LookupError:
            continue
    if not all(may_view(model_admin.admin_site, request, field.product_model) for field in fields):
        raise PermissionDenied
    request.current_app = model_admin.admin_site.name  # type: ignore[attr-defined]
    outcome = outcome_of(batch)
    attempts_url = ""
    if model_admin.has_view_permission(request):
        attempts_url = reverse(f"{model_admin.admin_site.name}:django_visual_search_indexingattempt_changelist")
    rows = [
        (_("done"), outcome.done, "current", ""),
        (_("refused"), outcome.refused, "refused", _query(attempts_url, "refused")),
        (_("failed, will be tried again"), outcome.failed, "failed", _query(attempts_url, "failed")),
        (_("failed for good: quarantined"), outcome.quarantined, "quarantined", _query(attempts_url, "quarantined")),
        (_("waiting"), max(0, outcome.waiting), "missing", ""),
    ]
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Pictures embedded again"),
        "subtitle": None,
        "opts": model_admin.opts,
        "breadcrumb_list": BREADCRUMB_LIST,
        "batch": batch,
        "outcome": outcome,
        "rows": rows,
        "names": [field_name(field) for field in fields],
        "reload_seconds": None if outcome.is_over else RELOAD_SECONDS,
    }
    return TemplateResponse(request, "visual_search/admin/batch.html", context)


def _query(url: str, state: str) -> str:
    return f"{url}?{urlencode({'state': state})}" if url else ""
