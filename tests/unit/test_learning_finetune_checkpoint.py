"""A training's state on disk: whole, without pickle, one process at a time."""

import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from django_visual_search.learning.finetune import checkpoint

from ..processes import ROOT


def test_what_was_saved_is_loaded(tmp_path):
    arrays = {
        "weights": [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(3.5)],
        "optimizer": [np.int64(7)] * 12,
    }
    checkpoint.save_checkpoint(tmp_path / "c.npz", {"epoch": 3, "history": [{"loss": 0.5}]}, arrays)
    facts, found = checkpoint.load_checkpoint(tmp_path / "c.npz")
    assert facts == {"epoch": 3, "history": [{"loss": 0.5}]}
    assert list(found) == ["weights", "optimizer"]
    for name, part in arrays.items():
        assert len(found[name]) == len(part)
        for one, other in zip(found[name], part, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_nothing_saved_is_none(tmp_path):
    assert checkpoint.load_checkpoint(tmp_path / "c.npz") is None


def test_a_failed_save_leaves_the_last_one(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save_checkpoint(path, {"epoch": 1}, {"weights": [np.ones(2)]})
    with pytest.raises(TypeError):
        checkpoint.save_checkpoint(path, {"epoch": object()}, {"weights": [np.zeros(2)]})
    assert checkpoint.load_checkpoint(path)[0] == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize("how", ["cut", "other", "pickled"])
def test_a_damaged_one_is_refused(tmp_path, how):
    path = tmp_path / "c.npz"
    checkpoint.save_checkpoint(path, {"epoch": 1}, {"weights": [np.ones(1000)]})
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "other":
        path.write_bytes(b"nothing of the kind")
    else:
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("weights/1.npy", pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"c\.npz can't be read .*: delete it to train from the start"):
        checkpoint.load_checkpoint(path)


def test_two_processes_never_train_from_one_checkpoint(tmp_path):
    lock = tmp_path / "c.lock"
    program = (
        "import sys\nfrom pathlib import Path\nfrom django_visual_search.learning.finetune import checkpoint\n"
        "with checkpoint.alone(Path(sys.argv[1]), 0.1):\n    print('inside')"
    )

    def other():
        return subprocess.run(
            [sys.executable, "-c", program, lock], cwd=ROOT, capture_output=True, text=True, check=False
        )

    with checkpoint.alone(lock, 0):
        done = other()
        assert done.returncode == 1
        assert "Another process trains in" in done.stderr
    assert other().stdout == "inside\n"
