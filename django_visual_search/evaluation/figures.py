"""What an evaluation found: plain numbers, ready to be printed, written as JSON and drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import Any

from ..learning.metrics import Metrics


@dataclass(frozen=True)
class Task:
    """One question's figures, over all queries and by what they are labelled with."""

    name: str
    about: str
    """One sentence: what the query is, and what is right."""
    overall: Metrics
    by_label: dict[str, dict[str, Metrics]] = dataclass_field(default_factory=dict)
    """Label -> value -> figures of the queries that have it."""


@dataclass(frozen=True)
class Curve:
    """How often pictures altered in one way, more and more, still find their product first."""

    alteration: str
    about: str
    """What the words measure."""
    strengths: list[float]
    words: list[str]
    """What each strength is, such as "up to 45°"."""
    recall: dict[int, list[float]]
    """k -> R@k by strength."""
    similarity: list[float]
    """Mean cosine to the picture itself."""


@dataclass(frozen=True)
class AnnRecall:
    """How many of the nearest products by exact comparison the search finds as it is planned now."""

    k: int
    queries: int
    recall: float
    exact: int
    """Searches that were planned exact: right by construction."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one stage of a search by photo, one at a time, after warming up."""

    p50: float
    p95: float
    searches: int


@dataclass(frozen=True)
class Confusion:
    """Which labels are taken for which: the nearest picture of another product, by rows of the query's label."""

    label: str
    names: list[str]
    counts: list[list[int]]
    left_out: int
    """Queries of labels too rare to be shown."""


@dataclass(frozen=True)
class Hit:
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
    """Of the first right hit; None where it is not among those looked at."""
    hits: list[Hit]
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
class Learned:
    """The head that serves: it was learned from pictures of this shop, perhaps the very ones measured with."""

    name: str
    method: str
    learned_at: datetime
    held_out: list[dict[str, Any]]
    """Its own figures on pictures it was not learned from, as training stored them."""
    summary: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    label: str
    extractor: str
    space: str
    pictures: int
    """That have a vector and may be found."""
    without: int
    """Pictures without a vector, which nobody finds."""
    drawn_from: int
    """Pictures there are."""
    complete: bool
    """Whether rankings are among all of them."""
    queries: int
    seed: int
    limit: int
    tasks: list[Task]
    robustness: list[Curve]
    robustness_queries: int
    ann: AnnRecall
    latency: dict[str, Latency]
    confusion: list[Confusion]
    worst: list[Worst]
    reliability: Reliability | None
    learned: Learned | None
    unreadable: dict[str, str]
    """Pictures that could not be decoded, by name."""

    def value(self, measure: str, task: str | None = None) -> float | None:
        """A figure by its name, of the first task unless one is named; None where that was not measured.

        A head's own tasks, such as "unseen pictures", are those of the pictures held out when it was learned.
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
        """Plain lists and numbers; without the pictures of the worst queries."""
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
