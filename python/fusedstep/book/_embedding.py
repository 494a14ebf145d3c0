"""The embeddings of the second volume, whose gradients are rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedstep.book._gradient import RowsGradient


def gradient_of(w: Any) -> Any:
    """A new gradient of a matrix: of its rows, if it is an array that our optimizers take, else the book's zeros."""
    if isinstance(w, np.ndarray) and w.ndim and w.dtype.isnative and w.dtype.char in "efd":
        return RowsGradient(w)
    return np.zeros_like(w)


def _row_numbers(idx: Any) -> NDArray[Any] | None:
    """The numbers of rows that are an index; None for one that selects in another way, such as a mask or a slice."""
    numbers = np.asarray(idx) if isinstance(idx, list | int) else idx
    return np.asarray(numbers) if getattr(numbers, "dtype", np.dtype(bool)).kind in "iu" else None


def _put(gradient: Any, idx: Any, dout: Any, *, in_steps: bool = False) -> None:
    """Sets the gradient of the matrix whose rows idx had the gradients dout.

    In steps, it is the sum of the gradients of each idx[:, t], in order.
    """
    dout = np.asarray(dout)
    if dout.dtype.kind in "iub":
        dout = dout.astype(np.float64)  # in which NumPy adds integers to floats
    if isinstance(gradient, RowsGradient):
        numbers, row = _row_numbers(idx), gradient.shape[1:]
        if numbers is not None and dout.dtype.char in "efd":
            dout = np.broadcast_to(dout, (*numbers.shape, *row))
            terms = 1
            if in_steps:
                terms, numbers, dout = numbers.shape[1], numbers.swapaxes(0, 1), dout.swapaxes(0, 1)
            length = numbers.size // max(terms, 1)
            gradient.assign(numbers.reshape(terms, length), dout.reshape(terms, length, *row))
            return
        gradient = gradient.zeros()
    gradient[...] = 0
    if not in_steps:
        np.add.at(gradient, idx, dout)
        return
    for t in range(dout.shape[1]):
        part = np.zeros_like(gradient)
        np.add.at(part, idx[:, t], dout[:, t])
        gradient += part


class Embedding:
    """Rows of a matrix by their numbers: y = W[idx].

    The gradient, in grads, is handed over to this module's optimizers as the rows that were touched. fusedstep's other
    functions take it as `fusedstep.Rows`, so that its optimizers with moments are lazy; for all other code it behaves
    as the book's array, and has its numbers.

    Arguments:
        W: The matrix, an array of shape (rows, ...).
    """

    def __init__(self, W: Any) -> None:  # noqa: N803, the book's name
        self.params: list[Any] = [W]
        self.grads: list[Any] = [gradient_of(W)]
        self.idx: Any = None

    def forward(self, idx: Any) -> Any:
        """The rows of an array of integers of any shape."""
        (w,) = self.params
        self.idx = idx
        return w[idx]

    def backward(self, dout: Any) -> None:
        """Sets the gradient of W, which is zero but for the rows of the last forward pass."""
        _put(self.grads[0], self.idx, dout)


class TimeEmbedding:
    """Rows of a matrix for integers of shape (N, T), as float32 of shape (N, T, D); see `Embedding`.

    Arguments:
        W: The matrix, an array of shape (rows, D).
    """

    def __init__(self, W: Any) -> None:  # noqa: N803, the book's name
        self.params: list[Any] = [W]
        self.grads: list[Any] = [gradient_of(W)]
        self.W = W
        self._xs: Any = None

    def forward(self, xs: Any) -> Any:
        """The rows of xs."""
        self._xs = xs
        return self.W[xs].astype(np.float32, copy=False)

    def backward(self, dout: Any) -> None:
        """Sets the gradient of W to the sum of the gradients of all steps in time, in their order."""
        _put(self.grads[0], self._xs, dout, in_steps=True)
