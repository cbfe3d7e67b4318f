"""Fixtures and helpers of all tests: markers, profiles, a media folder, pictures, embedding, missing services."""

from __future__ import annotations

import functools
import gc
import io
import os
import shutil
import signal
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from django.core.files.base import ContentFile
from PIL import Image

from django_visual_search import indexing
from django_visual_search.evaluation import pictures
from django_visual_search.feedback import searches
from django_visual_search.fields.registry import get_field
from django_visual_search.search import nearest, planning
from django_visual_search.spaces import heads, live, text

from . import parallel
from .startup import STARTUP

TESTS = Path(__file__).parent

# Processes that tests start, in their environment or with this process's path, begin with its sitecustomize.
given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
os.environ["PYTHONPATH"] = os.pathsep.join([STARTUP, *(path for path in given if path not in ("", STARTUP))])
if STARTUP not in sys.path:
    sys.path.append(STARTUP)

# --hypothesis-profile chooses another.
hypothesis.settings.register_profile("default", max_examples=20)
hypothesis.settings.register_profile("ci", max_examples=40)
hypothesis.settings.load_profile("default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell ignores it, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return parallel.scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Let the garbage collector leave out what was imported and collected, which stays till the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config, items):
    parallel.refuse_alike(items)
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in ("unit", "integration", "acceptance"):
            item.add_marker(folder)
        if folder == "acceptance":
            item.add_marker("slow")
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: parallel.place_of(item.nodeid))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Return a folder that all processes of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    """Give each test its own media folder."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    yield tmp_path / "media"
    shutil.rmtree(settings.MEDIA_ROOT, ignore_errors=True)


@pytest.fixture(autouse=True)
def empty_caches():
    """Keep what one test read from the database from the next."""
    live.forget_live_spaces()
    heads.forget_heads()
    text.forget_text_heads()
    nearest.forget_counts()
    planning.forget_facts()
    searches._waiting_rows().clear()  # they are written at the end of a request, which a test may not have


@pytest.fixture
def small_photos(monkeypatch):
    """Alter pictures of 128 pixels instead of 384: the tests' small extractor sees 32."""
    monkeypatch.setattr(pictures, "PHOTO_SIDE", 128)


@functools.lru_cache(maxsize=1000)
def picture(seed: int = 0, size: int = 64, kind: str = "JPEG") -> bytes:
    """Return a picture of coloured patches, different for each seed."""
    patches = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(patches).resize((size, size), Image.Resampling.NEAREST).save(file, kind, quality=95)
    return file.getvalue()


def picture_file(seed: int = 0, name: str | None = None) -> ContentFile:
    return ContentFile(picture(seed), name=name or f"{seed}.jpg")


def embed_all(*labels: str) -> indexing.Outcome:
    """Embed everything that is pending, as a sweep does."""
    report = indexing.Outcome()
    for label in labels or ("testshop.Product.embedding",):
        report.add(indexing.sweep(get_field(label)))
    return report


def missing_service(reason: str) -> None:
    """Skip the test; fail it where VISUAL_SEARCH_REQUIRE_SERVICES is set."""
    if os.environ.get("VISUAL_SEARCH_REQUIRE_SERVICES"):
        pytest.fail(f"required here, but {reason}")
    pytest.skip(reason)
