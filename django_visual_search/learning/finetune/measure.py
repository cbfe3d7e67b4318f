"""Which pictures a training is measured with, and how well held-out ones are found by centred features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors.base import l2_normalise
from ..labels import Values
from ..selection import measure
from ..splits import Indices, Split


@dataclass(frozen=True)
class Held:
    """Held-out pictures and what they are searched for in; false where there are none."""

    rows: Indices
    """Of all pictures, those that features are needed of, ascending."""
    split: Split
    """In places of ``rows``."""
    target: Values
    scenes: Indices

    def __bool__(self) -> bool:
        return len(self.split.held_out) > 0

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], task: str, most: int, seed: int) -> Held:
        """About ``most`` pictures of ``arrays`` (target, scenes, train, held_out) at the utmost: all pictures of each
        label value that is measured with, drawn at random."""
        target, train, held = arrays["target"], arrays["train"], arrays["held_out"]
        values = np.unique(target[held][target[held] >= 0])
        chosen: list[int] = []
        count = 0
        for value in np.random.default_rng(seed).permutation(values).tolist():
            count += int((target[train] == value).sum() + (target[held] == value).sum())
            chosen.append(value)
            if count >= most:
                break
        held = held[np.isin(target[held], chosen)]
        if count >= most and task == "unseen pictures":
            train = train[np.isin(target[train], chosen)]
        elif len(train) > most:
            train = np.random.default_rng(seed).permutation(train)[:most]
        rows = np.union1d(train, held) if len(held) else np.empty(0, np.intp)
        split = Split(task, np.flatnonzero(np.isin(rows, train)), np.flatnonzero(np.isin(rows, held)), None)
        own = [None if value < 0 else value for value in target[rows].tolist()]
        return cls(rows, split, own, arrays["scenes"][rows])

    def metrics(self, features: NDArray[np.float32]) -> dict[str, float]:
        """Figures of held-out pictures by the cosine of features, ``(rows, f)``, centred by those learned from."""
        mean = features[self.split.train].mean(axis=0)
        found = measure(features, self.target, self.split, lambda x: l2_normalise(x - mean), scenes=self.scenes)
        return found.mean().as_dict()
