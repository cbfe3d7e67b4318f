"""Normalised softmax: a picture's features are drawn to the proxy of each of its labels and away from all others.

A. Zhai and H.-Y. Wu, "Classification is a strong baseline for deep metric learning", 2019: the logits are cosines times
a scale. Features are centred first: behind a ReLU all point one way, and cosines would hardly differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Array = NDArray[np.float32]


def imprinted(features: Array, classes: NDArray[np.int32], count: int) -> Array:
    """First proxies of a label: the mean of each class's centred unit features, ``(count, f)`` (H. Qi et al.,
    "Low-shot learning with imprinted weights", 2018)."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    known = classes >= 0
    sums = np.zeros((count, features.shape[1]), np.float32)
    np.add.at(sums, classes[known], unit[known])
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
    """The weighted mean over labels, a scalar.

    ``features``: float32 ``(b, f)``; ``centre``: ``(f,)``; ``classes``: int32 ``(b, labels)``, -1 where a picture has
    none; ``proxies``: by label, ``(classes, f)``.
    """
    unit = tf.math.l2_normalize(features - centre, axis=1)
    total = tf.constant(0.0)
    for i, (own, weight) in enumerate(zip(proxies, weights, strict=True)):
        logits = scale * tf.matmul(unit, tf.math.l2_normalize(own, axis=1), transpose_b=True)
        target = classes[:, i]
        known = tf.cast(target >= 0, tf.float32)
        likely = tf.nn.log_softmax(logits)
        right = tf.gather(likely, tf.maximum(target, 0), axis=1, batch_dims=1)
        each = -(1 - smoothing) * right - smoothing * tf.reduce_mean(likely, axis=1)
        total += weight * tf.reduce_sum(each * known) / tf.maximum(tf.reduce_sum(known), 1.0)
    return total / sum(weights)
