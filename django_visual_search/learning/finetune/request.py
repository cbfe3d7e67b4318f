"""Check the inputs of a fine-tuning, identify them by a digest, and write them for the process that trains.

Entry function: ``Request.of``; ``Request.written`` gives the process its ``Files``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors.export import Recipe, picture_size
from ..folds import answerable
from ..labels import Labels, Values, grouping
from ..splits import Indices, Split
from .options import FinetuneOptions

Pictures = NDArray[np.uint8] | str | os.PathLike[str]

MOST_CLASSES = 20_000
"""Classes of a label: each has a proxy of as many numbers as features, kept three times and moved at every step."""


def open_pictures(pictures: Pictures) -> tuple[NDArray[np.uint8], Path | None]:
    """Return the pictures, and their file if they were given as one. Raises ValueError if it can't be read."""
    if isinstance(pictures, np.ndarray):
        return pictures, None
    path = Path(pictures).absolute()
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), path
    except (OSError, ValueError) as e:
        raise ValueError(f"{path} is not an array of pictures in npy format ({e}).") from e


def rows_of(split: Split | None, count: int) -> tuple[Indices, Indices]:
    """Return rows to learn from and held-out rows, ascending. Raises ValueError for a split that doesn't fit."""
    if split is None:
        return np.arange(count), np.empty(0, np.intp)
    train, held = np.unique(split.train), np.unique(split.held_out)
    both = np.concatenate([train, held])
    if not len(train) or not len(held):
        raise ValueError("A split needs pictures to learn from and held-out ones.")
    if len(np.intersect1d(train, held)):
        raise ValueError("Some pictures are both learned from and held out.")
    if both.min() < 0 or both.max() >= count:
        raise ValueError(f"The split names pictures beyond the {count} given ones.")
    return train, held


def below_zero(values: Values) -> NDArray[np.bool_]:
    """Return which labels are below 0, which means none, as in many data sets."""
    return np.array([isinstance(value, int | np.integer) and value < 0 for value in values], bool)


def classes_of(name: str, values: Values, count: int, train: Indices, most: int) -> tuple[NDArray[np.int32], int, int]:
    """Return the class of each picture to learn from, the number of classes, and how many classes were left out.

    Classes are numbered from 0, -1 for all other pictures; beyond ``most``, those with the fewest pictures are left
    out.
    """
    given = grouping(name, values, count).classes.copy()
    given[below_zero(values)] = -1
    own = np.full(count, -1, np.int32)
    labelled = train[given[train] >= 0]
    numbers, places, pictures = np.unique(given[labelled], return_inverse=True, return_counts=True)
    rank = np.empty(len(numbers), np.int32)
    rank[np.argsort(-pictures, kind="stable")] = np.arange(len(numbers))
    own[labelled] = np.where(rank < most, rank, -1)[places.reshape(-1)]
    return own, min(len(numbers), most), max(0, len(numbers) - most)


CHECKPOINT_VERSION = 2
"""Of a checkpoint's content and origin; with a new one, trainings start again."""

HASHED_AT_ONCE = 256
"""Pictures hashed at a time."""


@dataclass(frozen=True)
class Files:
    """Paths within the folder of one request."""

    request: Path
    output: Path
    result: Path


