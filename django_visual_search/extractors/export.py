"""Have a Keras model exported to a flatbuffer by another process, so that this one never imports TensorFlow.

Entry function: ``export``. A *recipe* describes how an exported model is made; its *views* are the parts of a picture
that the network looks at.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .base import ExtractorUnavailable

TIMEOUT_SECONDS = 900
"""For a whole export, download of the weights included; MobileNetV2 takes 10 s, ConvNeXtXLarge about 2 minutes."""

NO_TENSORFLOW = (
    "There is no exported model of {} yet, and TensorFlow, which makes it, is not installed here. Install "
    "django-visual-search[tensorflow] on one machine that shares the database and run `manage.py reindex_embeddings` "
    "(or any worker) there once: the exported model is kept in the database, and this machine will find it."
)

NOT_EXPORTED = (
    "There is no exported model of {} yet. Run `manage.py reindex_embeddings`, or a worker, once where TensorFlow is "
    "installed: the exported model is kept in the database."
)

ALTERNATIVES = (
    'Or give the extractor a file of weights you have, by weights="/path/to/file" and weights_sha256="…", or use '
    "django_visual_search.extractors.classic.ClassicExtractor, which needs no weights."
)


WHOLE_VIEW = ("whole",)
VIEWS = ("whole", "whole-mirrored", "centre", "centre-mirrored")
"""Parts of a picture that a network may look at: the picture's features are the mean over its views.

The usual name is test-time augmentation (A. Krizhevsky et al., "ImageNet classification with deep convolutional neural
networks", 2012: crops and their mirror images). Customers photograph things in the middle, so a view of the middle
leaves out much of the background and shows the thing larger; the whole picture keeps things that fill it.
"""

CENTRE = 0.7
"""Share of a picture's side that the view of its middle has: of 1, 0.875, 0.8 and 0.7 the best on grocery photos."""


@dataclass(frozen=True)
class Recipe:
    """The description of an exported model."""

    application: str
    weights: str | None
    weights_sha256: str | None
    input_size: int
    """Side in pixels of what the network sees: of one view."""
    pooling: str
    quantise: str | None
    kwargs: dict[str, Any] = field(default_factory=dict)
    views: tuple[str, ...] = WHOLE_VIEW
    """Some of VIEWS."""

    @property
    def picture_size(self) -> int:
        """Side in pixels of the pictures that the exported model takes."""
        return picture_size(self.input_size, self.views)


def check_views(views: Iterable[str]) -> tuple[str, ...]:
    """Return the views without repetitions, in the order of VIEWS. Raise ValueError for others and for none."""
    wanted = {views} if isinstance(views, str) else set(views)
    if not wanted or wanted - set(VIEWS):
        raise ValueError(
            f"views must be one or more of {', '.join(VIEWS)}, not {', '.join(map(str, wanted)) or 'none'}."
        )
    return tuple(view for view in VIEWS if view in wanted)


def picture_size(input_size: int, views: Iterable[str]) -> int:
    """Return the side in pixels of a picture whose views are each at least ``input_size`` pixels wide."""
    return round(input_size / CENTRE) if any(view.startswith("centre") for view in views) else input_size


def export_problem(recipe: Recipe) -> str | None:
    """Return why this recipe can't be exported here, or None. Imports nothing and reads no weights."""
    if find_spec("tensorflow") is None or find_spec("keras") is None:
        return NO_TENSORFLOW.format(recipe.application)
    if recipe.weights_sha256 and not Path(str(recipe.weights)).is_file():
        return f"There is no file {recipe.weights}, the weights of {recipe.application}. Put it there. {ALTERNATIVES}"
    return None


def export(recipe: Recipe) -> bytes:
    """Return the flatbuffer of ``recipe``: takes seconds to minutes and a GB or more, in another process (``build``).

    Raises ExtractorUnavailable, saying what to do, if it can't be made here.
    """
    problem = export_problem(recipe)
    if problem:
        raise ExtractorUnavailable(problem)
    if recipe.weights_sha256:
        check_weights(Path(str(recipe.weights)), recipe.weights_sha256)
    with tempfile.TemporaryDirectory(prefix="django-visual-search-") as folder:
        output = Path(folder, "model.tflite")
        cut_off = f"put the file of weights into the folder `models` in KERAS_HOME. {ALTERNATIVES}"
        report = run_build("build", asdict(recipe), output, recipe.application, cut_off)
        if report is not None:
            raise ExtractorUnavailable(explanation(recipe, report))
        return output.read_bytes()


def run_build(
    module: str, request: dict[str, Any], output: Path, network: str, if_cut_off: str
) -> dict[str, Any] | None:
    """Run a module of this package that writes ``output`` with TensorFlow. Return its report of a failure, or None.

    ``network``: its name for people; ``if_cut_off``: what to do where its weights can't be downloaded. Raises
    ExtractorUnavailable where the process ends without a report.
    """
    report = output.parent / "report.json"
    try:
        result = subprocess.run(
            # -P: the current folder must not shadow Keras.
            [interpreter(), "-P", "-m", f"{__package__}.{module}"],
            input=json.dumps({**request, "output": str(output), "report": str(report)}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            env=environment(),
            check=False,
        )
    except OSError as e:
        raise ExtractorUnavailable(f"The process that exports {network} could not be started: {e}") from e
    except subprocess.TimeoutExpired as e:
        raise ExtractorUnavailable(
            f"The export of {network} was stopped after {TIMEOUT_SECONDS} s. If the network here is slow or cut off, "
            f"{if_cut_off}"
        ) from e
    if result.returncode == 0:
        return None
    if report.exists():
        failure: dict[str, Any] = json.loads(report.read_text())
        return failure
    raise ExtractorUnavailable(
        f"The process that exports {network} ended with code {result.returncode}"
        f"{' (killed: too little memory?)' if result.returncode == -9 else ''}:\n{result.stderr[-2000:]}"
    )


def explanation(recipe: Recipe, report: dict[str, Any]) -> str:
    """Return advice to the user for a ``report`` of ``build``."""
    if report["kind"] == "download":
        return (
            f"The ImageNet weights of {recipe.application} are not here and could not be downloaded. Put the file "
            f"{report['file']} into {report['folder']} (the folder `models` in KERAS_HOME). {ALTERNATIVES} "
            f"({report['message']})"
        )
    return (
        f"{recipe.application} could not be built with input_size={recipe.input_size}, {recipe.kwargs} and "
        f"weights={recipe.weights!r}: {report['message']}"
    )


def check_weights(path: Path, expected: str) -> None:
    """Raise ExtractorUnavailable if a file of weights has another sha256."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise ExtractorUnavailable(
            f"The weights in {path} have the sha256 {actual}, not {expected} as weights_sha256 says: it is another "
            "file. Put the right one there, or set weights_sha256 to the new value and re-embed."
        )


def interpreter() -> str:
    """Return the Python that runs processes with TensorFlow."""
    # Inside uWSGI and the like sys.executable is the server, not the interpreter.
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.exec_prefix, "bin", "python3"))


def environment(gpu: bool = False) -> dict[str, str]:
    """Return the variables of such a process. Without ``gpu`` it sees no GPU: an export is too short for one to pay."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **({"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if gpu else {"CUDA_VISIBLE_DEVICES": "-1"}),
    }


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold a lock of that name among this user's processes on this machine, so that one worker exports the model."""
    path = Path(tempfile.gettempdir(), f"django-visual-search-{os.getuid()}-{name}.lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except OSError:  # another user made it; two exports of one model do no harm
        yield
        return
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
