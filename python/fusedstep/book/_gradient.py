"""The gradient of an embedding: the rows that a batch has touched, which all other code may use as the book's array."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from fusedstep._rows import Rows

# Methods whose results are no view of the array.
_METHODS = frozenset(
    ("all", "any", "argmax", "argmin", "copy", "dot", "max", "mean", "min", "nonzero", "prod", "std", "sum", "var")
)

_MOST_TERMS = 64  # before they are added up: gradients may be accumulated over any number of batches


def _summed(keys: NDArray[np.int64], values: NDArray[Any], dtype: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The distinct keys, and the sum of each one's values in order, rounded to dtype after each addition.

    These are the bits of np.add.at, also where values of float64 are added to sums of float32.
    """
    order = keys.argsort(kind="stable")
    is_first = np.ones(len(keys), bool)
    np.not_equal(keys[order[1:]], keys[order[:-1]], out=is_first[1:])
    begin = np.flatnonzero(is_first)
    if len(begin) == len(keys):
        return keys, values.astype(dtype, copy=False)
    distinct = order[begin]
    sums = values[distinct].astype(dtype, copy=False)
    # The second values of all keys that have two are added at once, then the third ones, and so on.
    group = is_first.cumsum() - 1
    turn = np.arange(len(keys)) - begin[group]
    by_turn = turn.argsort(kind="stable")
    ends = np.bincount(turn).cumsum()
    for start, end in itertools.pairwise(ends.tolist()):
        at = by_turn[start:end]
        sums[group[at]] += values[order[at]]
    return keys[distinct], sums


def _is_positive_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and bool(0 < value < math.inf)


