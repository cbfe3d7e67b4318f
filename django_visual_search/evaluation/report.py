"""Write an evaluation as one HTML file: plots and pictures inlined, nothing loaded from elsewhere.

Entry functions: ``write_report`` and ``render_report``. matplotlib, which is imported only here, draws the plots as SVG
in the colours of the page around them, light or dark.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe
from PIL import Image

from .. import __version__
from ..db.rows import all_rows
from ..extractors import ExtractorUnavailable
from ..fields import EmbeddingField
from ..fields.registry import get_field
from ..spaces.heads import serving_extractor
from .altered import DEPTH
from .figures import Confusion, Evaluation, Latency, Reliability, RobustnessCurve, TaskFigures
from .gallery import SHOWN_HITS
from .pictures import encoded, thumbnails
from .space import described_task
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
        "tasks": [_task_context(f"{name}-task{i}", task) for i, task in enumerate(e.tasks)],
        "held_out": held_out_rows(e.learned) if e.learned else [],
        "robustness": [(curve, _safe(robustness_plot(f"{name}-{curve.alteration}", curve))) for curve in e.robustness],
        "latency": _safe(latency_plot(f"{name}-latency", e.latency)) if e.latency else "",
        "reliability": _safe(reliability_plot(f"{name}-reliability", e.reliability)) if e.reliability else "",
        "confusion": [_confusion(table) for table in e.confusion],
        "worst": _worst(field, e),
        "shown": SHOWN_HITS,
    }


def _tiles(e: Evaluation) -> list[tuple[str, str, str]]:
    """Return (figure, its name, its subject) of the most important figures."""
    tiles = []
    for task in e.tasks[:2]:
        tiles += [(f"{task.overall.recall[1]:.3f}", "R@1", task.name)]
        tiles += [(f"{task.overall.mean_average_precision:.3f}", "mAP", task.name)]
    tiles.append((f"{e.ann.recall:.3f}", f"recall@{e.ann.k}", "index against exact"))
    if "all" in e.latency:
        tiles.append((f"{e.latency['all'].p50:.0f} ms", "p50", "a search by photo"))
    return tiles


def _task_context(name: str, task: TaskFigures) -> dict[str, Any]:
    rows = [
        (label, value, _figure_cells(metrics))
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
        "about": described_task(task.name),
        "all": _figure_cells(task.overall),
        "left_out": task.overall.left_out,
        "rows": rows,
        "plots": plots,
    }


def _figure_cells(metrics: Any) -> list[str]:
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
    small = thumbnails(field, names, serving_extractor(field).spec, THUMBNAIL_SIDE)
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


INSTALL_MATPLOTLIB = (
    "Reports are drawn by matplotlib, which is not installed here: pip install 'django-visual-search[training]'. "
    "Without --report the figures are only printed."
)

# Stand-ins that no drawing has by accident; the page's own colours replace them.
INK, GRID, FIRST, SECOND, THIRD = "#010203", "#010204", "#010205", "#010206", "#010207"
COLOURS = {
    INK: "currentColor",
    GRID: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
}
PLOT_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


def missing_matplotlib() -> str | None:
    """Return what to install before reports can be drawn here, or None. Imports nothing."""
    return None if find_spec("matplotlib") else INSTALL_MATPLOTLIB


def robustness_plot(name: str, curve: RobustnessCurve) -> str:
    """Draw R@1, R@5 and the mean cosine by strength."""

    def draw(axes: Any) -> None:
        series = [(f"R@{k}", curve.recall[k]) for k in curve.recall]
        marks = (("-o", FIRST), ("--s", SECOND), (":^", THIRD))
        for (label, values), (mark, colour) in zip([*series, ("cosine", curve.similarity)], marks, strict=False):
            axes.plot(range(len(values)), values, mark, color=colour, label=label)
        axes.set_xticks(range(len(curve.words)), curve.words, fontsize=7)
        axes.set_ylim(0, 1.03)
        axes.legend(loc="lower left", fontsize=7)

    return _svg(name, (3.6, 2.5), draw)


def bars_plot(name: str, values: Mapping[str, tuple[float, int]], measure: str) -> str:
    """Draw one figure for each label, with its number of queries."""

    def draw(axes: Any) -> None:
        labels = list(values)
        numbers = [value for value, _ in values.values()]
        axes.barh(labels, numbers, color=FIRST, height=0.68)
        for i, (value, queries) in enumerate(values.values()):
            axes.annotate(
                f"{value:.2f} ({queries})",
                (value, i),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axes.set_xlim(0, 1.3)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(measure)

    return _svg(name, (4.6, 0.7 + 0.24 * len(values)), draw)


def latency_plot(name: str, stages: Mapping[str, Latency]) -> str:
    """Draw the median of each stage, and a line to the 95th percentile."""

    def draw(axes: Any) -> None:
        labels, p50 = list(stages), [stage.p50 for stage in stages.values()]
        more = [max(0.0, stage.p95 - stage.p50) for stage in stages.values()]
        axes.barh(labels, p50, color=FIRST, height=0.6, label="p50")
        axes.errorbar(
            p50,
            labels,
            xerr=[[0] * len(more), more],
            fmt="none",
            ecolor=SECOND,
            capsize=4,
            linewidth=1.6,
            label="to p95",
        )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("ms")
        axes.legend(loc="best", fontsize=7)

    return _svg(name, (4.6, 2.3), draw)


def reliability_plot(name: str, found: Reliability) -> str:
    """Draw the share of right hits by confidence; on the dashed line both are equal."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], "--", color=SECOND, linewidth=1, label="as promised")
        axes.plot(found.confidence, found.right, "-o", color=FIRST, label="measured")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.05)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        axes.legend(loc="upper left", fontsize=7)

    return _svg(name, (4.6, 3.2), draw)


def _svg(name: str, inches: Sequence[float], draw: Callable[[Any], None]) -> str:
    """Return a drawing as an SVG element. ``name``: prefix of its ids, as a page has several."""
    if problem := missing_matplotlib():
        raise ExtractorUnavailable(problem)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = StringIO()
    style: Any = {**PLOT_STYLE, "svg.hashsalt": name}
    with rc_context(style):
        figure = Figure(figsize=(inches[0], inches[1]), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'(<svg\b[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
