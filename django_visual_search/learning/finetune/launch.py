"""Fine-tune a whole backbone on a shop's pictures, in another process: this one never imports TensorFlow.

Entry function: ``finetune``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extractors import export, litert
from ...extractors.base import ExtractorUnavailable
from ..labels import Labels
from ..splits import Indices, Split
from .checkpoint import load_checkpoint
from .options import FinetuneOptions, Tuned
from .request import Pictures, Request

LEAST_COSINE = 1 - 1e-4
"""Between features by Keras and by the exported model, as for every export; int8 weights may differ more."""

NEEDS_TENSORFLOW = (
    "Fine-tuning {} needs TensorFlow, which is not installed here: pip install 'django-visual-search[tensorflow]' on "
    "this machine, or run this on one that has it and shares the database. Learning a head needs no TensorFlow."
)

TAIL = 2000
"""Characters shown of a failed process's error output."""


def finetune(
    recipe: export.Recipe,
    pictures: Pictures,
    labels: Labels,
    split: Split | None,
    *,
    folder: str | os.PathLike[str],
    options: FinetuneOptions | None = None,
    scenes: Indices | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Tuned:
    """Train the backbone of ``recipe`` further, so that pictures with a label in common come together.

    ``pictures``: uint8 ``(n, s, s, 3)`` RGB prepared as for the extractor, ``s`` the exported model's size; or the
    path of such an array in a ``.npy`` file, of which only a batch at a time is in memory. ``labels``: by name, a label
    for each picture; None, "", NaN and numbers below 0 mean that it has none. The first label says which pictures are
    right in measurements. Products with a single picture are learned from by altered views of it. ``split``: pictures
    to learn from and to measure with; None to learn from all, without stopping early. ``scenes``: see
    ``near_duplicates``.

    Checkpoints are kept in ``folder``, which the caller deletes: a call with the same arguments and folder resumes
    after the last finished epoch and ends with the same weights, to rounding, as an uninterrupted one
    (``options.seconds`` may change). The process that trains ends with this one, even after a SIGKILL. ``progress``
    receives a line an epoch and every half minute.

    Raises ValueError for inputs that don't fit, and ExtractorUnavailable, saying what to do, where the backbone can't
    be built here or training failed.
    """
    options = options or FinetuneOptions()
    request = Request.of(recipe, pictures, labels, split, options, scenes)
    problem = export.export_problem(recipe)
    if problem:
        no_tensorflow = problem == export.NO_TENSORFLOW.format(recipe.application)
        raise ExtractorUnavailable(NEEDS_TENSORFLOW.format(recipe.application) if no_tensorflow else problem)
    if recipe.weights_sha256:
        export.check_weights(Path(str(recipe.weights)), recipe.weights_sha256)
    with request.written(Path(folder)) as files:
        _run(request.recipe, files.request, progress)
        facts, arrays = _result(files.result)
        cosine = _compared(files.output, request, arrays, quantised=recipe.quantise is not None)
        best = facts["best"]
        return Tuned(
            flatbuffer=files.output.read_bytes(),
            width=len(arrays["mean"][0]),
            input_size=request.recipe.picture_size,
            mean=arrays["mean"][0],
            target=next(iter(labels)),
            task=split.task if split is not None else None,
            before=facts["before"],
            after=best["metrics"],
            history=tuple(facts["history"]),
            best_epoch=best["epoch"],
            stopped=facts["stopped"],
            seconds=facts["seconds"],
            export_cosine=cosine,
            notes=request.notes,
        )


def _run(recipe: export.Recipe, request: Path, progress: Callable[[str], None]) -> None:
    """Run the process, and end it if this one is interrupted."""
    log = request.with_name("log.txt")
    with log.open("wb") as errors:
        try:
            process = subprocess.Popen(
                # -P: the current folder must not shadow Keras.
                [export.interpreter(), "-P", "-m", __package__, str(request)],
                # Held open and never written to: its end tells the process that this one has ended, even by SIGKILL.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=export.environment(gpu=True),
            )
        except OSError as e:
            raise ExtractorUnavailable(f"The process that fine-tunes {recipe.application} could not start: {e}") from e
        try:
            assert process.stdout is not None
            for line in process.stdout:
                message = _message(line)
                if message is not None:
                    progress(message)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
    if code == 0:
        return
    report = request.with_name("report.json")
    facts = json.loads(report.read_text()) if report.exists() else {"kind": "other"}
    if facts["kind"] == "download":
        raise ExtractorUnavailable(export.explanation(recipe, facts))
    reason = facts.get("message", "killed: too little memory?" if code == -9 else f"it ended with code {code}")
    tail = log.read_text(errors="replace")[-TAIL:]
    raise ExtractorUnavailable(f"Fine-tuning {recipe.application} failed: {reason}\nThe end of {log}:\n{tail}")


def _message(line: bytes) -> str | None:
    """Return the message of a line by the process; None for lines that libraries print."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, str) else None


def _result(path: Path) -> tuple[dict[str, Any], dict[str, list[NDArray[Any]]]]:
    found = load_checkpoint(path)
    assert found is not None  # written before the process ends with code 0
    return found


def _compared(model: Path, request: Request, arrays: dict[str, list[NDArray[Any]]], quantised: bool) -> float:
    """Return the least cosine between Keras' features of a few pictures and the exported model's.

    Raises ExtractorUnavailable where they differ.
    """
    rows, expected = arrays["rows"][0], arrays["features"][0]
    found = litert.Flatbuffer(model, threads=1)(np.ascontiguousarray(request.pictures[rows]))
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float((np.einsum("nf,nf->n", found, expected) / np.where(norms == 0, 1, norms)).min())
    if cosine < LEAST_COSINE and not quantised:
        raise ExtractorUnavailable(
            f"The exported model's features differ from Keras' (cosine {cosine:.6f}): it is not used. The versions of "
            "TensorFlow and LiteRT here may not go together."
        )
    return cosine
