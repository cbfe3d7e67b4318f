"""``R@1=0.6``: the least that a figure may be, for shops that evaluate in CI."""

from __future__ import annotations

from dataclasses import dataclass

from ..learning.metrics import KS, NDCG_AT
from .figures import Evaluation
from .speed import K

MEASURES = (*(f"R@{k}" for k in KS), "mAP", "MRR", f"nDCG@{NDCG_AT}", f"ANN@{K}")


HELD_OUT = ("unseen pictures", "unseen products")
"""Tasks that a head was measured by when it was learned."""


@dataclass(frozen=True)
class Floor:
    """The least value of a measure, of the first task or of the one named."""

    task: str | None
    measure: str
    least: float

    def __str__(self) -> str:
        return f"{self.measure if self.task is None else f'{self.task}:{self.measure}'} at least {self.least:g}"

    def problem(self, evaluation: Evaluation) -> str | None:
        """What is wrong, as a sentence; None where the figure is high enough."""
        value = evaluation.value(self.measure, self.task)
        if value is None:
            there = ", ".join(task.name for task in evaluation.tasks) or "none"
            return (
                f"{evaluation.label}: {self} was asked for, but there was nothing to measure it with (tasks: {there})."
            )
        if value < self.least:
            return f"{evaluation.label}: {self} was asked for, but it is {value:.4f}."
        return None


def parse(text: str, labels: list[str] | None = None) -> Floor:
    """``MEASURE=VALUE`` or ``TASK:MEASURE=VALUE``. Raises ValueError, naming the measures that there are."""
    name, equals, number = text.rpartition("=")
    task, colon, measure = name.rpartition(":")
    known = {known.lower(): known for known in MEASURES}
    try:
        least = float(number)
    except ValueError:
        least = -1.0
    if not equals or measure.strip().lower() not in known or not 0 <= least <= 1:
        raise ValueError(
            f"--fail-under takes MEASURE=VALUE with a value from 0 to 1, such as R@1=0.6, not {text!r}. Measures: "
            f"{', '.join(MEASURES)}."
        )
    tasks = ["other pictures", "altered views", *(f"same {label}" for label in labels or []), *HELD_OUT]
    if colon and task.strip() not in tasks:
        raise ValueError(f"--fail-under: there is no task {task!r}. Tasks: {', '.join(tasks)}.")
    return Floor(task.strip() if colon else None, known[measure.strip().lower()], least)
