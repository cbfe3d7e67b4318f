"""The article's program: Keras VGG16 ``predict`` one photo at a time, cosine in a Python loop..

Run in a process of its own, without Django, so that TensorFlow is in no process of ours.
"""

from __future__ import annotations

import sys
import time

import keras
import numpy as np
from keras.applications.vgg16 import VGG16, preprocess_input

model = VGG16(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))


def embed(path: str):
    picture = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))
    return model.predict(preprocess_input(picture[None]), verbose=0)[0]


def query(path: str, features) -> list[int]:
    asked = embed(path)
    scores = [float(np.dot(asked, row) / (np.linalg.norm(asked) * np.linalg.norm(row))) for row in features]
    return sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:12]


def serve(catalogue: int) -> None:
    """Answer requests, ``embed PATH`` or ``query PATH``, until the input ends."""
    features = list(np.random.default_rng(0).random((catalogue, 512), dtype=np.float32))
    for line in sys.stdin:
        what, _, path = line.strip().partition(" ")
        start = time.perf_counter()
        if what == "embed":
            embed(path)
        else:
            query(path, features)
        print(f"seconds {time.perf_counter() - start}", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
