"""What became of pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from dataclasses import field as dataclass_field


@dataclass
class Report:
    """What became of pictures: counts, and why some have no vector."""

    done: int = 0
    skipped: int = 0
    """Current already, held by another process, or changed while they were worked on."""
    cleared: int = 0
    refused: int = 0
    failed: int = 0
    quarantined: int = 0
    reasons: Counter[str] = dataclass_field(default_factory=Counter)

    @property
    def moved(self) -> bool:
        """Whether anything was settled."""
        return bool(self.done or self.cleared or self.refused or self.failed or self.quarantined)

    def add(self, other: Report) -> None:
        """Add another report's counts."""
        for name in ("done", "skipped", "cleared", "refused", "failed", "quarantined"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)
