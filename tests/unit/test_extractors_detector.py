"""``DetectionModel`` runs any LiteRT file of the usual convention, and says what is wrong with others."""

import numpy as np
import pytest
from PIL import Image

from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.extractors.detector import DetectionModel

from ..detection_model import write_model


def picture(*dark):
    """Return a white picture whose quarters ``dark``, (row, column), are nearly black."""
    pixels = np.full((80, 120, 3), 255, np.uint8)
    for row, column in dark:
        pixels[40 * row : 40 * row + 40, 60 * column : 60 * column + 60] = 20
    return Image.fromarray(pixels)


def model(folder, **how):
    files = write_model(folder, **how)
    return DetectionModel(files["MODEL"], files["LABELS"], 0.3)


@pytest.mark.parametrize("scores_first", [False, True])
def test_boxes_names_and_scores(tmp_path, scores_first):
    """The outputs are recognised however the exporter named and ordered them."""
    detect = model(tmp_path, scores_first=scores_first)
    found = detect(picture((0, 1), (1, 0)))
    assert {one.name: one.box for one in found} == {"top right": (0.5, 0, 1, 0.5), "bottom left": (0, 0.5, 0.5, 1)}
    assert [one.score for one in found] == pytest.approx([1 - 20 / 255] * 2, abs=0.02)
    assert detect(picture()) == []


def test_labels_that_are_too_few(tmp_path):
    detect = model(tmp_path)
    (tmp_path / "labels.txt").write_text("top left\n")
    assert [one.name for one in detect(picture((0, 0), (1, 1)))] == ["top left", ""]


def test_another_kind_of_model(tmp_path):
    detect = model(tmp_path, without_count=True)
    with pytest.raises(ExtractorUnavailable, match=r"outputs \[\(1, 4, 4\), .* no detection model\. DETECTOR takes"):
        detect(picture())


@pytest.mark.parametrize(
    ("name", "problem"),
    [("detect.tflite", "the model .*detect.tflite can't be read"), ("labels.txt", "labels .*labels.txt can't be read")],
)
def test_missing_files(tmp_path, name, problem):
    detect = model(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ExtractorUnavailable, match=problem):
        detect(picture())


def test_a_file_that_is_no_model(tmp_path):
    detect = model(tmp_path)
    (tmp_path / "detect.tflite").write_bytes(b"nonsense" * 100)
    with pytest.raises(ExtractorUnavailable, match="is not a model that LiteRT can run"):
        detect(picture())
