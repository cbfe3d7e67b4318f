from __future__ import annotations

import numpy as np
import pytest

from django_visual_search.extractors.heads import LinearHead, orthonormal

PINNED = [
    [0.5639687, -0.4315021, 0.2363188],
    [0.7164150, 0.6658965, -0.1587808],
    [0.3037439, -0.5600843, -0.4855776],
    [0.1312686, -0.0549700, 0.8224316],
    [0.2433043, -0.2316713, 0.0822357],
]


def test_projection_keeps_lengths_and_angles_of_its_own_directions():
    head = orthonormal(96, 24)
    assert (head.features, head.dimensions) == (96, 24)
    assert head.matrix.dtype == np.float32
    np.testing.assert_allclose(head.matrix.T @ head.matrix, np.eye(24), atol=1e-6)


def test_projection_has_the_same_numbers_on_every_machine():
    # Written down once: other numbers here mean that vectors of two machines could not be compared.
    np.testing.assert_allclose(orthonormal(5, 3).matrix, PINNED, atol=1e-6)


def test_projection_does_not_depend_on_or_disturb_the_global_generator():
    np.random.seed(1)
    first = np.random.random()
    np.random.seed(1)
    orthonormal.cache_clear()
    one = orthonormal(40, 8).matrix
    assert np.random.random() == first
    orthonormal.cache_clear()
    np.testing.assert_array_equal(one, orthonormal(40, 8).matrix)


def test_other_seeds_give_other_projections():
    assert np.abs(orthonormal(40, 8).matrix - orthonormal(40, 8, seed=1).matrix).max() > 0.1


def test_projection_keeps_cosines_as_johnson_and_lindenstrauss_say():
    rows = np.random.default_rng(0).standard_normal((60, 1280)).astype(np.float32)
    rows[30:] = rows[:30] + 0.5 * rows[30:]

    def cosines(vectors: np.ndarray) -> np.ndarray:
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return units @ units.T

    error = cosines(orthonormal(1280, 256)(rows)) - cosines(rows)
    assert np.sqrt(np.mean(error**2)) < 1 / np.sqrt(256)


@pytest.mark.parametrize(("features", "dimensions"), [(8, 9), (8, 0), (8, -1)])
def test_projection_refuses_widths_that_make_no_sense(features, dimensions):
    with pytest.raises(ValueError, match=f"8 features can't be projected to {dimensions} dimensions"):
        orthonormal(features, dimensions)


def test_head_centres_then_multiplies():
    head = LinearHead(np.array([[1, 0], [0, 2], [1, 1]]), mean=np.array([1, 1, 1]))
    result = head(np.array([[2, 3, 1], [1, 1, 1]], np.float32))
    np.testing.assert_array_equal(result, [[1, 4], [0, 0]])
    assert result.dtype == np.float32


def test_a_row_gives_the_same_alone_and_in_a_batch():
    rows = np.random.default_rng(0).standard_normal((33, 300)).astype(np.float32)
    head = orthonormal(300, 64)
    np.testing.assert_allclose(head(rows), np.concatenate([head(rows[i : i + 1]) for i in range(33)]), atol=1e-5)


def test_digest_is_of_the_numbers():
    matrix = np.arange(6.0).reshape(3, 2)
    digest = LinearHead(matrix).digest
    assert digest == LinearHead(matrix.astype(np.float32).copy()).digest
    others = [
        LinearHead(matrix + 1e-3),
        LinearHead(matrix.reshape(2, 3)),
        LinearHead(matrix, mean=np.zeros(3)),
        LinearHead(matrix, mean=np.ones(3)),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5


def test_head_is_frozen_and_keeps_a_copy():
    matrix = np.ones((3, 2), np.float32)
    head = LinearHead(matrix)
    matrix[:] = 0
    assert head.matrix.sum() == 6
    with pytest.raises(ValueError, match="read-only"):
        head.matrix[0, 0] = 2
    with pytest.raises(AttributeError):
        head.matrix = matrix


@pytest.mark.parametrize(
    ("matrix", "mean", "message"),
    [
        (np.ones(3), None, "matrix is"),
        (np.ones((3, 0)), None, "matrix is"),
        (np.ones((3, 2)), np.ones(2), "mean must have shape"),
        (np.array([[1, np.nan]]), None, "finite"),
        (np.ones((2, 2)), np.array([0, np.inf]), "finite"),
    ],
)
def test_head_refuses_arrays_that_do_not_fit(matrix, mean, message):
    with pytest.raises(ValueError, match=message):
        LinearHead(matrix, mean)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (0, 3)])
def test_head_refuses_rows_of_another_width(shape):
    with pytest.raises(ValueError, match="takes rows of 4 features"):
        LinearHead(np.ones((4, 2)))(np.ones(shape, np.float32))
