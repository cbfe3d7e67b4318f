from __future__ import annotations

import json
import subprocess
import sys

import pytest
import scipy.linalg  # noqa: F401  # a learning imports it, with a library of its own
from threadpoolctl import threadpool_info

from django_visual_search.learning.labels import INSTALL_SCIKIT_LEARN, missing_scikit_learn, one_blas_thread, require

PROGRAM = """
import importlib.machinery
import sys

class Hidden(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("sklearn", "scipy", "threadpoolctl"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path[:] = [Hidden if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]

import numpy as np
from django_visual_search.extractors.base import ExtractorUnavailable
from django_visual_search.learning.calibration import Calibration, calibrate
from django_visual_search.learning.calibration import ConfidenceCurve
from django_visual_search.learning.labels import INSTALL_SCIKIT_LEARN, missing_scikit_learn
from django_visual_search.learning.lda import HeadSettings, learn_head
from django_visual_search.learning.folds import TrainingPlan
from django_visual_search.learning.splits import near_duplicates, unseen_pictures
from django_visual_search.learning.train import train_head

assert missing_scikit_learn() == INSTALL_SCIKIT_LEARN
features, labels = np.random.default_rng(0).standard_normal((30, 6)), {"product": np.repeat(np.arange(6), 5)}
refused = 0
for what in (
    lambda: train_head(features, labels, TrainingPlan(4, "product"), before=features),
    lambda: calibrate([0.1, 0.2, 0.3], [False, True, False]),
    lambda: learn_head(features, labels, HeadSettings(4, shrinkage=None)),
    lambda: near_duplicates(features, threshold=0),
):
    try:
        what()
    except ExtractorUnavailable as e:
        assert "pip install 'django-visual-search[training]'" in str(e)
        refused += 1
assert refused == 4
# A stored calibration, and a head of given settings, need NumPy alone.
assert Calibration("platt", ConfidenceCurve((0.0, 1.0), (0.0, 1.0), 9))([0.25])[0] == 0.25
assert learn_head(features, labels, HeadSettings(4)).named
assert len(unseen_pictures(labels["product"]).held_out)
assert "sklearn" not in sys.modules
print("as it should be")
"""


def test_without_scikit_learn_learning_says_what_to_install_and_search_goes_on():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, check=False)
    assert ran.stdout.strip() == "as it should be", ran.stderr


def test_with_scikit_learn_nothing_is_missing():
    assert missing_scikit_learn() is None
    assert require() is None
    assert "training" in INSTALL_SCIKIT_LEARN


def test_linear_algebra_runs_on_one_thread_and_then_as_before():
    def threads():
        return {one["filepath"]: one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    before = threads()
    assert before
    with one_blas_thread():
        assert set(threads().values()) == {1}
    assert threads() == before
    with pytest.raises(RuntimeError), one_blas_thread():
        raise RuntimeError
    assert threads() == before


LOADED_LATER = """
from threadpoolctl import threadpool_info
from django_visual_search.learning.labels import one_blas_thread
with one_blas_thread():
    import scipy.linalg
    print([library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"])
"""


def test_scipys_own_blas_has_one_thread_too():
    """SciPy is imported where it is needed, after the limit."""
    ran = subprocess.run([sys.executable, "-c", LOADED_LATER], capture_output=True, text=True, timeout=240, check=True)
    assert set(json.loads(ran.stdout)) == {1}
