"""What must be said beside the figures, so that nobody takes them for more than they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .figures import Evaluation, Learned
from .tasks import OTHER_PICTURES

NAMES = ("R@1", "R@5", "R@10", "mAP", "MRR", "nDCG@10")


def caveats(evaluation: Evaluation) -> Iterator[str]:
    """One sentence or two each."""
    e = evaluation
    if e.learned is not None:
        yield (
            f"The head {e.learned.name} serves, learned on {e.learned.learned_at:%Y-%m-%d} from this shop's own "
            "pictures, probably these very ones: the figures measured here flatter it and are not held out. What it "
            "reached on pictures that were held out when it was learned stands beside them, and is what --fail-under "
            "'unseen pictures:R@1=0.6' asks for. The confidence measured here is flattered alike."
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


def held_out_rows(learned: Learned) -> list[list[str]]:
    """The head's own figures, as rows of (task and when, *NAMES, queries); what training stored in another form is
    left out."""
    rows = []
    for entry in learned.held_out:
        for when in ("before", "after"):
            figures: Any = entry.get(when) if isinstance(entry, dict) else None
            if isinstance(figures, dict):
                values = ["" if figures.get(name) is None else f"{figures[name]:.3f}" for name in NAMES]
                rows.append([f"{entry.get('task', '')} {when}".strip(), *values, str(figures.get("queries", ""))])
    return rows
