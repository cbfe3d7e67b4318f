"""Find objects in a picture by where a network sees something: maps of inner layers to boxes, best first.

Entry functions: ``network_maps`` and ``boxes_from_maps``. A *saliency map* says how unlike the rest of the picture each
cell is to one layer. The connected regions of several such maps above many thresholds are *proposals*, after selective
convolutional descriptor aggregation (X.-S. Wei et al., 2017). They are ranked by what tells them from a *ring* around
them; those that overlap a better one are dropped.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..images.options import Box
from . import litert
from .efficientnet import LayerWeights
from .lite import written_model

Cells = NDArray[np.int64]
"""Boxes in cells of the grid, ``(n, 4)``: left, top, right, bottom."""

NETWORK = "lite0"
"""Its maps are used whichever extractor embeds, as its weights are installed with the app."""

SIDE = 320
"""Side in pixels of the picture that the network sees. With 384 and 448, 1 and 2 % more of the objects that ranking was
tuned on were found, in 1.5 and twice the network's time."""

LAYERS = ("block4_project", "block10_project", "block15_project")
"""Layers whose maps are used, with cells of 8, 16 and 32 pixels: texture, parts, things."""

GRID = 20
"""Cells on a side of the grid of boxes: those of the middle map."""

THRESHOLDS = np.arange(0.075, 0.8, 0.025, dtype=np.float32)
"""Where saliency maps, scaled to 0 to 1, are cut."""

LEAST_CELLS = 4
"""Cells in the box of the smallest proposal."""

RING = 0.25
"""Width of the ring on each side of a box, as a share of the box."""

OVERLAP = 0.5
"""Most intersection over union of two boxes. With 0.4 and 0.6, fewer objects were found or as many."""

REPEATED = 0.05
"""How much lower a box scores for each better one that it lies in or around. With it, 2 % more of the composites'
objects were found, 3 % more before clutter; with 0.2 none more."""

WEIGHTS = np.array(
    [
        *(-0.049, 0.363, 0.265, -0.094, 0.069, 0.3),  # saliency
        *(-0.07, 0.243, -0.107, -0.111, 0.082, 0.214),  # layers
        *(-0.027, -0.026, -0.034),  # share of the picture, its square, border
    ]
)
BIAS = 0.149
"""Expected overlap of a proposal with an object, from its ``measures``: ridge regression on 450 composites
(``python -m tests.benchmarks.objects --fit --count 60``)."""

LEAST_SCORE = 0.2
"""Score below which a proposal is nothing: leaving those out lost no object of the same composites."""


class ScoredBox(NamedTuple):
    """A box in fractions of the picture, and how well it should fit an object, 0 to 1."""

    box: Box
    score: float


def network_maps(folder: Path, picture: NDArray[np.uint8]) -> list[LayerWeights]:
    """Return the maps of LAYERS, each ``(side, side, channels)``, for a picture, uint8 ``(SIDE, SIDE, 3)``.

    ``folder``: where the model is kept, once it is written. Raises ExtractorUnavailable where it can't be made or run.
    """
    return _network(folder).outputs(picture)


@functools.cache
def _network(folder: Path) -> litert.Flatbuffer:
    return litert.shared_flatbuffer(written_model(folder, NETWORK, SIDE, LAYERS))


def boxes_from_maps(maps: Sequence[LayerWeights], most: int) -> list[ScoredBox]:
    """Return at most ``most`` boxes, best first; none where nothing stands out."""
    layers = [standardised(values) for values in maps]
    saliency = saliency_maps(layers)
    found = proposals(saliency)
    scores = np.clip(measures(found, saliency, layers) @ WEIGHTS + BIAS, 0, 1)
    good = scores >= LEAST_SCORE
    found, scores = found[good], scores[good]
    kept, kept_scores = kept_boxes(found, scores, most)
    return [ScoredBox(_fractions(found[i]), score) for i, score in zip(kept, kept_scores, strict=True)]


