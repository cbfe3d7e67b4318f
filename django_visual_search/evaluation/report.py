"""Write an evaluation as one HTML file: plots and pictures inlined, nothing loaded from elsewhere.

Entry functions: ``write_report`` and ``render_report``.
"""

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
from ..db.rows import all_rows
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..spaces.heads import wanted_extractor
from .altered import DEPTH
from .figures import Confusion, Evaluation, TaskFigures
from .gallery import SHOWN_HITS
from .pictures import encoded, thumbnails
from .plots import bars_plot, latency_plot, reliability_plot, robustness_plot
from .space import described
from .text import MEASURE_NAMES, caveats, held_out_rows

THUMBNAIL_SIDE = 120
"""Pixels of a thumbnail's side."""
THUMBNAIL_QUALITY = 80
MOST_BARS = 20

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def write_report(path: Path, found: list[Evaluation], made_at: datetime) -> None:
    """Write the file. Raises ExtractorUnavailable where matplotlib is missing."""
    path.write_text(render_report(found, made_at), encoding="utf-8")


def render_report(found: list[Evaluation], made_at: datetime) -> str:
    """Return the page as text. Raises ExtractorUnavailable where matplotlib is missing."""
    # An engine of its own: the project may have no Django templates, and a report shares nothing with its pages.
    engine = Engine(dirs=[str(TEMPLATES)])
    fields = [_section(f"f{number}", evaluation) for number, evaluation in enumerate(found)]
    context = {"fields": fields, "made_at": made_at, "version": __version__, "names": MEASURE_NAMES, "depth": DEPTH}
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
        "shown": SHOWN_HITS,
    }


def _tiles(e: Evaluation) -> list[tuple[str, str, str]]:
    """Return (figure, its name, what it is about) of the most important figures."""
    tiles = []
    for task in e.tasks[:2]:
        tiles += [(f"{task.overall.recall[1]:.3f}", "R@1", task.name)]
        tiles += [(f"{task.overall.mean_average_precision:.3f}", "mAP", task.name)]
    tiles.append((f"{e.ann.recall:.3f}", f"recall@{e.ann.k}", "index against exact"))
    if "all" in e.latency:
        tiles.append((f"{e.latency['all'].p50:.0f} ms", "p50", "a search by photo"))
    return tiles


def _task(name: str, task: TaskFigures) -> dict[str, Any]:
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
    return [*(f"{values[name]:.3f}" for name in MEASURE_NAMES), str(metrics.queries)]


def _confusion(table: Confusion) -> dict[str, Any]:
    rows = []
    for i, (name, counts) in enumerate(zip(table.names, table.counts, strict=True)):
        total = sum(counts)
        # The shade is the share of the row.
        cells = [(count, round(85 * count / total) if total else 0, i == j) for j, count in enumerate(counts)]
        rows.append((name, cells, total))
    return {"label": table.label, "names": table.names, "rows": rows, "left_out": table.left_out}


def _worst(field: EmbeddingField, e: Evaluation) -> list[dict[str, Any]]:
    names = [name for query in e.worst for name in (query.image, *(hit.image for hit in query.hits))]
    small = thumbnails(field, names, wanted_extractor(field).spec, THUMBNAIL_SIDE)
    urls = {name: _data_url(encoded(picture, "JPEG", THUMBNAIL_QUALITY)) for name, picture in small.items()}
    titles = _titles(
        field, {product for query in e.worst for product in (query.product, *(h.product for h in query.hits))}
    )
    by_task: dict[str, list[dict[str, Any]]] = {}
    for query in e.worst:
        hits = [(urls.get(hit.image, ""), titles.get(hit.product, hit.product), hit) for hit in query.hits]
        view = _data_url(_small(query.view)) if query.view else ""
        row = {
            "query": query,
            "title": titles.get(query.product, query.product),
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
    """Return the names of products, by primary key as text."""
    rows = all_rows(field.product_model).filter(pk__in=[product for product in products if product])
    if field.product is None:
        rows = rows.defer(field.name)
    return {str(row.pk): str(row) for row in rows}


def _small(photo: bytes) -> bytes:
    with Image.open(BytesIO(photo)) as picture:
        return encoded(
            picture.convert("RGB").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.HAMMING),
            "JPEG",
            THUMBNAIL_QUALITY,
        )


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _safe(svg: str) -> SafeString:
    """Mark a drawing by matplotlib, which escapes its texts."""
    return mark_safe(svg)
