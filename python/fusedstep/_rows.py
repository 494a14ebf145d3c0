"""Gradients of some rows of a matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        object.__setattr__(self, "indices", np.ascontiguousarray(rows, np.int64))
        object.__setattr__(self, "values", values)
