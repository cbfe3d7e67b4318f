"""The options of a fine-tuning and its result: plain data, without TensorFlow.

``FinetuneOptions`` go in, a ``Tuned`` backbone comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FinetuneOptions:
    """How a backbone is trained. Raises ValueError for options out of range.

    ``epochs``: at most; ``seconds``: the time allowed in all, resumed runs included, in which at least one epoch is
    made and the learning rate falls to 0; None for no limit.
    ``batch_size``, ``learning_rate`` (its height, after the warm-up), ``weight_decay``: of AdamW.
    ``input_size``: side in pixels of the exported network's input; None for the recipe's.
    ``training_size``: side of the views that are learned from; None for about 5/7 of ``input_size``, which costs half
    as much: views show things larger than pictures do, so less is lost (H. Touvron et al., "Fixing the train-test
    resolution discrepancy", 2019).
    ``scale``, ``smoothing``: of the softmax.
    ``weights``: how much each label counts, by name; 1 for labels without an entry.
    ``frozen_stride``: layers up to the last with a map of that share of the picture's side, as 1/8, stay as they are; 0
    trains all. They hold 2 % of EfficientNet-Lite0's numbers and a third of the work of a step.
    ``average``: how much of the running average of the weights each step keeps; the average is measured and exported.
    0 for the weights themselves.
    ``alpha``: measured and exported weights lie so far on the way from the weights before to those after training
    (M. Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). EfficientNet-Lite0, by the kind of 1,838
    grocery photos as one product each: at 1, unseen products find their kind (R@1) in .839, at 0.8 in .827; altered
    views find their product in .732 and .731. MobileNetV2-0.35, by several pictures of each product: 0.5 to 0.7 found
    unseen products better than 1 (.86 against .83).
    ``measure_every``: epochs between two measurements; ``measured``: about how many pictures to measure with at most;
    ``patience``: measurements in a row without a better mAP after which training stops.
    ``precision``: "float32", "bfloat16", or None for bfloat16 on a GPU that has it.
    ``views``: changes to ``training.Strength``, by name.
    """

    epochs: int = 8
    batch_size: int = 32
    input_size: int | None = None
    training_size: int | None = None
    learning_rate: float = 3e-4
    weight_decay: float = 1e-3
    scale: float = 16.0
    smoothing: float = 0.1
    weights: Mapping[str, float] = field(default_factory=dict)
    frozen_stride: int = 8
    average: float = 0.98
    alpha: float = 1.0
    measure_every: int = 2
    measured: int = 6000
    patience: int = 3
    seconds: float | None = None
    seed: int = 0
    precision: str | None = None
    views: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "measure_every", "measured", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        for name in ("input_size", "training_size"):
            size = getattr(self, name)
            if size is not None and size < 32:
                raise ValueError(f"{name} must be 32 pixels or more, not {size}.")
        for name in ("learning_rate", "scale"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if not 0 <= self.weight_decay < np.inf or not 0 <= self.smoothing < 1 or not 0 <= self.average < 1:
            raise ValueError("weight_decay must be 0 or more; smoothing and average from 0 to below 1.")
        if self.frozen_stride < 0:
            raise ValueError(f"frozen_stride must be 0 or more, not {self.frozen_stride}.")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must be above 0 and at most 1, not {self.alpha}.")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds must be above 0, or None, not {self.seconds}.")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be from 0 to below 2 ** 31, not {self.seed}.")
        if self.precision not in (None, "float32", "bfloat16"):
            raise ValueError(f'precision must be "float32", "bfloat16" or None, not {self.precision!r}.')


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned backbone, exported, and its figures."""

    flatbuffer: bytes
    """For LiteRT: a picture, uint8 (1, s, s, 3) RGB, to pooled features, float32 (1, width), neither centred nor
    normalised; the application's preprocessing is inside."""
    width: int
    input_size: int
    mean: NDArray[np.float32]
    """Of the features over the pictures learned from, ``(width,)``: subtracted before cosines are compared."""
    target: str
    """The label that says which pictures are right."""
    task: str | None
    """See ``Split.task``; None where nothing was held out."""
    before: Mapping[str, float] | None
    """R@1, R@5, R@10, mAP, MRR, nDCG@10, queries and left_out of held-out pictures by the cosine of centred features
    (``Metrics.as_dict``), of the untrained backbone; None where nothing was held out."""
    after: Mapping[str, float] | None
    """The same of ``best_epoch``. That epoch was chosen by these very pictures, which flatters it a little."""
    history: tuple[Mapping[str, float], ...]
    """By epoch: epoch, loss, seconds, and R@1 and mAP where it was measured."""
    best_epoch: int
    """The epoch of the exported weights; 0 for the untrained backbone, where training improved nothing."""
    stopped: str
    """Why training ended: "epochs", "patience" or "seconds" ran out."""
    seconds: float
    """Of all runs together."""
    export_cosine: float
    """The least cosine between features by Keras and by LiteRT, over a few pictures."""
    notes: tuple[str, ...] = ()
    """Inputs that were left out, and why; for people."""

    @property
    def better(self) -> bool | None:
        """Whether held-out pictures are found better than before; None where nothing was held out."""
        return None if self.before is None or self.after is None else self.after["mAP"] > self.before["mAP"]

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the flatbuffer and the mean, for a JSONField."""
        names = ("width", "input_size", "target", "task", "best_epoch", "stopped", "seconds", "export_cosine")
        return {
            **{name: getattr(self, name) for name in names},
            "before": None if self.before is None else dict(self.before),
            "after": None if self.after is None else dict(self.after),
            "history": [dict(one) for one in self.history],
            "notes": list(self.notes),
        }
