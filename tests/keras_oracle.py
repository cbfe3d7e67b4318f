"""Plain Keras in a process of its own, as tests/test_extractors_keras.py compares with: features the documented way."""

from __future__ import annotations

import inspect
import json
import sys

import numpy as np


def main() -> None:
    import keras

    request = json.load(sys.stdin)
    keras.utils.set_random_seed(7)
    application = getattr(keras.applications, request["application"])
    model = application(
        include_top=False,
        weights=request["weights"],
        pooling=request["pooling"],
        input_shape=(request["input_size"], request["input_size"], 3),
        **request["kwargs"],
    )
    if request["save_weights"]:
        # Fresh batch norms and biases would hide mistakes: the features of most photos would point the same way.
        rng = np.random.default_rng(7)
        for weight in model.weights:
            if "moving_mean" in weight.path or "bias" in weight.path or "beta" in weight.path:
                weight.assign(rng.normal(0, 0.1, weight.shape))
        model.save_weights(request["save_weights"])
    preprocess_input = inspect.getmodule(application).preprocess_input
    photos = np.load(request["photos"]).astype(np.float32)
    np.save(request["features"], model.predict(preprocess_input(photos), verbose=0))


if __name__ == "__main__":
    main()
