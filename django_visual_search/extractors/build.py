"""Build a keras.applications model and write it as a flatbuffer: ``export`` runs this module as a process of its own.

Standard input: the request as JSON. The exit code is 0 if ``request["output"]`` was written; otherwise the file
``request["report"]`` says why, as JSON: ``{"kind": "download" | "other", "message": …, "file": …, "folder": …}``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import efficientnet
from .efficientnet import ConvolutionLayer
from .export import WHOLE_VIEW, picture_size

STALLED_SECONDS = 20
"""Seconds without data after which a download of weights is given up."""

EXPORT_SEED = 0
"""Seed of the random weights of ``weights=None``."""

IDLE_IMPORTS = ("matplotlib", "sklearn")
"""Keras imports these where they are installed, for nothing that is used here, and takes 2 s longer to start."""


def keras_home(scratch: Path) -> Path:
    """Return the folder that holds Keras' ``models``, and make Keras read weights from it even if it is read-only.

    By itself Keras passes over a KERAS_HOME that it can't write to, as in a container image, and downloads again.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    if (home / "models").is_dir() and not os.access(home, os.W_OK):
        (scratch / "models").mkdir(parents=True, exist_ok=True)
        for file in (home / "models").iterdir():
            (scratch / "models" / file.name).symlink_to(file)
        os.environ["KERAS_HOME"] = str(scratch)
    return home


def skip_idle_imports() -> None:
    """Let Keras' import find none of IDLE_IMPORTS, in a process that is for Keras alone."""
    for idle in IDLE_IMPORTS:
        sys.modules.setdefault(idle, None)  # type: ignore[arg-type]


def prepare() -> None:
    """Set Keras' defaults, which a keras.json of the user's may change, in a process that is for Keras alone."""
    skip_idle_imports()
    import keras

    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.utils.set_random_seed(EXPORT_SEED)


def backbone(recipe: dict[str, Any], size: int) -> tuple[Any, Callable[[Any], Any]]:
    """Return a recipe's Keras model for pictures of that size, and its application's preprocessing of floats to 255."""
    import keras

    if network := efficientnet.application_network(recipe["application"]):
        model = efficientnet_lite(efficientnet.published_layers(network), size)
        return model, lambda pictures: (pictures - efficientnet.OFFSET) / efficientnet.SCALE
    application = getattr(keras.applications, recipe["application"])
    model = application(
        include_top=False,
        weights=recipe["weights"],
        pooling=recipe["pooling"],
        input_shape=(size, size, 3),
        **recipe["kwargs"],
    )
    # By the module of the function: keras.applications.mobilenet_v3 has the preprocessing without the models.
    return model, sys.modules[application.__module__].preprocess_input  # type: ignore[attr-defined]


def efficientnet_lite(layers: Sequence[ConvolutionLayer], size: int) -> Any:
    """Return the Keras model of these layers, with their numbers: ``(b, size, size, 3)`` to features ``(b, width)``."""
    import keras

    pictures = keras.Input((size, size, 3))
    now: Any = pictures
    made: list[Any] = []
    for layer in layers:
        shape, options = layer.kernel.shape, {"strides": layer.stride, "padding": "same", "use_bias": False}
        kind = keras.layers.DepthwiseConv2D if layer.depthwise else keras.layers.Conv2D
        width = () if layer.depthwise else (shape[3],)
        now = kind(*width, shape[:2], name=layer.name, **options)(now)
        now = keras.layers.BatchNormalization(epsilon=efficientnet.EPSILON, name=f"{layer.name}_norm")(now)
        if layer.activated:
            now = keras.layers.ReLU(6, name=f"{layer.name}_relu")(now)
        if layer.adds is not None:
            now = keras.layers.Add(name=f"{layer.name}_sum")([now, made[layer.adds]])
        made.append(now)
    model = keras.Model(pictures, keras.layers.GlobalAveragePooling2D(name="features")(now))
    for layer in layers:
        model.get_layer(layer.name).set_weights([layer.kernel])
        norm = [layer.gamma, layer.beta, layer.mean, layer.variance]
        model.get_layer(f"{layer.name}_norm").set_weights(norm)
    return model


