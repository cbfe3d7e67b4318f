"""Plain Keras beside a fine-tuning, in a process of its own, for test_learning_finetune.py: ``REQUEST OUTPUT``.

Writes to OUTPUT: features, by the documented way, of the untrained weights, and of weights between those and the best
ones in the checkpoint; how far fixed and trained weights moved in a few steps; and altered views.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np


def main() -> None:
    from django_visual_search.extractors import build

    build.skip_idle_imports()
    import keras

    from django_visual_search.extractors.lite import EfficientNetLiteExtractor
    from django_visual_search.learning.finetune import checkpoint
    from django_visual_search.learning.finetune.training import Strength, Training, augment_batch, freeze

    request = json.loads(Path(sys.argv[1]).read_text())
    pictures = np.load(sys.argv[3])
    recipe, options = request["recipe"], request["options"]
    size = recipe["input_size"]
    _, arrays = checkpoint.load_checkpoint(Path(request["checkpoint"]))
    model = keras.applications.MobileNetV2(
        include_top=False, weights=recipe["weights"], pooling="avg", input_shape=(size, size, 3), **recipe["kwargs"]
    )
    prepared = keras.applications.mobilenet_v2.preprocess_input(pictures.astype(np.float32))
    untrained = model(prepared, training=False).numpy()
    for variable, value in zip(model.trainable_variables, arrays["best"], strict=True):
        variable.assign((1 - options["alpha"]) * variable.numpy() + options["alpha"] * value)
    features = model(prepared, training=False).numpy()

    training = Training(recipe, {**options, "average": 0.0})
    classes = np.arange(len(pictures), dtype=np.int32)[:, None] % 2
    proxies = np.random.default_rng(0).normal(size=(2, features.shape[1])).astype(np.float32)
    training.begin(features.mean(axis=0), [proxies])
    fixed, learned = training.backbone.non_trainable_variables, training.backbone.trainable_variables
    before = [[one.numpy() for one in part] for part in (fixed, learned)]
    training.options["weights"] = [1.0]
    for i in range(3):
        training.step(pictures, classes, 1e-3, (0, i))
    moved = [
        np.array([np.abs(one.numpy() - old).max() for one, old in zip(part, olds, strict=True)])
        for part, olds in zip((fixed, learned), before, strict=True)
    ]
    lite, _ = build.backbone(asdict(EfficientNetLiteExtractor().recipe), 64)
    every = len(lite.trainable_variables)
    freeze(lite, 0)
    assert len(lite.trainable_variables) == every
    freeze(lite, 8)
    first = next(layer for layer in lite.layers if layer.trainable and layer.weights)
    kept = sum(variable.value.numpy().size for variable in lite.trainable_variables)
    still = {"zoom": (1.0, 1.0), "aspect": 0.0, "shift": 0.0, "rotation": 0.0, "light": 0.0, "tint": 0.0}
    unchanged = Strength(**still, flip=False, erased=0.0)
    np.savez(
        sys.argv[2],
        untrained=untrained,
        features=features,
        fixed=moved[0],
        learned=moved[1],
        frozen=[every, len(lite.trainable_variables), kept / lite.count_params(), max(first.output.shape[1:3])],
        unchanged=augment_batch(pictures, size, unchanged, (0, 1)),
        one=augment_batch(pictures, size, Strength(), (0, 1)),
        same=augment_batch(pictures, size, Strength(), (0, 1)),
        other=augment_batch(pictures, size, Strength(), (0, 2)),
        smaller=augment_batch(pictures, 48, unchanged, (0, 1)),
    )


if __name__ == "__main__":
    main()
