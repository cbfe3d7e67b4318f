from __future__ import annotations

import subprocess
import sys

import pytest
from threadpoolctl import threadpool_info

from django_visual_search.learning.labels import INSTALL, missing, one_blas_thread, require

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
from django_visual_search.learning.calibration import Curve
from django_visual_search.learning.heads import train_head
from django_visual_search.learning.selection import Plan
from django_visual_search.learning.lda import Settings, learn
from django_visual_search.learning.labels import INSTALL, missing

assert missing() == INSTALL
features, labels = np.random.default_rng(0).standard_normal((30, 6)), {"product": np.repeat(np.arange(6), 5)}
refused = 0
for what in (
    lambda: train_head(features, labels, Plan(4, "product"), before=features),
    lambda: calibrate([0.1, 0.2, 0.3], [False, True, False]),
    lambda: learn(features, labels, Settings(4, shrinkage=None)),
):
    try:
        what()
    except ExtractorUnavailable as e:
        assert "pip install 'django-visual-search[training]'" in str(e)
        refused += 1
assert refused == 3
# What was learned elsewhere is used without it, and a head of given settings needs NumPy alone.
assert Calibration("platt", Curve((0.0, 1.0), (0.0, 1.0), 9))([0.25])[0] == 0.25
assert learn(features, labels, Settings(4)).named
assert "sklearn" not in sys.modules
print("as it should be")
"""


def test_without_scikit_learn_it_is_said_what_to_install_and_search_goes_on():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, check=False)
    assert ran.stdout.strip() == "as it should be", ran.stderr


def test_with_scikit_learn_nothing_is_missing():
    assert missing() is None
    assert require() is None
    assert "training" in INSTALL


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
