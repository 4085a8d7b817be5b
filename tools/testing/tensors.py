"""Tensors as a model.py has them under Triton's Python backend: numpy in, numpy out, and DLPack.

What is refused, and with which words, is what the backend of tritonserver 2.51 does; a test compares the two.
"""

from typing import Any

import numpy as np

from clients.contract import Array

_KINDS = (bool, "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", object)
_NUMPY_TYPES = frozenset(np.dtype(kind) for kind in _KINDS)
_ON_CPU = (1, 0)


class TritonModelException(Exception):
    """What the backend raises, and models too."""


class Tensor:
    """A named array; one of BF16 has no numpy."""

    def __init__(self, name: str, array: Array, /):
        # A list or a number is refused as by the backend, which would not convert it.
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            given = f"{type(name).__name__}, {type(array).__name__}"
            raise TypeError(f"__init__(): incompatible constructor arguments: expected str, numpy.ndarray; got {given}")
        _check_name(name)
        if array.dtype not in _NUMPY_TYPES and array.dtype.kind != "S":
            raise TritonModelException("NumPy dtype is not supported.")
        self._name = name
        self._array: Array | None = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        self._source: Any = None

    @classmethod
    def from_dlpack(cls, name: str, tensor: Any, /) -> "Tensor":
        """Take a DLPack capsule, or what offers one: torch's tensors, say."""
        _check_name(name)
        is_capsule = type(tensor).__name__ == "PyCapsule"
        if not is_capsule and not (hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__")):
            raise TritonModelException(
                "Provided tensor is not supported. Tensor must be a DLPack capsule         or have `__dlpack__` and "
                "`__dlpack_device__` attributes"
            )
        if isinstance(tensor, np.ndarray):
            # The stub of 2.51 answers nothing any more: numpy's destructor does not know the capsule's new name.
            raise TritonModelException("Triton's Python backend hangs on DLPack of numpy; use Tensor(name, array)")
        source = _Capsule(tensor) if is_capsule else tensor
        made = cls.__new__(cls)
        made._name, made._source, made._array = name, None, None
        try:
            found = np.from_dlpack(source)
            is_contiguous, made._array = found.flags.c_contiguous, np.array(found)
        except (RuntimeError, BufferError, TypeError):  # BF16; BOOL before numpy 2
            import torch.utils.dlpack

            made._source = torch.utils.dlpack.from_dlpack(source)
            is_contiguous = made._source.is_contiguous()
            made._array = made._source.numpy() if made._source.dtype == torch.bool else None
        if not is_contiguous:
            raise TritonModelException(
                "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in C-Order are "
                "supported."
            )
        return made

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Array:
        if self._array is None:
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and from_dlpack() instead."
            )
        return self._array

    def shape(self) -> list[int]:
        return list(self._source.shape if self._array is None else self._array.shape)

    def is_cpu(self) -> bool:
        return True

    def to_dlpack(self) -> Any:
        if self._array is None:
            return self._source.__dlpack__()
        if self._array.dtype.kind in "OS":
            raise TritonModelException("DLPack does not have support for string tensors.")
        array = self._array if self._array.flags.writeable else self._array.copy()
        try:
            return array.__dlpack__()
        except BufferError:  # BOOL before numpy 2
            import torch

            return torch.from_numpy(array).__dlpack__()

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        return _ON_CPU


class _Capsule:
    """A bare capsule, as numpy takes it."""

    def __init__(self, capsule: Any):
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _ON_CPU


def as_sent(tensor: Tensor) -> Array:
    """What a client gets for a tensor: texts as bytes, BF16 as float32."""
    try:
        array = tensor.as_numpy()
    except TritonModelException:
        floats: Array = tensor._source.float().numpy()
        return floats
    if array.dtype.kind not in "OS":
        return array.copy()
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel().tolist()]
    sent = np.empty(len(texts), np.object_)
    sent[:] = texts
    return sent.reshape(array.shape)


def _check_name(name: str) -> None:
    if not name:
        raise TritonModelException("Tensor name cannot be an empty string.")
