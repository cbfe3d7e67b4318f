"""What is close enough to be shown."""

from __future__ import annotations

from dataclasses import dataclass

from ..ranking.types import Candidate
from .confidence import Confidence


class ConfidenceUnknown(ValueError):  # noqa: N818 - as images.ImageRefused
    """A least confidence was asked for, but how sure a hit is was never learned. The text says what to do."""


@dataclass(frozen=True)
class Closeness:
    """What hits must reach to be shown."""

    similarity: float | None
    confidence: float | None

    def enough(self, candidates: list[Candidate], confidence: Confidence | None) -> list[Candidate]:
        """Those that are close enough. Raises ConfidenceUnknown where nothing was learned of that.

        While vectors move between two spaces, hits of one that has no calibration are not judged by it.
        """
        if self.similarity is not None:
            candidates = [candidate for candidate in candidates if candidate.similarity >= self.similarity]
        if self.confidence is None or confidence is None:
            return candidates
        if not confidence:
            raise ConfidenceUnknown(
                f"How sure a hit of {confidence.field.label} is was never learned, so there is no min_confidence: run "
                "`manage.py train_embedding` and `switch_embedding` first."
            )
        for candidate, sure in zip(candidates, confidence.of_candidates(candidates), strict=True):
            candidate.confidence = sure
        return [c for c in candidates if c.confidence is None or c.confidence >= self.confidence]
