"""The types of arrays, and of objects that share their memory like one, for type checkers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusedstep._rows import Rows

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    F = TypeVar("F", bound=np.float32 | np.float64, default=Any)  # so that fs.BatchNorm without a parameter is a type
else:
    from typing import TypeVar

    F = TypeVar("F", bound=np.float32 | np.float64)
DType: TypeAlias = type[F] | np.dtype[F]


class Buffer(Protocol):
    """The buffer protocol; `collections.abc.Buffer` exists since Python 3.12."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class SupportsArrayInterface(Protocol):
    """Describes its memory in the form that NumPy defined."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class SupportsDLPack(Protocol):
    """Shares its memory by DLPack, as PyTorch's tensors do."""

    def __dlpack__(self) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


SharesMemory: TypeAlias = NDArray[Any] | Buffer | SupportsArrayInterface | SupportsDLPack
Value: TypeAlias = SharesMemory | float | np.floating[Any]
# Mapping and Sequence, because a dict[str, NDArray[np.float32]] is no dict[str, Value]. At run time they are dicts,
# lists and tuples only.
_Params: TypeAlias = "Value | Mapping[Any, _Params] | Sequence[_Params]"
_Grads: TypeAlias = "Value | Rows | Mapping[Any, _Grads] | Sequence[_Grads] | None"
_Copies: TypeAlias = "SharesMemory | Mapping[Any, _Copies] | Sequence[_Copies] | None"
Params: TypeAlias = Mapping[Any, _Params] | Sequence[_Params] | SharesMemory
Grads: TypeAlias = Mapping[Any, _Grads] | Sequence[_Grads] | SharesMemory | Rows | None
Copies: TypeAlias = Mapping[Any, _Copies] | Sequence[_Copies] | SharesMemory | None
