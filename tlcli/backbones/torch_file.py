"""Tensors from a file in torch's old format, read without torch and without running code."""

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

_STORAGE_DTYPES = {
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


def read_torch_file(content: bytes) -> dict[str, Array]:
    """Return the tensors by name of a file that torch.save wrote before its zip format.

    The layout: three pickles (magic number, protocol, system), the pickled state, the
    pickled list of storage keys, then for each key its length (int64) and its raw
    little-endian values. The unpickler knows tensors and nothing else.

    Raises:
        pickle.UnpicklingError: the file holds anything but tensors.
    """
    stream = io.BytesIO(content)
    for _ in range(3):
        _TensorUnpickler(stream).load()
    state = _TensorUnpickler(stream)
    tensors: dict[str, _Tensor] = state.load()
    storages = {
        key: _read_storage(stream, state.storages[key]) for key in _TensorUnpickler(stream).load()
    }
    return {name: tensor.array(storages) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class _Tensor:
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: dict[str, Array]) -> Array:
        """Return the values as a view of their storage; strides count elements.

        Raises:
            pickle.UnpicklingError: the tensor reaches beyond its storage.
        """
        values = storages[self.key][self.offset :]
        steps = zip(self.shape, self.strides, strict=True)
        last = sum((size - 1) * stride for size, stride in steps)
        if min((*self.strides, *self.shape, self.offset), default=0) < 0 or last >= values.size:
            raise pickle.UnpicklingError(f"Expected tensors inside their storage. Received: {self}")
        strides = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values, self.shape, strides, writeable=False)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles dictionaries of tensors; any other class or function is refused."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.storages: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the four names that such a file may use."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[module, name]
        raise pickle.UnpicklingError(f"Expected tensors alone. Received: {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        """Note the storage's type; its values follow behind the pickles."""
        _, dtype, key, _, _, _ = pid
        self.storages[str(key)] = dtype
        return str(key)


def _rebuilt(
    key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(key, offset, tuple(shape), tuple(strides))


def _read_storage(stream: IO[bytes], dtype: np.dtype[Any]) -> Array:
    count = int.from_bytes(stream.read(8), "little")
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype)
