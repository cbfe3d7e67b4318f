"""The results of an evaluation: plain numbers to print, to write as JSON and to draw; and floors under them.

``Evaluation`` holds the results of one field, by *task*: the kind of query, and which hits are right. ``parse_floor``
reads the least value that a shop demands in CI, such as ``R@1=0.6``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import Any

from ..learning.metrics import KS, NDCG_AT, Metrics
from ..learning.splits import UNSEEN_PICTURES, UNSEEN_PRODUCTS

ANN_K = 10
"""Nearest products that the search is compared with the exact answer by."""


@dataclass(frozen=True)
class TaskFigures:
    """The figures of one task, over all queries and by their labels."""

    name: str
    about: str
    """One sentence: what the query is, and which hits are right."""
    overall: Metrics
    by_label: dict[str, dict[str, Metrics]] = dataclass_field(default_factory=dict)
    """Label -> value -> figures of the queries that have it."""


@dataclass(frozen=True)
class RobustnessCurve:
    """The share of pictures that still find their product after one alteration, by its strength."""

    alteration: str
    about: str
    """The alteration in words, such as "turned left or right"."""
    strengths: list[float]
    words: list[str]
    """Each strength in words, such as "up to 45°"."""
    recall: dict[int, list[float]]
    """k -> R@k by strength."""
    similarity: list[float]
    """Mean cosine to the picture itself."""


@dataclass(frozen=True)
class AnnRecall:
    """Share of the exactly nearest products that the search finds with its present plan."""

    k: int
    queries: int
    recall: float
    exact: int
    """Searches that were planned as exact scans: right by construction."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one stage of a search by photo, one at a time, after warming up."""

    p50: float
    p95: float
    searches: int


@dataclass(frozen=True)
class Confusion:
    """Labels of the nearest pictures of other products (columns) by the query's label (rows)."""

    label: str
    names: list[str]
    counts: list[list[int]]
    left_out: int
    """Queries of labels too rare to show."""


@dataclass(frozen=True)
class RankedHit:
    """A hit of a query, by the names of its picture and product."""

    image: str
    product: str
    similarity: float
    right: bool


@dataclass(frozen=True)
class Worst:
    """A query that went wrong: its picture's name, or its bytes as JPEG where it is an altered view."""

    task: str
    image: str
    product: str
    rank: int | None
    """Of the first right hit; None where it isn't among the hits looked at."""
    hits: list[RankedHit]
    view: bytes | None = None


@dataclass(frozen=True)
class Reliability:
    """Confidence against truth, over bins of about equally many hits."""

    about: str
    confidence: list[float]
    right: list[float]
    hits: list[int]
    error: float
    """Expected calibration error."""
    brier: float


@dataclass(frozen=True)
class ServingHead:
    """The serving head: learned from pictures of this shop, perhaps from the very queries."""

    name: str
    method: str
    learned_at: datetime
    held_out: list[dict[str, Any]]
    """Its figures on pictures held out from its training, as stored then."""
    summary: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """All results of one field."""

    label: str
    extractor: str
    space: str
    pictures: int
    """Pictures with a vector, which searches may find."""
    without: int
    """Pictures without a vector, which no search finds."""
    drawn_from: int
    """Pictures of the field."""
    complete: bool
    """Whether rankings are among all of them."""
    queries: int
    seed: int
    limit: int
    tasks: list[TaskFigures]
    robustness: list[RobustnessCurve]
    robustness_queries: int
    ann: AnnRecall
    latency: dict[str, Latency]
    confusion: list[Confusion]
    worst: list[Worst]
    reliability: Reliability | None
    learned: ServingHead | None
    unreadable: dict[str, str]
    """Pictures that could not be decoded, by name."""

    def value(self, measure: str, task: str | None = None) -> float | None:
        """Return a figure by its name, of the first task unless one is named; None where it wasn't measured.

        The tasks in HELD_OUT are those of the pictures held out when the serving head was learned.
        """
        if measure == f"ANN@{self.ann.k}":
            return self.ann.recall if self.ann.queries else None
        for entry in self.learned.held_out if self.learned else ():
            if task is not None and entry.get("task") == task:
                kept = entry.get("after", {}).get(measure)
                return None if kept is None else float(kept)
        found = next((t for t in self.tasks if task in (None, t.name)), None)
        return None if found is None else found.overall.as_dict()[measure]

    def as_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, without the pictures of the worst queries."""
        data = asdict(self)
        data["tasks"] = [
            {
                "name": task.name,
                "about": task.about,
                "overall": task.overall.as_dict(),
                "by_label": {
                    path: {value: metrics.as_dict() for value, metrics in values.items()}
                    for path, values in task.by_label.items()
                },
            }
            for task in self.tasks
        ]
        for worst in data["worst"]:
            del worst["view"]
        if self.learned is not None:
            data["learned"]["learned_at"] = self.learned.learned_at.isoformat()
        return data


MEASURES = (*(f"R@{k}" for k in KS), "mAP", "MRR", f"nDCG@{NDCG_AT}", f"ANN@{ANN_K}")

HELD_OUT = (UNSEEN_PICTURES, UNSEEN_PRODUCTS)
"""Tasks that heads are measured by when they are learned."""


@dataclass(frozen=True)
class Floor:
    """The least allowed value of a measure, of the first task or of the one named."""

    task: str | None
    measure: str
    least: float

    def __str__(self) -> str:
        return f"{self.measure if self.task is None else f'{self.task}:{self.measure}'} at least {self.least:g}"

    def problem(self, evaluation: Evaluation) -> str | None:
        """Return the fault as a sentence; None where the figure is high enough."""
        value = evaluation.value(self.measure, self.task)
        if value is None:
            tasks = ", ".join(task.name for task in evaluation.tasks) or "none"
            return f"{evaluation.label}: {self} was required, but nothing measured it (tasks: {tasks})."
        if value < self.least:
            return f"{evaluation.label}: {self} was required, but it is {value:.4f}."
        return None


def parse_floor(text: str, labels: list[str] | None = None) -> Floor:
    """Read ``MEASURE=VALUE`` or ``TASK:MEASURE=VALUE``. Raises ValueError, naming the valid ones.

    ``labels``: paths whose "same …" tasks are valid too.
    """
    name, equals, number = text.rpartition("=")
    task, colon, measure = name.rpartition(":")
    measures = {name.lower(): name for name in MEASURES}
    try:
        least = float(number)
    except ValueError:
        least = -1.0
    if not equals or measure.strip().lower() not in measures or not 0 <= least <= 1:
        raise ValueError(
            f"--fail-under takes MEASURE=VALUE with a value from 0 to 1, such as R@1=0.6, not {text!r}. Measures: "
            f"{', '.join(MEASURES)}."
        )
    tasks = ["other pictures", "altered views", *(f"same {label}" for label in labels or [])]
    tasks += [*HELD_OUT, *(f"same {label} of {UNSEEN_PRODUCTS}" for label in labels or [])]
    if colon and task.strip() not in tasks:
        raise ValueError(f"--fail-under: there is no task {task!r}. Tasks: {', '.join(tasks)}.")
    return Floor(task.strip() if colon else None, measures[measure.strip().lower()], least)