@dataclass(frozen=True)
class Request:
    """The inputs of one training, checked by ``of``."""

    recipe: Recipe
    """With the exported size."""
    options: FinetuneOptions
    """All decided but ``precision``."""
    pictures: NDArray[np.uint8]
    path: Path | None
    """The file of the pictures, if they were given as one."""
    classes: NDArray[np.int32]
    """``(n, labels)``: the class of each picture by the learnable labels, -1 for none."""
    counts: tuple[int, ...]
    """Classes of each of these labels."""
    weights: tuple[float, ...]
    arrays: dict[str, NDArray[Any]]
    task: str
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        pictures: Pictures,
        labels: Labels,
        split: Split | None,
        options: FinetuneOptions,
        scenes: Indices | None,
        most_classes: int = MOST_CLASSES,
    ) -> Request:
        """Check the inputs of ``finetune``. ``most_classes``: of a label. Raises ValueError, saying what is wrong."""
        size = options.input_size or recipe.input_size
        training_size = options.training_size or max(32, round(size * 5 / 7 / 32) * 32)
        array, path = open_pictures(pictures)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] != array.shape[2] or array.shape[3] != 3:
            raise ValueError(f"Pictures are uint8 (n, s, s, 3), not {array.dtype} {array.shape}.")
        if array.shape[1] != (side := picture_size(size, recipe.views)):
            raise ValueError(f"Pictures of {array.shape[1]}² pixels are given for a model that takes {side}².")
        count = len(array)
        train, held = rows_of(split, count)
        if scenes is not None and len(scenes) != count:
            raise ValueError(f"There are {len(scenes)} scenes for {count} pictures.")
        if unknown := sorted(set(options.weights) - set(labels)):
            raise ValueError(f"There is no label {', '.join(unknown)} to weigh.")
        notes: list[str] = []
        classes, counts, weights = [], [], []
        for name, values in labels.items():
            own, number, dropped = classes_of(name, values, count, train, most_classes)
            if dropped:
                notes.append(f"{name}: {dropped} values with the fewest pictures are not learned (at most {number})")
            weight = float(options.weights.get(name, 1.0))
            if not 0 <= weight < np.inf:
                raise ValueError(f"The weight of label {name!r} must be 0 or more, not {weight}.")
            if number < 2 or not weight:
                if weight:
                    notes.append(f"{name}: fewer than two values among the pictures to learn from, so left out")
                continue
            classes.append(own)
            counts.append(number)
            weights.append(weight)
        if not classes:
            raise ValueError("No label has two values among the pictures to learn from: nothing can be told apart.")
        labelled = np.stack(classes, axis=1)
        taught = train[(labelled[train] >= 0).any(axis=1)]
        if len(taught) < len(train):
            notes.append(f"{len(train) - len(taught)} pictures have no label and are not learned from")
        target = grouping("target", next(iter(labels.values())), count).classes.copy()
        target[below_zero(next(iter(labels.values())))] = -1
        found = [None if value < 0 else value for value in target.tolist()]
        if split is not None and not len(answerable(found, split, scenes)):
            raise ValueError(
                "No held-out picture has another of its first label's value to be found, so nothing can be measured: "
                "hold out others, or give split=None to learn from all pictures without measuring."
            )
        return cls(
            recipe=replace(recipe, input_size=size),
            options=replace(options, input_size=size, training_size=training_size),
            pictures=array,
            path=path,
            classes=labelled,
            counts=tuple(counts),
            weights=tuple(weights),
            arrays={
                "classes": labelled,
                "target": target,
                "train": taught,
                "held_out": held,
                "scenes": np.arange(count) if scenes is None else np.asarray(scenes, np.intp),
            },
            task="" if split is None else split.task,
            notes=tuple(notes),
        )

    @property
    def digest(self) -> str:
        """Hex sha256 of everything that the trained weights depend on."""
        options = {**asdict(self.options), "seconds": None, "weights": self.weights}
        recipe = {**asdict(self.recipe), "quantise": None}
        if self.recipe.weights_sha256:
            recipe["weights"] = None  # by content: moving the file changes nothing
        facts = [CHECKPOINT_VERSION, recipe, options, self.task, self.counts, self.pictures.shape]
        found = hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode())
        for name, array in sorted(self.arrays.items()):
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        for start in range(0, len(self.pictures), HASHED_AT_ONCE):
            found.update(np.ascontiguousarray(self.pictures[start : start + HASHED_AT_ONCE]).data)
        return found.hexdigest()

    @contextlib.contextmanager
    def written(self, parent: Path) -> Iterator[Files]:
        """Write all inputs of the process into a folder of its own in ``parent``; the checkpoint stays there after."""
        folder = (parent / f"finetune-{self.digest[:16]}").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        files = Files(folder / "request.json", folder / "model.tflite", folder / "result.npz")
        pictures = self.path or folder / "pictures.npy"
        report = folder / "report.json"
        for old in (files.output, files.result, report):
            old.unlink(missing_ok=True)
        np.savez(folder / "arrays.npz", **self.arrays)  # type: ignore[arg-type]
        if self.path is None:
            np.save(pictures, self.pictures)
        request = {
            "recipe": asdict(self.recipe),
            "task": self.task,
            "classes": self.counts,
            "parent": os.getpid(),
            "options": {**asdict(self.options), "weights": self.weights},
            "pictures": str(pictures),
            "arrays": str(folder / "arrays.npz"),
            "output": str(files.output),
            "checkpoint": str(folder / "checkpoint.npz"),
            "result": str(files.result),
            "report": str(report),
        }
        files.request.write_text(json.dumps(request))
        try:
            yield files
        finally:
            if self.path is None:
                pictures.unlink(missing_ok=True)
