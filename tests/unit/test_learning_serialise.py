from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_visual_search.extractors.heads import LinearHead
from django_visual_search.learning.serialise import array_bytes, array_from, head_bytes, head_from, sha256_hex


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("shape", [(3, 4), (5,), (0,), (2, 0)])
def test_an_array_comes_back_as_it_was(dtype, shape):
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    back = array_from(array_bytes(array))
    np.testing.assert_array_equal(back, array)
    assert back.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")


def test_equal_arrays_give_equal_bytes_however_they_lie_in_memory():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert array_bytes(array) == array_bytes(np.asfortranarray(array)) == array_bytes(array.astype(">f4"))


@pytest.mark.parametrize("mean", [None, np.arange(4.0)])
def test_a_head_comes_back_as_it_was(mean):
    head = LinearHead(np.random.default_rng(0).standard_normal((4, 3)), mean)
    data = head_bytes(head)
    back = head_from(data, sha256_hex(data))
    assert back.digest == head.digest
    assert (back.mean is None) == (mean is None)


def test_damage_is_noticed():
    data = array_bytes(np.ones((4, 4), np.float32))
    sha256 = sha256_hex(data)
    with pytest.raises(ValueError, match="damaged"):
        array_from(data[:-1] + b"\x00", sha256)
    with pytest.raises(ValueError, match="damaged"):
        head_from(data, "0" * 64)


def test_nothing_is_ever_unpickled():
    file = io.BytesIO()
    np.save(file, np.array([print], dtype=object), allow_pickle=True)
    for data in (file.getvalue(), pickle.dumps({"head": 1})):
        with pytest.raises(ValueError, match="not an array"):
            array_from(data)


def test_other_bytes_are_refused():
    data = array_bytes(np.ones((4, 4), np.float32))
    for wrong in (b"", b"\x93NUMPY", data[:40], data[:-4], b"x" * 200):
        with pytest.raises(ValueError, match="not an array"):
            array_from(wrong)
    with pytest.raises(ValueError, match="3 bytes follow"):
        array_from(data + b"end")
    with pytest.raises(ValueError, match="not an array"):
        head_from(data)  # a head has two


def test_a_header_that_asks_for_too_much_memory_is_refused():
    data = array_bytes(np.ones((4, 4), np.float32)).replace(b"(4, 4), }" + b" " * 14, b"(400000000, 4000000), }")
    assert b"400000000" in data
    with pytest.raises(ValueError, match="its end is missing"):
        array_from(data)


@pytest.mark.parametrize("array", [np.array([1, 2]), np.array(["a"]), np.array([object()]), np.array([1j])])
def test_only_numbers_with_a_fraction_are_stored(array):
    with pytest.raises(ValueError, match="floating point"):
        array_bytes(array)
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    with pytest.raises(ValueError, match="not an array"):
        array_from(file.getvalue())


def test_a_stored_head_must_be_one():
    with pytest.raises(ValueError, match="mean must have shape"):
        head_from(array_bytes(np.ones((4, 3), np.float32)) + array_bytes(np.ones(3, np.float32)))


@given(st.integers(0, 127 + 32), st.integers(0, 255))
def test_a_wrong_byte_gives_another_array_or_a_clear_refusal(place, byte):
    data = bytearray(array_bytes(np.ones((4, 2), np.float32)))
    data[place] = byte
    try:
        array_from(bytes(data))
    except ValueError as e:
        assert "Learn it again" in str(e)  # noqa: PT017 - only where it is refused
