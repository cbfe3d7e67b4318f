"""Learned heads, to be looked at: what they were learned from, what held-out pictures said, and which serves."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import EmbeddingHead
from .read_only import ReadOnlyAdmin
from .records import rounded

SHOWN = ("R@1", "R@5", "mAP")


@admin.register(EmbeddingHead)
class EmbeddingHeadAdmin(ReadOnlyAdmin):
    list_display = ["name", "state", "precision", "created_at"]
    list_filter = ["state", "method", "label"]
    fields = [
        *("name", "label", "state", "method", "created_at"),
        *("figures", "learned_from", "extractor", "features_key", "key", "baseline_key"),
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("data", "calibration")

    @admin.display(description=_("mAP, held out"))
    def precision(self, head: EmbeddingHead) -> str:
        return " · ".join(
            f"{rounded(one['before']['mAP'], 2)} → {rounded(one['after']['mAP'], 2)}" for one in head.metrics
        )

    @admin.display(description=_("on pictures held out"))
    def figures(self, head: EmbeddingHead) -> SafeString | str:
        """A row for each task and moment, a column for each measure."""
        rows = [
            (f"{one['task']}, {word}", *(rounded(one[when][name], 3) for name in SHOWN), one[when]["queries"])
            for one in head.metrics
            for when, word in (("before", _("as it was")), ("after", _("with this head")))
        ]
        if not rows:
            return str(_("Nothing could be held out."))
        names = format_html_join("", "<th scope='col'>{}</th>", ((name,) for name in (*SHOWN, _("queries"))))
        body = format_html_join(
            "", "<tr><th scope='row'>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", rows
        )
        return format_html("<table><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>", names, body)

    @admin.display(description=_("learned from"))
    def learned_from(self, head: EmbeddingHead) -> SafeString | str:
        lines = [*head.summary.get("given", ()), *head.summary.get("notes", ())]
        return format_html_join("", "<div>{}</div>", ((line,) for line in lines)) or "-"
