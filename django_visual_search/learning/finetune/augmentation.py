"""Altered views of a batch of pictures in TensorFlow operations: as ``augment`` does, on the device that trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Strength:
    """How much views may differ from their pictures.

    ``zoom``: the least and the largest share of a picture's side that a view shows. ``shift``: of the side, beyond what
    is left by the zoom. ``rotation``: degrees. ``light``: brightness, contrast and saturation by up to that share.
    ``tint``: each colour by up to that share. ``erased``: the chance that a rectangle is covered, as by a hand.
    """

    zoom: tuple[float, float] = (0.6, 1.1)
    aspect: float = 0.1
    shift: float = 0.05
    rotation: float = 15.0
    light: float = 0.35
    tint: float = 0.08
    flip: bool = True
    erased: float = 0.25


def views(pictures: Any, size: int, strength: Strength, seed: Any) -> Any:
    """One view of each picture: ``(b, s, s, 3)`` to float32 ``(b, size, size, 3)`` from 0 to 255.

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
    """Flip, rotation, zoom and shift as one projection, so that pixels are resampled once."""
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
    """Contrast around the picture's mean, saturation around its grey, brightness and tint, in one linear map."""
    light = 1 + _uniform(batch, draws, -strength.light, strength.light, 3)
    tint = 1 + _uniform(batch, draws, -strength.tint, strength.tint, 3)
    bright, contrast, colour = (light[:, i][:, None, None, None] for i in range(3))
    mean = tf.reduce_mean(pictures, axis=(1, 2, 3), keepdims=True)
    grey = tf.reduce_mean(pictures, axis=3, keepdims=True)
    found = grey + (pictures - grey) * colour
    found = (mean + (found - mean) * contrast) * bright * tint[:, None, None, :]
    return tf.clip_by_value(found, 0.0, 255.0)


def _erased(pictures: Any, batch: Any, size: int, strength: Strength, draws: Any) -> Any:
    """A grey rectangle over some (Z. Zhong et al., "Random erasing data augmentation", 2020)."""
    numbers = tf.random.stateless_uniform((batch, 5), next(draws))
    half = (0.1 + 0.15 * numbers[:, :2]) * size
    centre = numbers[:, 2:4] * size
    place = tf.range(size, dtype=tf.float32)
    across = tf.abs(place[None] - centre[:, :1]) < half[:, :1]
    down = tf.abs(place[None] - centre[:, 1:]) < half[:, 1:]
    covered = down[:, :, None] & across[:, None, :] & (numbers[:, 4] < strength.erased)[:, None, None]
    return tf.where(covered[..., None], 127.0, pictures)
