"""Features by plain Keras, the documented way, in one process for all that ``test_extractors_keras.py`` compares.

The process also exports models, by the function that an export's own process calls: each would import TensorFlow again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    from django_visual_search.extractors import build

    build.skip_idle_imports()
    asked = json.load(sys.stdin)
    for request in asked["features"]:
        answer(request)
    for path, recipe in asked["exports"].items():
        Path(path).write_bytes(build.build(recipe))


def answer(request: dict) -> None:
    import keras

    keras.utils.set_random_seed(7)
    application = getattr(keras.applications, request["application"])
    model = application(
        include_top=False,
        weights=request["weights"],
        pooling=request["pooling"],
        input_shape=(request["input_size"], request["input_size"], 3),
        **request["kwargs"],
    )
    preprocess_input = getattr(keras.applications, request["module"]).preprocess_input
    photos = preprocess_input(np.load(request["photos"]).astype(np.float32))
    if request["save_weights"]:
        # With fresh batch norms the features of all photos point the same way, which would hide mistakes.
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        model(photos, training=True)
        model.save_weights(request["save_weights"])
    np.save(request["features"], model(photos, training=False))


if __name__ == "__main__":
    main()
