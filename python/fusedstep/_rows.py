"""Gradients of some rows of a matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusedstep import _native
from fusedstep._limits import shown


@dataclass(frozen=True, eq=False)
class Rows:
    """The gradient of a matrix of which a batch touched some rows, such as an embedding: the others' is 0.

    A parameter of shape (rows, ...) takes it as its gradient in place of an array; the time of a step follows the rows
    that are touched, not the matrix. Repeated indices are added up, in their order.

    Rows that are not touched stay as they are, and so does their state: no decay of moments, no momentum, no weight
    decay, no average. So rules without moments (SGD, AdaGrad) without weight decay have the bits of the dense gradient,
    and the others differ from it: PyTorch's SparseAdam and TensorFlow's LazyAdam call them lazy. Adam's counts in
    `Optimizer.steps` are the parameter's, not the row's, as in SparseAdam: a row that is touched late has a weaker
    correction of the bias than its number of updates would give.

    Arguments:
        indices: The rows that were touched: integers from 0 to below the number of rows, shape (n,). An index out of
            range is an IndexError of the update, which then has written nothing.
        values: Their gradients, an array or tensor of shape (n, ...), with the remaining axes of the parameter.

    Raises:
        TypeError: indices are not integers, or values is no array.
        ValueError: indices have more or less than one axis, or another length than values.
    """

    indices: NDArray[np.int64]
    values: Any

    def __init__(self, indices: ArrayLike, values: Any) -> None:
        if isinstance(indices, np.ma.MaskedArray):
            raise TypeError("indices is a masked array, whose mask would be ignored; expected a plain array")
        try:
            rows = np.asarray(indices)
        except Exception as error:
            raise TypeError(f"indices is {shown(indices)}, expected integers") from error
        if rows.size == 0 and isinstance(indices, list | tuple):
            rows = rows.astype(np.int64)  # NumPy takes an empty list for one of floats
        if rows.dtype.kind not in "iu":
            raise TypeError(f"indices has dtype {rows.dtype}, expected integers")
        if rows.ndim != 1:
            raise ValueError(f"indices has shape {rows.shape}, expected one axis")
        try:
            length = tuple(values.shape)[:1]
        except Exception as error:
            raise TypeError(f"values is a {type(values).__name__}, expected an array") from error
        if length != rows.shape:
            raise ValueError(f"values has shape {tuple(values.shape)}, indices has {rows.shape}")
        if rows.dtype == np.uint64:
            rows = np.minimum(rows, np.uint64(np.iinfo(np.int64).max))  # in place of negative numbers
        object.__setattr__(self, "indices", np.ascontiguousarray(rows, np.int64))
        object.__setattr__(self, "values", values)


def add_rows(target: Any, indices: ArrayLike, values: Any) -> None:
    """Adds rows to rows of a matrix, in place: `target[indices[i]] += values[i]` for i from 0 on.

    The gradient of an embedding, for example. Rows of target that have several indices get all their values, one after
    another: the bits are those of `numpy.add.at`, which takes much longer for rows of some length, with any number of
    threads. (Subnormal numbers are flushed to zero, see `set_flush_subnormals`.)

    Arguments:
        target: An array or tensor of shape (rows, ...), in float32, float64, float16 or bfloat16, with any strides.
            Sums are computed in float64 if target or values are float64, else in float32, and rounded to the type of
            target after each addition.
        indices: Integers from 0 to below the number of rows, shape (n,).
        values: An array or tensor of shape (n, ...), with the remaining axes of target, in any of these types. If it
            shares memory with target, it is copied first.

    Raises:
        IndexError: An index is out of range.
        ValueError: A shape doesn't fit, or target is read-only or has elements that share memory.
        TypeError: indices are not integers, or an array has another type.

    After an error nothing has been written.
    """
    rows = Rows(indices, values)
    if np.may_share_memory(rows.indices, np.asarray(indices)):
        object.__setattr__(rows, "indices", rows.indices.copy())  # target may share it, and others may write it
    _native.add_rows(target, rows)
