"""Print an evaluation as tables of plain text for a terminal, with the caveats that belong beside its figures.

Entry functions: ``report_lines``; ``caveats`` and ``held_out_rows``, which the HTML report shows too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any

from ..learning.metrics import Metrics
from .figures import Evaluation, ServingHead
from .space import OTHER_PICTURES

LINE_WIDTH = 100
MOST_LABELS = 20
"""Rows of a table by label; all of them are in the JSON."""
MEASURE_NAMES = ("R@1", "R@5", "R@10", "mAP", "MRR", "nDCG@10")


def report_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines, one section after another."""
    e = evaluation
    yield f"{e.label}: {e.pictures} pictures with a vector of {e.space}"
    yield f"{e.queries} of them are queries (seed {e.seed})"
    for caveat in caveats(e):
        yield from wrap(caveat, LINE_WIDTH)
    for task in e.tasks:
        yield ""
        yield f"{task.name.capitalize()} ({task.overall.queries} queries)"
        yield from wrap(task.about, LINE_WIDTH)
        rows = [["all", *_figure_columns(task.overall)]]
        for label, values in task.by_label.items():
            rows += [
                [f"{label} {value}", *_figure_columns(metrics)] for value, metrics in list(values.items())[:MOST_LABELS]
            ]
            if len(values) > MOST_LABELS:
                rows.append([f"{len(values) - MOST_LABELS} more in the report", *[""] * (len(MEASURE_NAMES) + 1)])
        yield from aligned(["", *MEASURE_NAMES, "queries"], rows)
    if e.learned is not None:
        yield ""
        yield f"On pictures held out when the head {e.learned.name} was learned"
        yield from aligned(["", *MEASURE_NAMES, "queries"], held_out_rows(e.learned)) or ["  none"]
    if e.robustness:
        yield ""
        yield f"Robustness: R@1 of {e.robustness_queries} pictures by the strength of an alteration"
        first = e.robustness[0].strengths
        rows = [[curve.alteration, *(f"{value:.2f}" for value in curve.recall[1])] for curve in e.robustness]
        words = [f"{curve.words[-1]} {curve.about}" for curve in e.robustness]
        rows = [[*row, word] for row, word in zip(rows, words, strict=True)]
        yield from aligned(["", *(f"{strength:g}" for strength in first), "at 1:"], rows)
    yield ""
    yield (
        f"Index: the search finds {e.ann.recall:.4f} of the {e.ann.k} nearest products by exact comparison "
        f"({e.ann.queries} queries, of which {e.ann.exact} were planned exact)"
    )
    yield ""
    searches = max((stage.searches for stage in e.latency.values()), default=0)
    yield f"Latency of a search by photo, {searches} one after another, in ms"
    yield from aligned(["", "p50", "p95"], [[name, f"{s.p50:.1f}", f"{s.p95:.1f}"] for name, s in e.latency.items()])
    if e.reliability is not None:
        yield ""
        yield f"Confidence: calibration error {e.reliability.error:.3f}, Brier score {e.reliability.brier:.3f}"
        yield from wrap(e.reliability.about, LINE_WIDTH)
    if e.unreadable:
        yield ""
        yield f"{len(e.unreadable)} pictures could not be read, such as:"
        yield from (f"  {name}: {why}" for name, why in list(e.unreadable.items())[:5])


def caveats(evaluation: Evaluation) -> Iterator[str]:
    """Yield the limits of the figures, one or two sentences each."""
    e = evaluation
    if e.learned is not None:
        yield (
            f"The head {e.learned.name} serves, learned on {e.learned.learned_at:%Y-%m-%d} from this shop's own "
            "pictures, probably these very ones: the figures and the confidence measured here flatter it and are not "
            "held out. Its figures on pictures held out when it was learned stand beside them; --fail-under "
            "'unseen pictures:R@1=0.6' tests those."
        )
    if e.without:
        yield f"{e.without} pictures have no vector in this space: they can't be found and are left out here."
    if not e.complete:
        yield f"The shop has {e.drawn_from} pictures; rankings are among a sample of {e.pictures + e.without} of them."
    if any(task.name == OTHER_PICTURES for task in e.tasks):
        yield (
            "Pictures of one product were often taken together, so a search for a shopper's photo may do worse than "
            "one for another of the shop's pictures."
        )


def held_out_rows(learned: ServingHead) -> list[list[str]]:
    """Return the head's figures from training as rows of (task and when, *MEASURE_NAMES, queries).

    Entries in any other form are left out.
    """
    rows = []
    for entry in learned.held_out:
        for when in ("before", "after"):
            figures: Any = entry.get(when) if isinstance(entry, dict) else None
            if isinstance(figures, dict):
                values = ["" if figures.get(name) is None else f"{figures[name]:.3f}" for name in MEASURE_NAMES]
                rows.append([f"{entry.get('task', '')} {when}".strip(), *values, str(figures.get("queries", ""))])
    return rows


def aligned(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Align rows in columns, the first to the left, the others to the right; return no line without rows."""
    if not rows:
        return []
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _figure_columns(metrics: Metrics) -> list[str]:
    values = metrics.as_dict()
    return [*(f"{values[name]:.3f}" for name in MEASURE_NAMES), str(metrics.queries)]