class RowsGradient(NDArrayOperatorsMixin, Rows):
    """The gradient of an embedding's matrix as `Rows`, in place of the book's array, which is zero in all other rows.

    `+=` with another one, `*=` and `/=` with a positive number, and `[...] = 0` keep the rows. With all else
    (operators, NumPy's functions, indices, methods) it behaves as the array, which is then made. Once other code holds
    the array, by np.asarray or as a view, the array stays the gradient: every backward pass writes it, as the book's
    does.
    """

    def __init__(self, w: NDArray[Any]) -> None:
        self.shape, self.dtype = w.shape, w.dtype
        self.ndim, self.size = w.ndim, w.size
        # The gradient is the sum of terms, in order; in each of them repeated rows are added up first. Each entry has
        # indices of shape (terms, n) and values of shape (terms, n, ...). None if the array is the gradient.
        self._terms: list[tuple[NDArray[np.int64], NDArray[Any]]] | None = []
        self._distinct: tuple[NDArray[np.int64], NDArray[Any]] | None = None  # the rows of all terms, if known
        self._array: NDArray[Any] | None = None
        self._in_array: tuple[NDArray[np.int64], NDArray[Any]] | None = None  # its rows that aren't zero; None: any
        self._is_shared = False  # the array with other code

    def assign(self, indices: NDArray[Any], values: NDArray[Any]) -> None:
        """Makes the gradient the sum of terms: integers of shape (terms, n) and values of shape (terms, n, ...).

        Raises:
            IndexError: An index is out of range. The gradient is what it was.
        """
        numbers = indices.astype(np.int64)
        if numbers.size and int(numbers.view(np.uint64).max()) >= self.shape[0]:
            numbers[numbers < 0] += self.shape[0]
            outside = (numbers < 0) | (numbers >= self.shape[0])
            if outside.any():
                raise IndexError(f"an index is {indices[outside][0]}, the matrix has {self.shape[0]} rows")
        self._replace([(numbers, np.array(values))])

    def zeros(self) -> NDArray[Any]:
        """The array, which is the gradient from now on, with zeros."""
        self._replace([])
        return self._as_array()

    def _replace(self, terms: Any, distinct: Any = None) -> None:
        self._terms, self._distinct = terms, distinct
        if self._is_shared:
            self._as_array()

    def _rows(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The rows of the terms, each at most once in a term, in the order of the terms."""
        terms = self._terms or []
        if self._distinct is None:
            numbers, begin = [], 0
            for indices, _ in terms:
                numbers.append(
                    (indices + self.shape[0] * np.arange(begin, begin + len(indices))[:, np.newaxis]).ravel()
                )
                begin += len(indices)
            values = [part.reshape(indices.size, *self.shape[1:]) for indices, part in terms]
            if terms:
                keys, sums = _summed(np.concatenate(numbers), np.concatenate(values), self.dtype)
                self._distinct = keys % self.shape[0], sums
            else:
                self._distinct = np.empty(0, np.int64), np.empty((0, *self.shape[1:]), self.dtype)
        return self._distinct

    def _sums(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """The rows of the sum of all terms, each once."""
        rows = self._rows()
        return rows if sum(len(indices) for indices, _ in self._terms or []) <= 1 else _summed(*rows, self.dtype)

    def sums(self) -> NDArray[Any]:
        """The rows that aren't zero, each once, in any order, or the array."""
        return self._sums()[1] if self._terms is not None else self.array()

    def rows(self) -> Rows | NDArray[Any]:
        """What a step takes: the gradient itself if it is rows, else the array."""
        return self if self._terms is not None else self.array()

    @property
    def indices(self) -> NDArray[np.int64]:
        """The rows that were touched; all of them if the gradient is an array."""
        return self._rows()[0] if self._terms is not None else np.arange(self.shape[0])

    @property
    def values(self) -> Any:
        """Their gradients."""
        return self._rows()[1] if self._terms is not None else self._array

    def array(self) -> NDArray[Any]:
        """The gradient as an array to be read before the next change of the gradient."""
        if self._terms is not None:
            rows = self._rows()
            if self._array is None:
                self._array = np.zeros(self.shape, self.dtype)
            elif self._in_array is not rows:
                self._array[... if self._in_array is None else self._in_array[0]] = 0
            if self._in_array is not rows:
                indices, sums = self._sums()
                self._array[indices] += sums
                self._in_array = rows
        assert self._array is not None
        return self._array

    def _as_array(self) -> NDArray[Any]:
        """The array, which from now on is the gradient."""
        array = self.array()
        self._terms = self._distinct = self._in_array = None
        return array

    def shared_array(self) -> NDArray[Any]:
        """The array, which from now on is the gradient, also after the next backward pass."""
        self._is_shared = True
        return self._as_array()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy or (dtype is not None and np.dtype(dtype) != self.dtype):
            return np.array(self.array(), dtype, copy=copy)
        return self.shared_array()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        outputs = options.get("out", ())
        if method == "__call__" and options.keys() == {"out"} and inputs[0] is self and outputs[0] is self:
            if ufunc is np.add and self._append(inputs[1]):
                return self
            if ufunc in (np.multiply, np.true_divide) and self._scale(ufunc, inputs[1]):
                return self
        if outputs:
            options["out"] = tuple(out._as_array() if isinstance(out, RowsGradient) else out for out in outputs)
        if method == "at" and isinstance(inputs[0], RowsGradient):
            inputs[0]._as_array()
        arrays = (value.array() if isinstance(value, RowsGradient) else value for value in inputs)
        result = getattr(ufunc, method)(*arrays, **options)
        if isinstance(result, tuple):
            given = outputs or (None,) * len(result)
            return tuple(new if out is None else out for new, out in zip(result, given, strict=True))
        return outputs[0] if outputs else result

    def _append(self, other: Any) -> bool:
        if not (isinstance(other, RowsGradient) and other.shape == self.shape and other.dtype == self.dtype):
            return False
        if self._terms is None or other._terms is None:
            return False
        terms = other._terms
        if sum(len(indices) for indices, _ in terms) > 1:
            indices, values = other._sums()
            terms = [(indices[np.newaxis], values[np.newaxis])]
        if len(self._terms) >= _MOST_TERMS:
            indices, values = self._sums()
            self._terms = [(indices[np.newaxis], values[np.newaxis])]
        self._replace(self._terms + terms)
        return True

    def _scale(self, ufunc: np.ufunc, factor: Any) -> bool:
        # Others would give zeros another sign, or NaN.
        if self._terms is None or not _is_positive_number(factor):
            return False
        indices, values = self._sums()
        scaled = ufunc(values, factor, out=np.empty_like(values))
        self._replace([(indices[np.newaxis], scaled[np.newaxis])], (indices, scaled))
        return True

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> Any:
        array = self.array()
        part = array[key]
        if isinstance(part, np.ndarray) and np.may_share_memory(part, array):
            self.shared_array()
        return part

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is Ellipsis and isinstance(value, int | float) and value == 0:
            self._replace([])
        else:
            self._as_array()[key] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.array() if name in _METHODS else self.shared_array(), name)

    def __copy__(self) -> Self:
        return copy.deepcopy(self)


def replaced(grads: Any, take: Callable[[RowsGradient], Any]) -> Any:
    """The gradients with what `take` returns in place of each RowsGradient."""
    if isinstance(grads, RowsGradient):
        return take(grads)
    if isinstance(grads, list | tuple):
        return [replaced(value, take) for value in grads] if _may_have_rows(grads) else grads
    if type(grads) is dict:
        return {key: replaced(value, take) for key, value in grads.items()} if _may_have_rows(grads.values()) else grads
    return _Asked(grads, take) if isinstance(grads, dict) else grads


def _may_have_rows(values: Any) -> bool:
    return any(issubclass(kind, RowsGradient | list | tuple | dict) for kind in set(map(type, values)))


class _Asked(dict[Any, Any]):
    """A dict of a type of its own, which is asked for each of its values, as Python would."""

    def __init__(self, given: Any, take: Callable[[RowsGradient], Any]) -> None:
        super().__init__()
        self._given, self._take = given, take

    def __getitem__(self, key: Any) -> Any:
        return replaced(self._given[key], self._take)
