"""Write heads as bytes for the database: NumPy's own format, never pickle, with a digest that is checked.

Entry functions: ``head_bytes`` and ``head_from``; ``text_head_bytes`` and ``text_head_from``; ``array_bytes`` and
``array_from`` for one matrix.
"""

from __future__ import annotations

import hashlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from ..extractors.heads import LinearHead
from .text import TextProjection

FLOATS = ("<f2", "<f4", "<f8")


def array_bytes(array: NDArray[np.floating]) -> bytes:
    """Return ``array`` in npy format 1.0, little-endian and in C order: equal arrays of one dtype give equal bytes.

    Raises ValueError for numbers other than half, single or double precision.
    """
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.str not in FLOATS:
        raise ValueError(f"Only arrays of floating point numbers are stored, not {array.dtype}.")
    file = BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def sha256_hex(data: bytes) -> str:
    """Return the digest to store beside the bytes."""
    return hashlib.sha256(data).hexdigest()


def array_from(data: bytes, sha256: str | None = None) -> NDArray[np.floating]:
    """Return a copy of the array in ``data``. ``sha256``: the result of ``sha256_hex`` when it was stored.

    Raises ValueError where the digest differs, or the bytes are anything but one whole npy array of floating point
    numbers: pickled objects are never loaded.
    """
    _check_digest(data, sha256)
    file = BytesIO(data)
    array = _read_array(file)
    _check_end(file, data)
    return array


def head_bytes(head: LinearHead) -> bytes:
    """Return a head's matrix and then its mean (empty if it has none), each in npy format."""
    mean = np.empty(0, "<f4") if head.mean is None else head.mean
    return array_bytes(head.matrix) + array_bytes(mean)


def head_from(data: bytes, sha256: str | None = None) -> LinearHead:
    """Return the head in ``data``. Raises ValueError as ``array_from`` does, or if it isn't a head."""
    _check_digest(data, sha256)
    file = BytesIO(data)
    matrix, mean = _read_array(file), _read_array(file)
    _check_end(file, data)
    return LinearHead(matrix.astype(np.float32), mean.astype(np.float32) if mean.size else None)


def text_head_bytes(head: TextProjection) -> bytes:
    """Return a text head's codes, weights, matrix and mean, each in npy format."""
    return b"".join(array_bytes(part) for part in (head.codes, head.weights, head.matrix, head.mean))


def text_head_from(data: bytes, sha256: str | None = None) -> TextProjection:
    """Return the text head in ``data``. Raises ValueError as ``array_from`` does, or if it isn't a text head."""
    _check_digest(data, sha256)
    file = BytesIO(data)
    codes, weights, matrix, mean = (_read_array(file) for _ in range(4))
    _check_end(file, data)
    return TextProjection(
        codes.astype(np.float64), weights.astype(np.float32), matrix.astype(np.float16), mean.astype(np.float32)
    )


def _check_digest(data: bytes, sha256: str | None) -> None:
    if sha256 is not None and sha256_hex(data) != sha256:
        raise ValueError(
            f"The stored array has the sha256 {sha256_hex(data)}, not {sha256}: it was damaged. Learn it again."
        )


def _read_array(file: BytesIO) -> NDArray[np.floating]:
    start = file.tell()
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version} of the format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        # Before it is read: a header may ask for any amount of memory.
        left = len(file.getbuffer()) - file.tell()
        if dtype.str not in FLOATS or any(side < 0 for side in shape):
            raise ValueError(f"an array {shape} of {dtype}")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > left:
            raise ValueError("its end is missing")
        file.seek(start)
        return np.array(np.lib.format.read_array(file, allow_pickle=False))
    except Exception as e:  # NumPy reads the header as Python's text, which can go wrong in any of Python's ways
        raise ValueError(f"The bytes are not an array as it was stored ({e}). Learn it again.") from e


def _check_end(file: BytesIO, data: bytes) -> None:
    if file.tell() != len(data):
        raise ValueError(f"{len(data) - file.tell()} bytes follow the stored array. Learn it again.")
