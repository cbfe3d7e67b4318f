"""An evaluation as one HTML file: plots and pictures inlined, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe
from PIL import Image

from .. import __version__
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..spaces.heads import wanted_extractor
from .altered import DEPTH
from .figures import Confusion, Evaluation, Task
from .pictures import saved, thumbnails
from .plots import bars_plot, latency_plot, reliability_plot, robustness_plot
from .space import described
from .stored import SHOWN
from .text import NAMES, caveats, held_out_rows

SIDE = 120
"""Pixels of a thumbnail."""
QUALITY = 80
MOST_BARS = 20

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def write_report(path: Path, found: list[Evaluation], made_at: datetime) -> None:
    """Write the file. Raises ExtractorUnavailable where matplotlib is missing."""
    path.write_text(render_report(found, made_at), encoding="utf-8")


def render_report(found: list[Evaluation], made_at: datetime) -> str:
    """The page as text."""
    # An engine of its own: the project's may have no Django templates, and a report has nothing of its pages.
    engine = Engine(dirs=[str(TEMPLATES)])
    fields = [_section(f"f{number}", evaluation) for number, evaluation in enumerate(found)]
    context = {"fields": fields, "made_at": made_at, "version": __version__, "names": NAMES, "depth": DEPTH}
    return str(engine.get_template("visual_search/evaluation/report.html").render(Context(context, use_l10n=False)))


def _section(name: str, evaluation: Evaluation) -> dict[str, Any]:
    e, field = evaluation, get_field(evaluation.label)
    return {
        "e": e,
        "name": name,
        "caveats": list(caveats(e)),
        "tiles": _tiles(e),
        "tasks": [_task(f"{name}-task{i}", task) for i, task in enumerate(e.tasks)],
        "held_out": held_out_rows(e.learned) if e.learned else [],
        "robustness": [(curve, _safe(robustness_plot(f"{name}-{curve.alteration}", curve))) for curve in e.robustness],
        "latency": _safe(latency_plot(f"{name}-latency", e.latency)) if e.latency else "",
        "reliability": _safe(reliability_plot(f"{name}-reliability", e.reliability)) if e.reliability else "",
        "confusion": [_confusion(table) for table in e.confusion],
        "worst": _worst(field, e),
        "shown": SHOWN,
    }


def _tiles(e: Evaluation) -> list[tuple[str, str, str]]:
    """(figure, its name, what it is about) of what is looked at first."""
    tiles = []
    for task in e.tasks[:2]:
        tiles += [(f"{task.overall.recall[1]:.3f}", "R@1", task.name)]
        tiles += [(f"{task.overall.mean_average_precision:.3f}", "mAP", task.name)]
    tiles.append((f"{e.ann.recall:.3f}", f"recall@{e.ann.k}", "index against exact"))
    if "all" in e.latency:
        tiles.append((f"{e.latency['all'].p50:.0f} ms", "p50", "a search by photo"))
    return tiles


def _task(name: str, task: Task) -> dict[str, Any]:
    rows = [
        (label, value, _figures(metrics))
        for label, values in task.by_label.items()
        for value, metrics in values.items()
    ]
    plots = []
    for i, (label, values) in enumerate(task.by_label.items()):
        poorest = sorted(values.items(), key=lambda item: item[1].recall[1])[:MOST_BARS]
        if len(poorest) > 1:
            bars = {value[:28]: (metrics.recall[1], metrics.queries) for value, metrics in poorest}
            plots.append((label, len(poorest) < len(values), _safe(bars_plot(f"{name}-{i}", bars, "R@1"))))
    return {
        "name": task.name,
        "about": described(task.name),
        "all": _figures(task.overall),
        "left_out": task.overall.left_out,
        "rows": rows,
        "plots": plots,
    }


def _figures(metrics: Any) -> list[str]:
    values = metrics.as_dict()
    return [*(f"{values[name]:.3f}" for name in NAMES), str(metrics.queries)]


def _confusion(table: Confusion) -> dict[str, Any]:
    rows = []
    for i, (name, counts) in enumerate(zip(table.names, table.counts, strict=True)):
        total = sum(counts)
        # The shade is the share of the row; the number says it too.
        cells = [(count, round(85 * count / total) if total else 0, i == j) for j, count in enumerate(counts)]
        rows.append((name, cells, total))
    return {"label": table.label, "names": table.names, "rows": rows, "left_out": table.left_out}


def _worst(field: EmbeddingField, e: Evaluation) -> list[dict[str, Any]]:
    names = [name for query in e.worst for name in (query.image, *(hit.image for hit in query.hits))]
    small = thumbnails(field, names, wanted_extractor(field).spec, SIDE)
    urls = {name: _data_url(saved(picture, "JPEG", QUALITY)) for name, picture in small.items()}
    called = _titles(
        field, {product for query in e.worst for product in (query.product, *(h.product for h in query.hits))}
    )
    by_task: dict[str, list[dict[str, Any]]] = {}
    for query in e.worst:
        hits = [(urls.get(hit.image, ""), called.get(hit.product, hit.product), hit) for hit in query.hits]
        view = _data_url(_small(query.view)) if query.view else ""
        row = {
            "query": query,
            "title": called.get(query.product, query.product),
            "picture": view or urls.get(query.image, ""),
            "original": urls.get(query.image, ""),
            "hits": hits,
        }
        by_task.setdefault(query.task, []).append(row)
    return [
        {"task": task, "altered": any(row["query"].view for row in rows), "rows": rows}
        for task, rows in by_task.items()
    ]


def _titles(field: EmbeddingField, products: set[str]) -> dict[str, str]:
    """What the products are called, by primary key as text."""
    rows = field.product_model._base_manager.filter(pk__in=[product for product in products if product])
    if field.product is None:
        rows = rows.defer(field.name)
    return {str(row.pk): str(row) for row in rows}


def _small(photo: bytes) -> bytes:
    with Image.open(BytesIO(photo)) as picture:
        return saved(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.HAMMING), "JPEG", QUALITY)


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _safe(svg: str) -> SafeString:
    """Drawn by matplotlib, which escapes what it is given."""
    return mark_safe(svg)
