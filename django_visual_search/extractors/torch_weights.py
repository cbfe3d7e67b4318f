"""Read a file of PyTorch weights without PyTorch, and without running code in it.

Entry function: ``read_weights``. The format is the one that ``torch.save`` wrote before version 1.6: pickles of a magic
number, a protocol version, facts about the machine, a dictionary of tensors and the list of their storages; then the
storages as raw numbers.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
"""First number of the format (``torch.serialization.MAGIC_NUMBER``)."""

PROTOCOL = 1001

STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
"""NumPy's name of the numbers in each kind of storage that files of networks have."""


class _Tensor(NamedTuple):
    """The arguments of ``torch._utils._rebuild_tensor_v2`` that say where a tensor's numbers are."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers, not bytes; networks converted from TensorFlow keep its order of axes."""


class _RestrictedUnpickler(pickle.Unpickler):
    """Build dictionaries, numbers and ``_Tensor``; refuse every other class and function that a file names."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.types: dict[str, str] = {}
        """NumPy's name of the numbers in each storage."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"a file of weights has no use for {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _, _, view = pid  # "storage", type, key, device, count, view
        if view is not None:
            raise pickle.UnpicklingError("views of storages are not supported")
        self.types[str(key)] = kind
        return str(key)


def _rebuild(storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def read_weights(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file by name. Raise ValueError for anything but such a file."""
    file = io.BytesIO(data)
    try:
        start = [_RestrictedUnpickler(file).load() for _ in range(3)]
        if start[:2] != [MAGIC, PROTOCOL] or not start[2]["little_endian"]:
            raise pickle.UnpicklingError(f"it begins with {start}")
        unpickler = _RestrictedUnpickler(file)
        tensors: dict[str, _Tensor] = unpickler.load()
        keys: list[str] = _RestrictedUnpickler(file).load()
        storages = {key: _storage(file, unpickler.types[key]) for key in keys}
        return {name: _array(tensor, storages) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        raise ValueError(f"This is not a file of PyTorch weights in the format before 1.6: {e}.") from e


def _storage(file: BinaryIO, kind: str) -> NDArray[Any]:
    [count] = np.frombuffer(file.read(8), "<i8")
    dtype = np.dtype(kind)
    return np.frombuffer(file.read(int(count) * dtype.itemsize), dtype, int(count))


def _array(tensor: _Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    own = storages[tensor.storage][tensor.offset :]
    last = sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    # as_strided reads whatever memory it is told to.
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or last >= len(own):
        raise ValueError(f"a tensor of shape {tensor.shape} lies outside its storage")
    strides = [step * own.itemsize for step in tensor.strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(own, tensor.shape, strides, writeable=False))
