"""Draw plots as SVG in the colours of the page around it, light or dark, by matplotlib, which is loaded only here.

Entry functions: ``robustness_plot``, ``bars_plot``, ``latency_plot`` and ``reliability_plot``; all raise
ExtractorUnavailable where matplotlib is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from io import StringIO
from typing import Any

from ..extractors import ExtractorUnavailable
from .figures import Latency, Reliability, RobustnessCurve

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
    """Return why nothing can be drawn here and what to install, or None. Imports nothing."""
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
