"""What is trained: a whole backbone and the proxies of the labels, step by step, with all of its state at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ...extractors import build
from ...extractors.views import picture_size
from . import loss
from .augmentation import Strength, views

Arrays = list[NDArray[Any]]

AT_ONCE = 32
"""Pictures that features are computed of at a time."""

NO_DECAY = ("bias", "beta", "gamma", "proxies")
"""Variables that weight decay leaves alone, by their names."""


class Training:
    """The backbone of ``recipe`` twice, to train at ``options["training_size"]`` and to measure at the exported size.

    Batch norm is always in inference mode: its statistics stay those of the pre-training, for a shop's batches are few
    and unlike what is embedded later; its scale and offset are trained.
    """

    def __init__(self, recipe: dict[str, Any], options: dict[str, Any]) -> None:
        self.options = options
        self.size: int = recipe["input_size"]
        self.seen: tuple[str, ...] = tuple(recipe["views"])
        keras.config.set_dtype_policy("mixed_bfloat16" if half_precision(options["precision"]) else "float32")
        # It takes the weights of the other: Keras has files of its own for some sizes, which may not be here.
        self.backbone, self.preprocess = build.backbone({**recipe, "weights": None}, options["training_size"])
        keras.config.set_dtype_policy("float32")
        self.exported, _ = build.backbone(recipe, self.size)
        self.weights = list(self.backbone.trainable_variables)
        for ours, theirs in zip(self.backbone.variables, self.exported.variables, strict=True):
            ours.assign(theirs)
        self.before = [tf.convert_to_tensor(one) for one in self.weights]
        self.average = [tf.Variable(tf.convert_to_tensor(one)) for one in self.weights]
        self.strength = Strength(**options["views"])
        self.proxies: list[Any] = []

    def begin(self, centre: NDArray[np.float32], proxies: Sequence[NDArray[np.float32]]) -> None:
        """Make what is trained beside the backbone."""
        self.centre = tf.constant(centre)
        self.proxies = [keras.Variable(one, name="proxies") for one in proxies]
        self.optimizer = keras.optimizers.AdamW(
            self.options["learning_rate"], weight_decay=self.options["weight_decay"], global_clipnorm=10.0
        )
        self.optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
        self.optimizer.build([*self.weights, *self.proxies])
        # Without autograph, which reads the source again: it may have been updated since this process began.
        self._step = tf.function(self._stepped, autograph=False)

    def step(self, pictures: NDArray[np.uint8], classes: NDArray[np.int32], rate: float, seed: Sequence[int]) -> Any:
        """Learn from one batch; returns its loss, a tensor."""
        self.optimizer.learning_rate.assign(rate)
        done = int(self.optimizer.iterations)
        # At first the average is of few steps, or the untrained weights would stay in it for long.
        kept = min(self.options["average"], (1 + done) / (10 + done))
        return self._step(
            tf.constant(pictures), tf.constant(classes), tf.constant(seed, tf.int32), tf.constant(kept, tf.float32)
        )

    def _stepped(self, pictures: Any, classes: Any, seed: Any, kept: Any) -> Any:
        options = self.options
        pictures = tf.cast(pictures, tf.float32)
        if pictures.shape[1] != self.size:
            pictures = build.shrunk(pictures, self.size)
        altered = views(pictures, options["training_size"], self.strength, seed)
        with tf.GradientTape() as tape:
            features = tf.cast(self.backbone(self.preprocess(altered), training=False), tf.float32)
            value = loss.loss(
                features, self.centre, classes, self.proxies, options["weights"], options["scale"], options["smoothing"]
            )
        trained = [*self.weights, *self.proxies]
        self.optimizer.apply(tape.gradient(value, trained), trained)
        for average, now in zip(self.average, self.weights, strict=True):
            average.assign(kept * average + (1 - kept) * now)
        return value

    def use(self, weights: Arrays | None = None) -> None:
        """Measure and export with ``alpha`` of these weights; by default of the average of the last steps'."""
        alpha = self.options["alpha"]
        for theirs, before, after in zip(
            self.exported.trainable_variables, self.before, weights or self.average, strict=True
        ):
            theirs.assign(before + alpha * (after - before))

    def features(self, pictures: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Features ``(rows, f)`` of some of the pictures, with the weights in use."""
        found = []
        for start in range(0, len(rows), AT_ONCE):
            batch = np.asarray(pictures[rows[start : start + AT_ONCE]])
            padded = np.concatenate([batch, np.zeros((AT_ONCE - len(batch), *batch.shape[1:]), np.uint8)])
            found.append(self._features(tf.constant(padded)).numpy()[: len(batch)])
        return np.concatenate(found)

    @tf.function(autograph=False)
    def _features(self, pictures: Any) -> Any:
        return build.pooled(self.exported, self.preprocess, tf.cast(pictures, tf.float32), self.seen)

    def flatbuffer(self, quantise: str | None) -> bytes:
        """The exported model with the weights in use."""
        size = picture_size(self.size, self.seen)
        return build.flatbuffer(self.exported, self.preprocess, size, quantise, self.seen)

    def state(self) -> dict[str, Arrays]:
        """All that a later process needs to go on as this one would."""
        parts = {
            "weights": self.weights,
            "average": self.average,
            "proxies": self.proxies,
            "optimizer": self.optimizer.variables,
            "centre": [self.centre],
        }
        return {name: [np.asarray(tf.convert_to_tensor(one)) for one in part] for name, part in parts.items()}

    def restore(self, state: dict[str, Arrays]) -> None:
        """Go on from what ``state`` gave."""
        self.begin(state["centre"][0], state["proxies"])
        for name in ("weights", "average", "optimizer"):
            own = self.optimizer.variables if name == "optimizer" else getattr(self, name)
            for variable, value in zip(own, state[name], strict=True):
                variable.assign(value)


def half_precision(wanted: str | None) -> bool:
    """Whether to compute in bfloat16: by default on a GPU that has it (compute capability 8 and above)."""
    if wanted is not None:
        return wanted == "bfloat16"
    devices = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(device) for device in devices]
    return bool(details) and all(one.get("compute_capability", (0, 0))[0] >= 8 for one in details)
