"""Train a whole backbone and a proxy of each label's classes, step by step, with all state at hand. Needs TensorFlow.

Entry class: ``Training``. Its loss is the normalised softmax (A. Zhai and H.-Y. Wu, "Classification is a strong
baseline for deep metric learning", 2019): a picture's features are drawn to the *proxy* of each of its labels and away
from all others; the logits are cosines times a scale. Features are centred first: behind a ReLU all point one way, and
cosines would hardly differ. ``augment_batch`` makes the altered views that are learned from, as ``learning.augment``
does, on the device that trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ...extractors import build
from ...extractors.export import picture_size

FEATURES_AT_ONCE = 32
"""Pictures that features are computed of at a time."""

NO_DECAY = ("bias", "beta", "gamma")
"""Names of weights without weight decay; proxies are without it, too."""


class Training:
    """The backbone of ``recipe`` twice, to train at ``options["training_size"]`` and to measure at the exported size.

    Batch norm is always in inference mode: its statistics stay those of the pre-training, because a shop's batches are
    few and unlike the pictures embedded later; its scale and offset are trained.

    The optimizer updates two ``vectors``, which hold all weights one after another, with decay and without: an update
    of each of a network's 160 variables would take TensorFlow 9 s more to compile.
    """

    def __init__(self, recipe: dict[str, Any], options: dict[str, Any]) -> None:
        self.options = options
        self.size: int = recipe["input_size"]
        self.seen: tuple[str, ...] = tuple(recipe["views"])
        keras.config.set_dtype_policy("mixed_bfloat16" if half_precision(options["precision"]) else "float32")
        # Without weights, which are copied from the other: Keras has separate files for some sizes, perhaps not here.
        self.backbone, self.preprocess = build.backbone({**recipe, "weights": None}, options["training_size"])
        keras.config.set_dtype_policy("float32")
        self.exported, _ = build.backbone(recipe, self.size)
        freeze(self.backbone, options["frozen_stride"])
        freeze(self.exported, options["frozen_stride"])
        self.weights = list(self.backbone.trainable_variables)
        for ours, theirs in zip(self.backbone.variables, self.exported.variables, strict=True):
            ours.assign(theirs)
        self.before = [tf.convert_to_tensor(one) for one in self.weights]
        without = [any(part in one.name for part in NO_DECAY) for one in self.weights]
        self.groups = [rows.tolist() for rows in (np.flatnonzero(np.logical_not(without)), np.flatnonzero(without))]
        self.vectors = [
            keras.Variable(one, name=name)
            for one, name in zip(self._joined(self.weights), ("decayed", "others"), strict=True)
        ]
        self.average = [tf.Variable(one.value) for one in self.vectors]
        self.strength = Strength(**options["views"])
        self.proxies: list[Any] = []

    def begin(self, centre: NDArray[np.float32], proxies: Sequence[NDArray[np.float32]]) -> None:
        """Create the proxies and the optimizer."""
        self.centre = tf.constant(centre)
        self.proxies = [keras.Variable(one, name="proxies") for one in proxies]
        trained = [*self.vectors, *self.proxies]
        self.optimizer = keras.optimizers.AdamW(
            self.options["learning_rate"], weight_decay=self.options["weight_decay"], global_clipnorm=10.0
        )
        self.optimizer.exclude_from_weight_decay(var_list=trained[1:])
        self.optimizer.build(trained)
        # Without autograph, which reads the source again: an update may have changed it since this process began.
        self._step = tf.function(self._stepped, autograph=False)

    def step(self, pictures: NDArray[np.uint8], classes: NDArray[np.int32], rate: float, seed: Sequence[int]) -> Any:
        """Learn from one batch; returns its loss, a tensor."""
        self.optimizer.learning_rate.assign(rate)
        done = int(self.optimizer.iterations)
        # At first the average is of few steps: else the untrained weights would stay in it for long.
        kept = min(self.options["average"], (1 + done) / (10 + done))
        return self._step(
            tf.constant(pictures), tf.constant(classes), tf.constant(seed, tf.int32), tf.constant(kept, tf.float32)
        )

    def seconds_of_step(self, pictures: NDArray[np.uint8], classes: NDArray[np.int32]) -> float:
        """Return how long ``step`` takes, which is compiled meanwhile; all state is as before."""
        state = self.state()
        float(self.step(pictures, classes, 0.0, (0, 0)))
        began = time.monotonic()
        float(self.step(pictures, classes, 0.0, (0, 0)))
        spent = time.monotonic() - began
        self._assign(state)
        return spent

    def _stepped(self, pictures: Any, classes: Any, seed: Any, kept: Any) -> Any:
        options = self.options
        pictures = tf.cast(pictures, tf.float32)
        if pictures.shape[1] != self.size:
            pictures = build.shrunk(pictures, self.size)
        altered = augment_batch(pictures, options["training_size"], self.strength, seed)
        with tf.GradientTape() as tape:
            features = tf.cast(self.backbone(self.preprocess(altered), training=False), tf.float32)
            value = loss(
                features, self.centre, classes, self.proxies, options["weights"], options["scale"], options["smoothing"]
            )
        by_weight, by_proxy = tape.gradient(value, [self.weights, self.proxies])
        self.optimizer.apply([*self._joined(by_weight), *by_proxy], [*self.vectors, *self.proxies])
        for average, now in zip(self.average, self.vectors, strict=True):
            average.assign(kept * average + (1 - kept) * now)
        for weight, now in zip(self.weights, self._parted(self.vectors), strict=True):
            weight.assign(now)
        return value

    def _joined(self, weights: Sequence[Any]) -> list[Any]:
        """Return the values of weights, in their order, as two vectors."""
        flat = [tf.reshape(tf.convert_to_tensor(one), [-1]) for one in weights]
        return [tf.concat([flat[i] for i in rows] or [tf.zeros(0)], axis=0) for rows in self.groups]

    def _parted(self, vectors: Sequence[Any]) -> list[Any]:
        """Return the values of the weights, in their order, from two vectors."""
        found: list[Any] = [None] * len(self.weights)
        for rows, vector in zip(self.groups, vectors, strict=True):
            parts = tf.split(tf.convert_to_tensor(vector), [math.prod(self.weights[i].shape) for i in rows])
            for i, part in zip(rows, parts, strict=True):
                found[i] = tf.reshape(part, self.weights[i].shape)
        return found

    def use(self, weights: list[NDArray[Any]] | None = None) -> None:
        """Measure and export with ``alpha`` of these weights (default: the running average)."""
        alpha = self.options["alpha"]
        used = weights or self._parted(self.average)
        for theirs, before, after in zip(self.exported.trainable_variables, self.before, used, strict=True):
            theirs.assign(before + alpha * (after - before))

    def features(self, pictures: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return features ``(rows, f)`` of some of the pictures, by the weights in use."""
        found = []
        for start in range(0, len(rows), FEATURES_AT_ONCE):
            batch = np.asarray(pictures[rows[start : start + FEATURES_AT_ONCE]])
            padded = np.concatenate([batch, np.zeros((FEATURES_AT_ONCE - len(batch), *batch.shape[1:]), np.uint8)])
            found.append(self._features(tf.constant(padded)).numpy()[: len(batch)])
        return np.concatenate(found)

    @tf.function(autograph=False)
    def _features(self, pictures: Any) -> Any:
        return build.pooled(self.exported, self.preprocess, tf.cast(pictures, tf.float32), self.seen)

    def flatbuffer(self, quantise: str | None) -> bytes:
        """Export the model with the weights in use."""
        size = picture_size(self.size, self.seen)
        return build.flatbuffer(self.exported, self.preprocess, size, quantise, self.seen)

    def state(self) -> dict[str, list[NDArray[Any]]]:
        """Return everything that another process needs to go on as this one would."""
        parts = {
            "weights": self.weights,
            "average": self._parted(self.average),
            "proxies": self.proxies,
            "optimizer": self.optimizer.variables,
            "centre": [self.centre],
        }
        return {name: [np.asarray(tf.convert_to_tensor(one)) for one in part] for name, part in parts.items()}

    def restore(self, state: dict[str, list[NDArray[Any]]]) -> None:
        """Go on from the result of ``state``."""
        self.begin(state["centre"][0], state["proxies"])
        self._assign(state)

    def _assign(self, state: dict[str, list[NDArray[Any]]]) -> None:
        own = [*self.weights, *self.proxies, *self.optimizer.variables, *self.vectors, *self.average]
        values = [*state["weights"], *state["proxies"], *state["optimizer"]]
        values += [*self._joined(state["weights"]), *self._joined(state["average"])]
        for variable, value in zip(own, values, strict=True):
            variable.assign(value)


