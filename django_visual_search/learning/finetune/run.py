"""Run one training of a backbone: its epochs, its messages and measurements meanwhile, and its export.

Entry class: ``FinetuneRun``. Held-out pictures (``HeldOut``) are measured by centred features and stop the training
early. The learning rate warms up and then falls by half a cosine to 0 at the last epoch that the time allows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors.base import l2_normalise
from ..labels import Values
from ..selection import measure
from ..splits import Indices, Split
from .checkpoint import load_checkpoint, save_checkpoint

SAYING_SECONDS = 30
"""Seconds between two messages within an epoch."""

COMPARED_PICTURES = 16
"""Pictures whose features are handed over, to compare the exported model with."""


class FinetuneRun:
    """One training, from the start or from its checkpoint."""

    def __init__(self, request: dict[str, Any]) -> None:
        from .training import Training

        self.begun = time.monotonic()
        self.request, self.options = request, request["options"]
        self.pictures = np.load(request["pictures"], mmap_mode="r")
        with np.load(request["arrays"]) as arrays:
            self.classes: NDArray[np.int32] = arrays["classes"]
            self.train: NDArray[np.intp] = arrays["train"]
            self.held = HeldOut.of(arrays, request["task"], self.options["measured"], self.options["seed"])
        self.path = Path(request["checkpoint"])
        self.training = Training(request["recipe"], self.options)
        self.facts: dict[str, Any] = {
            "epoch": 0,
            "progress": 0.0,
            "seconds": 0.0,
            "history": [],
            "stopped": None,
            "before": None,
            "best": {"epoch": 0, "mAP": None, "metrics": None},
            "worse": 0,
        }
        self.best: list[NDArray[Any]] = []
        self.spent_before = 0.0

    @property
    def spent(self) -> float:
        return self.spent_before + time.monotonic() - self.begun

    def start_or_resume(self) -> None:
        stored = load_checkpoint(self.path)
        if stored is None:
            return self._start()
        self.facts, arrays = stored
        self.best = arrays.pop("best")
        self.training.restore(arrays)
        self.spent_before = self.facts["seconds"]
        say(f"going on after epoch {self.facts['epoch']}, where an earlier run was stopped")

    def _start(self) -> None:
        from .training import imprinted

        say(f"measuring the backbone as it is, on {len(self.held.rows)} pictures")
        training = self.training
        training.use()
        rng = np.random.default_rng(self.options["seed"])
        first = rng.permutation(self.train)[: self.options["measured"]]
        rows = np.union1d(first, self.held.rows)
        computed = training.features(self.pictures, rows)
        features = computed[np.searchsorted(rows, first)]
        centre = features.mean(axis=0)
        proxies = []
        for i, count in enumerate(self.request["classes"]):
            own = imprinted(features - centre, self.classes[first, i], count)
            unseen = ~own.any(axis=1)
            own[unseen] = rng.normal(size=(int(unseen.sum()), own.shape[1])) / np.sqrt(own.shape[1])
            proxies.append(own)
        training.begin(centre, proxies)
        self._measured(0, computed[np.searchsorted(rows, self.held.rows)])
        self.facts["before"] = self.facts["best"]["metrics"]
        self._say_time()
        self._save()

    def _say_time(self) -> None:
        """Time a step, which is then undone, and say how long all may take."""
        batch = min(self.options["batch_size"], len(self.train))
        rows = np.sort(self.train[:batch])
        each = self.training.seconds_of_step(self.pictures[rows], self.classes[rows])
        steps = len(self.train) // batch * self.options["epochs"]
        minutes = each * steps / 60
        most = "" if self.options["seconds"] is None else f", {self.options['seconds'] / 60:.0f} at most as asked"
        say(
            f"{self.options['epochs']} epochs of {len(self.train)} pictures take about {max(1.0, minutes):.0f} minutes "
            f"here{most}, as busy as this machine is now"
        )

    def epochs(self) -> None:
        """Train until the last epoch, the end of the time or of the patience."""
        facts, options = self.facts, self.options
        planned, began, already = options["epochs"], time.monotonic(), facts["epoch"]
        while facts["stopped"] is None:
            made = facts["epoch"] - already
            each = (time.monotonic() - began) / made if made else self._each_before()
            planned = epochs_in_time(options["epochs"], facts["epoch"], self.spent, each, options["seconds"])
            if facts["epoch"] >= planned:
                facts["stopped"] = "epochs" if planned == options["epochs"] else "seconds"
                self._save()
                break
            self._epoch(planned, each)
            if self.held and facts["worse"] >= options["patience"]:
                facts["stopped"] = "patience"
            self._save()

    def _each_before(self) -> float:
        """Return the mean seconds of an epoch in earlier processes; 0 without any."""
        return float(np.mean([one["seconds"] for one in self.facts["history"]])) if self.facts["history"] else 0.0

    def _epoch(self, planned: int, each: float) -> None:
        facts, options, began = self.facts, self.options, time.monotonic()
        number = facts["epoch"] + 1
        # The order and the views of an epoch follow from its number, so that a resumed run repeats them.
        rows = np.random.default_rng([options["seed"], number]).permutation(self.train)
        batch = min(options["batch_size"], len(rows))
        steps = len(rows) // batch
        left, said, losses = steps * (planned - facts["epoch"]), began, []
        for i in range(steps):
            own = np.sort(rows[i * batch : (i + 1) * batch])
            rate = options["learning_rate"] * rate_factor(facts["progress"])
            seed = (options["seed"], number * 1_000_003 + i)
            losses.append(self.training.step(self.pictures[own], self.classes[own], rate, seed))
            facts["progress"] = next_progress(facts["progress"], left - i)
            if i == 0:
                first = time.monotonic()  # the first step is slow: it compiles
            elif time.monotonic() - said > SAYING_SECONDS:
                said = time.monotonic()
                whole = each or (said - first) / i * steps
                say(f"epoch {number} of {planned}, {i / steps:.0%}; {_left(left - i, steps, whole)}")
        entry: dict[str, Any] = {"epoch": number, "loss": float(np.mean([float(one) for one in losses]))}
        facts["epoch"] = number
        if self.held and (number % options["measure_every"] == 0 or number >= planned):
            self.training.use()
            entry |= self._measured(number, self.training.features(self.pictures, self.held.rows))
        entry["seconds"] = time.monotonic() - began
        facts["history"].append(entry)
        figures = "".join(f", {name} {entry[name]:.3f}" for name in ("R@1", "mAP") if name in entry)
        rest = _left((planned - number) * steps, steps, entry["seconds"])
        say(f"epoch {number} of {planned}: loss {entry['loss']:.3f}{figures}; {rest}")

    def _measured(self, number: int, features: NDArray[np.float32]) -> dict[str, float]:
        """Measure the weights in use by their features, and keep them if they are the best so far."""
        facts = self.facts
        metrics = self.held.metrics(features) if self.held else {}
        value = metrics.get("mAP")
        if not self.best or value is None or value > facts["best"]["mAP"]:
            facts["best"] = {"epoch": number, "mAP": value, "metrics": metrics or None}
            self.best, facts["worse"] = self.training.state()["average"], 0
        else:
            facts["worse"] += 1
        return {name: metrics[name] for name in ("R@1", "mAP") if name in metrics}

    def _save(self) -> None:
        self.facts["seconds"] = self.spent
        save_checkpoint(self.path, self.facts, {**self.training.state(), "best": self.best})

    def export(self) -> None:
        """Write the flatbuffer of the best epoch and the result: facts, mean features, and some to compare with."""
        say("exporting")
        request, training = self.request, self.training
        if not self.held:
            self.best = training.state()["average"]
            self.facts["best"]["epoch"] = self.facts["epoch"]
        training.use(self.best)
        rows = np.sort(np.random.default_rng(self.options["seed"]).permutation(self.train)[: self.options["measured"]])
        features = training.features(self.pictures, rows)
        Path(request["output"]).write_bytes(training.flatbuffer(request["recipe"]["quantise"]))
        self.facts["seconds"] = self.spent
        some = {
            "rows": [rows[:COMPARED_PICTURES]],
            "features": [features[:COMPARED_PICTURES]],
            "mean": [features.mean(axis=0)],
        }
        save_checkpoint(Path(request["result"]), self.facts, some)


def _left(steps: int, an_epoch: int, seconds: float) -> str:
    minutes = steps / an_epoch * seconds / 60
    return "about a minute left" if minutes < 1.5 else f"about {minutes:.0f} minutes left"


def say(message: str) -> None:
    print(json.dumps(message), flush=True)


@dataclass(frozen=True)
class HeldOut:
    """Held-out pictures and their gallery; false without any."""

    rows: Indices
    """The pictures whose features are needed, ascending."""
    split: Split
    """In places of ``rows``."""
    target: Values
    scenes: Indices

    def __bool__(self) -> bool:
        return len(self.split.held_out) > 0

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], task: str, most: int, seed: int) -> HeldOut:
        """Draw about ``most`` pictures of ``arrays`` (target, scenes, train, held_out).

        Values of the target label are drawn, each with all its pictures.
        """
        target, train, held = arrays["target"], arrays["train"], arrays["held_out"]
        values = np.unique(target[held][target[held] >= 0])
        chosen: list[int] = []
        count = 0
        for value in np.random.default_rng(seed).permutation(values).tolist():
            count += int((target[train] == value).sum() + (target[held] == value).sum())
            chosen.append(value)
            if count >= most:
                break
        held = held[np.isin(target[held], chosen)]
        if count >= most and task == "unseen pictures":
            train = train[np.isin(target[train], chosen)]
        elif len(train) > most:
            train = np.random.default_rng(seed).permutation(train)[:most]
        rows = np.union1d(train, held) if len(held) else np.empty(0, np.intp)
        split = Split(task, np.flatnonzero(np.isin(rows, train)), np.flatnonzero(np.isin(rows, held)), None)
        own = [None if value < 0 else value for value in target[rows].tolist()]
        return cls(rows, split, own, arrays["scenes"][rows])

    def metrics(self, features: NDArray[np.float32]) -> dict[str, float]:
        """Measure by the cosine of features, ``(rows, f)``, centred by the mean of the pictures learned from."""
        mean = features[self.split.train].mean(axis=0)
        found = measure(features, self.target, self.split, lambda x: l2_normalise(x - mean), scenes=self.scenes)
        return found.mean().as_dict()


WARM_UP = 0.08
"""Share of all steps in which the learning rate rises to its full height."""

RESERVE_SECONDS = 20.0
"""Seconds of the allowed time kept for the export."""


def rate_factor(progress: float) -> float:
    """Return the share of the full learning rate at ``progress``, 0 to 1, of the training.

    Source: I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def next_progress(progress: float, steps_left: int) -> float:
    """Return ``progress`` after one of ``steps_left`` steps.

    It counts the remaining steps, not the planned ones: the rate falls smoothly to 0 even when the time allows fewer or
    more.
    """
    return progress + (1 - progress) / max(1, steps_left)


def epochs_in_time(most: int, done: int, spent: float, epoch: float, allowed: float | None) -> int:
    """Return how many of the ``most`` epochs the time allows, at least 1 and the ``done`` ones.

    ``spent``, ``epoch``, ``allowed``: seconds until now, of an epoch, and in all; None for no limit.
    """
    if allowed is None or epoch <= 0:
        return most
    more = int((allowed - RESERVE_SECONDS - spent) / epoch)
    return min(most, max(done + more, done, 1))