def cut_views_in_keras(pictures: Any, size: int, views: Sequence[str]) -> Any:
    """Return the views of pictures: ``(b, s, s, 3)`` to ``(views * b, size, size, 3)``, view by view."""
    import keras

    side = pictures.shape[1]
    start = (side - size) // 2
    made = []
    for view in views:
        part, _, mirrored = view.partition("-")
        if part == "centre":
            one = pictures[:, start : start + size, start : start + size]
        else:
            one = pictures if side == size else shrunk(pictures, size)
        made.append(keras.ops.flip(one, axis=2) if mirrored else one)
    return made[0] if len(made) == 1 else keras.ops.concatenate(made, axis=0)


def shrunk(pictures: Any, size: int) -> Any:
    """Return pictures scaled to a side of ``size`` pixels, blurred first.

    The kernel has the variance of a box as wide as a pixel of the result, less that of a pixel as it is: little is left
    of what would alias.
    """
    import keras
    import numpy as np

    step = pictures.shape[1] / size
    beside = (step**2 - 1) / 24  # of a kernel (a, 1 - 2a, a) the variance is 2a
    row = np.array([beside, 1 - 2 * beside, beside], np.float32)
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[..., 0] = (row[:, None] * row[None])[..., None]
    edges = keras.ops.pad(pictures, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")
    return keras.ops.image.resize(keras.ops.depthwise_conv(edges, kernel, padding="valid"), (size, size))


def pooled(model: Any, preprocess_input: Callable[[Any], Any], pictures: Any, views: Sequence[str]) -> Any:
    """Return the features of pictures, floats to 255, the mean over the views: ``(b, s, s, 3)`` to ``(b, f)``."""
    import keras

    found = model(preprocess_input(cut_views_in_keras(pictures, model.input_shape[1], views)), training=False)
    if len(views) == 1:
        return found
    return keras.ops.mean(keras.ops.reshape(found, (len(views), -1, found.shape[-1])), axis=0)


def flatbuffer(
    model: Any,
    preprocess_input: Callable[[Any], Any],
    size: int,
    quantise: str | None,
    views: Sequence[str] = WHOLE_VIEW,
) -> bytes:
    """Return a model of one picture, uint8 ``(1, s, s, 3)`` RGB, to its features; the preprocessing is inside."""
    import keras

    def features(pictures: Any) -> Any:
        return pooled(model, preprocess_input, keras.ops.cast(pictures, "float32"), views)

    return converted(features, (1, size, size, 3), "uint8", quantise)


def converted(call: Callable[[Any], Any], shape: Sequence[int], dtype: str, quantise: str | None) -> bytes:
    """Return the flatbuffer of a function of one tensor.

    A Keras model would be written as a SavedModel and read again: the same numbers, in four times the time.
    """
    import tensorflow as tf

    function = tf.function(call, autograph=False)
    concrete = function.get_concrete_function(tf.TensorSpec(shape, dtype))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], function)
    if quantise == "dynamic":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def build(request: dict[str, Any]) -> bytes:
    """Return the flatbuffer of a recipe, with the weights that it names."""
    prepare()
    views = request["views"]
    size = picture_size(request["input_size"], views)
    return flatbuffer(*backbone(request, request["input_size"]), size, request["quantise"], views)


def reported(request: dict[str, Any], work: Callable[[], None]) -> int:
    """Do ``work`` and return this process's exit code; if it failed, ``request["report"]`` says why."""
    socket.setdefaulttimeout(STALLED_SECONDS)
    asked: list[str] = []
    sys.addaudithook(lambda event, args: asked.append(str(args[0])) if event == "urllib.Request" else None)
    home = keras_home(Path(request["output"]).parent / "keras")
    try:
        work()
    except Exception as e:  # whatever Keras and TensorFlow raise: the parent needs the reason, not a traceback
        traceback.print_exc()
        file = asked[-1].rpartition("/")[2] if asked else None
        report = {
            "kind": "download" if file and not (home / "models" / file).exists() else "other",
            "message": f"{type(e).__name__}: {e}",
            "file": file,
            "folder": str(home / "models"),
        }
        Path(request["report"]).write_text(json.dumps(report))
        return 1
    return 0


def main() -> int:
    request = json.load(sys.stdin)

    def work() -> None:
        Path(request["output"]).write_bytes(build(request))

    return reported(request, work)


if __name__ == "__main__":
    sys.exit(main())
