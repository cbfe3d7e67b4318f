"""Builds a keras.applications model and writes it as a flatbuffer. export.py runs it as a process of its own.

Standard input: the request as JSON. The exit code is 0 if ``request["output"]`` was written; otherwise the file
``request["report"]`` says why, as JSON: ``{"kind": "download" | "other", "message": …, "file": …, "folder": …}``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

STALLED_SECONDS = 20
"""A download of weights is given up when nothing has come for so long."""

SEED = 0
"""Of the random weights of ``weights=None``."""


def keras_home(scratch: Path) -> Path:
    """The folder that holds Keras' ``models``; Keras is made to read the weights there even if it is read-only.

    By itself Keras passes over a KERAS_HOME that it can't write to, as in a container image, and downloads again.
    """
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    if (home / "models").is_dir() and not os.access(home, os.W_OK):
        (scratch / "models").mkdir(parents=True, exist_ok=True)
        for file in (home / "models").iterdir():
            (scratch / "models" / file.name).symlink_to(file)
        os.environ["KERAS_HOME"] = str(scratch)
    return home


def build(request: dict[str, Any]) -> bytes:
    """The flatbuffer: a picture, uint8 (1, s, s, 3) RGB, to pooled features, the application's preprocessing inside."""
    import keras
    import tensorflow as tf

    # A keras.json of the user's may say otherwise.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    keras.utils.set_random_seed(SEED)
    size = request["input_size"]
    application = getattr(keras.applications, request["application"])
    backbone = application(
        include_top=False,
        weights=request["weights"],
        pooling=request["pooling"],
        input_shape=(size, size, 3),
        **request["kwargs"],
    )
    # By the module of the function: keras.applications.mobilenet_v3 has the preprocessing without the models.
    preprocess_input = sys.modules[application.__module__].preprocess_input  # type: ignore[attr-defined]
    pictures = keras.Input(batch_shape=(1, size, size, 3), dtype="uint8")
    features = backbone(preprocess_input(keras.ops.cast(pictures, "float32")))
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(pictures, features))
    if request["quantise"] == "dynamic":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def main() -> int:
    request = json.load(sys.stdin)
    socket.setdefaulttimeout(STALLED_SECONDS)
    asked: list[str] = []
    sys.addaudithook(lambda event, args: asked.append(str(args[0])) if event == "urllib.Request" else None)
    home = keras_home(Path(request["output"]).parent / "keras")
    try:
        Path(request["output"]).write_bytes(build(request))
    except Exception as e:  # whatever Keras and TensorFlow raise: the parent needs the reason, not a traceback
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


if __name__ == "__main__":
    sys.exit(main())
