"""A detection model as a LiteRT file: pictures to boxes with names and scores.

Entry point: ``DetectionModel``. The file follows the convention of TensorFlow's object detection API (its operator
``TFLite_Detection_PostProcess``): one picture in; boxes as (top, left, bottom, right), classes, scores and a count out.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import Box
from . import litert
from .base import ExtractorUnavailable

CONVENTION = (
    "DETECTOR takes a model with one input, uint8 or float32 (1, height, width, 3), and four outputs: boxes (1, n, 4), "
    "classes (1, n), scores (1, n) and their count (1), as TensorFlow's TFLite_Detection_PostProcess gives them."
)


class Detection(NamedTuple):
    """A detector's find: a box in fractions of the picture, a score (0 to 1), and a name."""

    box: Box
    score: float
    name: str = ""


class DetectionModel:
    """A file's model, loaded at the first call.

    ``model``: path of the ``.tflite`` file; ``labels``: path of a text file with the name of class n in line n, from 0;
    ``least_score``: detections below it are left out. A call raises ExtractorUnavailable where a file is missing or
    invalid.
    """

    def __init__(self, model: str | os.PathLike[str], labels: str | os.PathLike[str], least_score: float = 0.3) -> None:
        self.model, self.labels, self.least_score = Path(model), Path(labels), least_score
        # By process id: neither an interpreter's threads nor whichever thread holds a lock survive a fork.
        self._locks: dict[int, threading.Lock] = {}
        self._runs: dict[int, _DetectionRun] = {}

    def __call__(self, picture: Image.Image) -> list[Detection]:
        """Return the detections in an RGB picture of any size, best first."""
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):
            run = self._runs[pid] = self._runs.get(pid) or self._load()
            boxes, classes, scores = run(picture)
        found = []
        for i in np.argsort(-scores, kind="stable"):
            top, left, bottom, right = (float(edge) for edge in np.clip(np.nan_to_num(boxes[i]), 0, 1))
            if scores[i] >= self.least_score and left < right and top < bottom:
                number = int(classes[i])
                name = run.names[number] if 0 <= number < len(run.names) else ""
                found.append(Detection((left, top, right, bottom), min(1.0, float(scores[i])), name))
        return found

    def _load(self) -> _DetectionRun:
        try:
            names = [line.strip() for line in self.labels.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as e:
            raise ExtractorUnavailable(f"DETECTOR: the list of labels {self.labels} can't be read: {e}.") from e
        try:
            content = self.model.read_bytes()
        except OSError as e:
            raise ExtractorUnavailable(f"DETECTOR: the model {self.model} can't be read: {e}.") from e
        threads, advice = litert.usual_threads(), f"is it whole? {CONVENTION[:-1]}"
        interpreter = litert.load_interpreter(self.model, content, threads, advice)
        return _DetectionRun(self.model, interpreter, names)


class _DetectionRun:
    """An interpreter with its tensors by meaning. Raises ExtractorUnavailable for another kind of model."""

    def __init__(self, path: Path, interpreter: Any, names: list[str]) -> None:
        self.interpreter, self.names = interpreter, names
        sources, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        shapes = [tuple(int(side) for side in one["shape"]) for one in outputs]
        source = [tuple(int(side) for side in one["shape"]) for one in sources]
        boxes = [i for i, shape in enumerate(shapes) if len(shape) == 3 and shape[2] == 4]
        rows = [i for i, shape in enumerate(shapes) if len(shape) == 2]
        count = [i for i, shape in enumerate(shapes) if len(shape) == 1]
        kinds = [one["dtype"] for one in sources]
        if (
            (len(boxes), len(rows), len(count)) != (1, 2, 1)
            or len({shapes[boxes[0]][1], *(shapes[row][1] for row in rows)}) != 1
            or len(source) != 1
            or (len(source[0]), source[0][-1:]) != (4, (3,))
            or kinds[0] not in (np.uint8, np.float32)
        ):
            raise ExtractorUnavailable(
                f"{path} has inputs {source} and outputs {shapes}, so it is no detection model. {CONVENTION}"
            )
        self.source, self.kind = sources[0]["index"], kinds[0]
        _, self.height, self.width, _ = source[0]
        self.boxes, self.count = outputs[boxes[0]]["index"], outputs[count[0]]["index"]
        self.rows = [outputs[row]["index"] for row in sorted(rows, key=lambda row: str(outputs[row]["name"]))]

    def __call__(self, picture: Image.Image) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return boxes, classes and scores."""
        pixels = np.asarray(picture.resize((self.width, self.height), Image.Resampling.BILINEAR))[None]
        if self.kind == np.float32:
            pixels = ((pixels - 127.5) / 127.5).astype(np.float32)  # as the API's own models take them
        self.interpreter.set_tensor(self.source, pixels)
        self.interpreter.invoke()
        count = int(self.interpreter.get_tensor(self.count)[0])
        boxes = self.interpreter.get_tensor(self.boxes)[0][: max(0, count)]
        first, second = (self.interpreter.get_tensor(row)[0][: len(boxes)] for row in self.rows)
        return (boxes, second, first) if _are_scores(first, second) else (boxes, first, second)


def _are_scores(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Return whether the first are scores and the second classes: exporters name and order them in opposite ways.

    Classes are whole numbers, and few are 0 or 1; scores are from 0 to 1.
    """
    if np.any(first % 1) != np.any(second % 1):
        return bool(np.any(first % 1))
    return bool(np.any(second > 1))