def _fractions(cells: NDArray[np.int64]) -> Box:
    x0, y0, x1, y1 = (float(edge) / GRID for edge in cells)
    return x0, y0, x1, y1


def standardised(values: LayerWeights) -> LayerWeights:
    """Return a map with the median of each channel at 0, in units of the channel's deviation."""
    cells = values.reshape(-1, values.shape[2])
    return np.asarray((values - np.median(cells, axis=0)) / (cells.std(axis=0) + 1e-3), np.float32)


def saliency_maps(layers: Sequence[LayerWeights]) -> LayerWeights:
    """Return the mean absolute values of each standardised map on the grid, from 0 to 1: ``(layers, GRID, GRID)``."""
    found = np.stack([_on_grid(np.abs(layer).mean(axis=2, keepdims=True), smooth=True)[..., 0] for layer in layers])
    least, most = found.min(axis=(1, 2), keepdims=True), found.max(axis=(1, 2), keepdims=True)
    return np.asarray((found - least) / (most - least + 1e-6), np.float32)


def _on_grid(values: LayerWeights, *, smooth: bool = False) -> LayerWeights:
    """Bring a map to the grid: cells are averaged, or repeated (``smooth``: interpolated)."""
    side = values.shape[0]
    if side >= GRID:
        each = side // GRID
        return np.asarray(values.reshape(GRID, each, GRID, each, -1).mean(axis=(1, 3)), np.float32)
    if not smooth:
        return values.repeat(GRID // side, axis=0).repeat(GRID // side, axis=1)
    # Linear, with the edge's value beyond the middle of the outermost cells.
    at = np.clip((np.arange(GRID) + 0.5) * side / GRID - 0.5, 0, side - 1)
    low = np.minimum(at.astype(int), side - 2)
    weights = np.zeros((GRID, side), np.float32)
    weights[np.arange(GRID), low], weights[np.arange(GRID), low + 1] = low + 1 - at, at - low
    return np.asarray(np.einsum("yr,rcd,xc->yxd", weights, values, weights), np.float32)


def proposals(saliency: LayerWeights) -> Cells:
    """Return the different boxes of the regions that reach any of THRESHOLDS in any saliency map."""
    found = set[tuple[int, ...]]().union(*(region_boxes(np.searchsorted(THRESHOLDS, one)) for one in saliency))
    boxes = np.array(sorted(found), np.int64).reshape(-1, 4)
    return boxes[_areas(boxes) >= LEAST_CELLS]


def region_boxes(levels: NDArray[np.int64]) -> set[tuple[int, ...]]:
    """Return the boxes of the regions of at least each level but 0: ``levels`` is ``(side, side)``.

    The cells of a region share sides. From the highest level down, each cell joins the regions around it: a forest of
    cells, whose roots have the boxes (B. A. Galler and M. J. Fischer, 1964).
    """
    row = levels.shape[1] + 2  # a ring of cells that are in no region
    above = np.pad(levels, 1).ravel()
    parent = [-1] * len(above)
    box: dict[int, list[int]] = {}
    found: set[tuple[int, ...]] = set()
    for level, cells in itertools.groupby(np.argsort(-above).tolist(), above.tolist().__getitem__):
        if not level:
            break
        grown = []
        for cell in cells:
            y, x = divmod(cell, row)
            parent[cell] = cell
            left, top, right, bottom = x - 1, y - 1, x, y
            for root in (cell - 1, cell + 1, cell - row, cell + row):
                if parent[root] < 0:
                    continue
                while parent[root] != root:
                    parent[root] = root = parent[parent[root]]
                if root != cell:
                    parent[root] = cell
                    one = box.pop(root)
                    left, top = min(left, one[0]), min(top, one[1])
                    right, bottom = max(right, one[2]), max(bottom, one[3])
            box[cell] = [left, top, right, bottom]
            grown.append(cell)
        found.update(tuple(box[cell]) for cell in grown if cell in box)
    return found


def measures(boxes: Cells, saliency: LayerWeights, layers: Sequence[LayerWeights]) -> LayerWeights:
    """Return what proposals are ranked by, ``(n, 15)``.

    For each saliency map the mean inside, above that of the picture and above that of the ring. For each map the cosine
    of the mean inside and in the ring; and how alike the cells inside are, the square of their mean by the mean of
    their squares. The logarithm of the box's share of the picture, and its square. How many sides lie on the picture's
    border.
    """
    wide, high = (np.maximum(1, np.rint(RING * (boxes[:, i + 2] - boxes[:, i]))).astype(np.int64) for i in (0, 1))
    outer = np.clip(boxes + np.stack([-wide, -high, wide, high], axis=1), 0, GRID)
    areas = _areas(boxes)[:, None]
    ring_areas = np.maximum(_areas(outer)[:, None] - areas, 1e-3)
    found = []
    for one in saliency:
        inside, ring = _means(one[..., None], boxes, outer, areas, ring_areas)
        found += [inside - one.mean(), inside - ring]
    for layer in layers:
        grid = _on_grid(layer)
        inside, ring = _means(grid, boxes, outer, areas, ring_areas)
        length = np.linalg.norm(inside, axis=1) * np.linalg.norm(ring, axis=1)
        squares, _ = _means((grid**2).sum(axis=2, keepdims=True), boxes, outer, areas, ring_areas)
        found.append(((inside * ring).sum(axis=1) / (length + 1e-6))[:, None])
        found.append((inside**2).sum(axis=1, keepdims=True) / (squares + 1e-6))
    share = np.log(areas / GRID**2)
    border = (boxes[:, :2] == 0).sum(axis=1) + (boxes[:, 2:] == GRID).sum(axis=1)
    return np.concatenate([*found, share, share**2, border[:, None]], axis=1).astype(np.float32)


def _means(
    values: LayerWeights, boxes: Cells, outer: Cells, areas: NDArray[np.int64], ring_areas: NDArray[np.float64]
) -> tuple[LayerWeights, LayerWeights]:
    """Return the means of a map in boxes and in their rings, ``(n, channels)`` each."""
    integral = np.zeros((GRID + 1, GRID + 1, values.shape[2]), np.float32)
    integral[1:, 1:] = values
    for lines in (integral, integral.swapaxes(0, 1)):
        for i in range(1, GRID + 1):  # a fifth of the time of cumsum, which adds up number by number
            lines[i] += lines[i - 1]

    def total(of: Cells) -> LayerWeights:
        x0, y0, x1, y1 = of.T
        return np.asarray(integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0])

    inside = total(boxes)
    return np.asarray(inside / areas, np.float32), np.asarray((total(outer) - inside) / ring_areas, np.float32)


def _areas(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def kept_boxes(boxes: Cells, scores: LayerWeights, most: int) -> tuple[list[int], list[float]]:
    """Return the numbers and scores of the ``most`` best boxes, best first.

    No two overlap by more than OVERLAP. A box's score is lowered by REPEATED for each better one, times the share of
    the smaller one that both have: the parts of one thing would take the places of others.
    """
    left = np.asarray(scores, np.float64).copy()
    areas = _areas(boxes)
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(kept) < most and len(left) and np.isfinite(left.max()):
        best = int(left.argmax())
        kept.append(best)
        kept_scores.append(max(0.0, float(left[best])))
        sides = np.minimum(boxes[:, 2:], boxes[best, 2:]) - np.maximum(boxes[:, :2], boxes[best, :2])
        common = np.clip(sides, 0, None).prod(axis=1)
        left -= REPEATED * common / np.minimum(areas, areas[best])
        left[common > OVERLAP * (areas + areas[best] - common)] = -np.inf
    return kept, kept_scores