def freeze(model: Any, stride: int) -> None:
    """Freeze the layers up to the last whose map is at least a ``stride``-th of the picture's side; 0 freezes none."""
    if not stride:
        return
    least = model.input_shape[1] / stride
    wide = [i for i, layer in enumerate(model.layers) if len(side := layer.output.shape) == 4 and side[1] >= least]
    for layer in model.layers[: max(wide, default=-1) + 1]:
        layer.trainable = False


def half_precision(precision: str | None) -> bool:
    """Return whether to compute in bfloat16: by default on a GPU that has it (compute capability 8 and above)."""
    if precision is not None:
        return precision == "bfloat16"
    devices = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(device) for device in devices]
    return bool(details) and all(one.get("compute_capability", (0, 0))[0] >= 8 for one in details)


def imprinted(features: NDArray[np.float32], classes: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    """Return the first proxies of a label, ``(count, f)``: means of each class's centred unit features.

    Source: H. Qi et al., "Low-shot learning with imprinted weights", 2018.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    labelled = classes >= 0
    sums = np.zeros((count, features.shape[1]), np.float32)
    np.add.at(sums, classes[labelled], unit[labelled])
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), np.float32)


def loss(
    features: Any,
    centre: Any,
    classes: Any,
    proxies: Sequence[Any],
    weights: Sequence[float],
    scale: float,
    smoothing: float,
) -> Any:
    """Return the weighted mean over labels, a scalar.

    ``features``: float32 ``(b, f)``; ``centre``: ``(f,)``; ``classes``: int32 ``(b, labels)``, -1 where a picture has
    none; ``proxies``: by label, ``(classes, f)``.
    """
    unit = tf.math.l2_normalize(features - centre, axis=1)
    total = tf.constant(0.0)
    for i, (own, weight) in enumerate(zip(proxies, weights, strict=True)):
        logits = scale * tf.matmul(unit, tf.math.l2_normalize(own, axis=1), transpose_b=True)
        target = classes[:, i]
        labelled = tf.cast(target >= 0, tf.float32)
        likely = tf.nn.log_softmax(logits)
        right = tf.gather(likely, tf.maximum(target, 0), axis=1, batch_dims=1)
        each = -(1 - smoothing) * right - smoothing * tf.reduce_mean(likely, axis=1)
        total += weight * tf.reduce_sum(each * labelled) / tf.maximum(tf.reduce_sum(labelled), 1.0)
    return total / sum(weights)


@dataclass(frozen=True)
class Strength:
    """How much views may differ from their pictures.

    ``zoom``: the least and the largest share of a picture's side that a view shows. ``shift``: of the side, beyond the
    margin that the zoom leaves. ``rotation``: degrees. ``light``: brightness, contrast and saturation, and ``tint``:
    each colour, by up to that share. ``erased``: the chance that a rectangle is covered, as by a hand.
    """

    zoom: tuple[float, float] = (0.6, 1.1)
    aspect: float = 0.1
    shift: float = 0.05
    rotation: float = 15.0
    light: float = 0.35
    tint: float = 0.08
    flip: bool = True
    erased: float = 0.25


def augment_batch(pictures: Any, size: int, strength: Strength, seed: Any) -> Any:
    """Make one view of each picture: ``(b, s, s, 3)`` to float32 ``(b, size, size, 3)`` from 0 to 255.

    ``seed``: int32 ``(2,)``; equal seeds give equal views.
    """
    batch, side = tf.shape(pictures)[0], pictures.shape[1]
    draws = iter(tf.unstack(tf.random.experimental.stateless_split(seed, 10)))
    found = _moved(tf.cast(pictures, tf.float32), batch, side, size, strength, draws)
    found = _lit(found, batch, strength, draws)
    return _erased(found, batch, size, strength, draws) if strength.erased else found


def _uniform(batch: Any, draws: Any, low: float, high: float, columns: int = 1) -> Any:
    return tf.random.stateless_uniform((batch, columns), next(draws), low, high)


def _moved(pictures: Any, batch: Any, side: int, size: int, strength: Strength, draws: Any) -> Any:
    """Flip, turn, zoom and shift by one projection, so that pixels are resampled once."""
    zoom = _uniform(batch, draws, *strength.zoom)
    stretch = _uniform(batch, draws, -strength.aspect, strength.aspect)
    angle = _uniform(batch, draws, -1.0, 1.0) * (strength.rotation * 3.14159265 / 180)
    flip = tf.where(_uniform(batch, draws, 0.0, 1.0) < 0.5, -1.0, 1.0) if strength.flip else tf.ones((batch, 1))
    reach = tf.maximum(1 - zoom, 0.0) / 2 + strength.shift
    shift = _uniform(batch, draws, -1.0, 1.0, 2) * reach * side
    wide, high = zoom * (1 + stretch) * side / size, zoom * (1 - stretch) * side / size
    a0, a1 = flip * wide * tf.cos(angle), -high * tf.sin(angle)
    b0, b1 = flip * wide * tf.sin(angle), high * tf.cos(angle)
    middle, target = (side - 1) / 2, (size - 1) / 2
    a2 = middle + shift[:, :1] - (a0 + a1) * target
    b2 = middle + shift[:, 1:] - (b0 + b1) * target
    nothing = tf.zeros((batch, 2))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pictures,
        transforms=tf.concat([a0, a1, a2, b0, b1, b2, nothing], axis=1),
        output_shape=(size, size),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _lit(pictures: Any, batch: Any, strength: Strength, draws: Any) -> Any:
    """Change contrast around the picture's mean, saturation around its grey, brightness and tint."""
    light = 1 + _uniform(batch, draws, -strength.light, strength.light, 3)
    tint = 1 + _uniform(batch, draws, -strength.tint, strength.tint, 3)
    bright, contrast, colour = (light[:, i][:, None, None, None] for i in range(3))
    mean = tf.reduce_mean(pictures, axis=(1, 2, 3), keepdims=True)
    grey = tf.reduce_mean(pictures, axis=3, keepdims=True)
    found = grey + (pictures - grey) * colour
    found = (mean + (found - mean) * contrast) * bright * tint[:, None, None, :]
    return tf.clip_by_value(found, 0.0, 255.0)


def _erased(pictures: Any, batch: Any, size: int, strength: Strength, draws: Any) -> Any:
    """Cover a rectangle of some with grey (Z. Zhong et al., "Random erasing data augmentation", 2020)."""
    numbers = tf.random.stateless_uniform((batch, 5), next(draws))
    half = (0.1 + 0.15 * numbers[:, :2]) * size
    centre = numbers[:, 2:4] * size
    place = tf.range(size, dtype=tf.float32)
    across = tf.abs(place[None] - centre[:, :1]) < half[:, :1]
    down = tf.abs(place[None] - centre[:, 1:]) < half[:, 1:]
    covered = down[:, :, None] & across[:, None, :] & (numbers[:, 4] < strength.erased)[:, None, None]
    return tf.where(covered[..., None], 127.0, pictures)
