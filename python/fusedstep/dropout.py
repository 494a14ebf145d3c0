"""Dropout: the layer and its function. The arithmetic is in the extension module."""

import os
import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._elsewhere import Elsewhere
from fusedstep._layer import Layer
from fusedstep._limits import checked, checked_flag, checked_uint64
from fusedstep._types import F, SharesMemory
from fusedstep.optimizers.snapshots import require_names


@overload
def dropout(
    x: NDArray[F], rate: float = 0.5, *, seed: int, call: int = 0, out: NDArray[F] | None = None
) -> NDArray[F]: ...
@overload
def dropout(
    x: SharesMemory, rate: float = 0.5, *, seed: int, call: int = 0, out: SharesMemory | None = None
) -> Any: ...
def dropout(x: SharesMemory, rate: float = 0.5, *, seed: int, call: int = 0, out: SharesMemory | None = None) -> Any:
    """Drops a part of the elements at random and scales the others up (Srivastava et al. 2014, in its inverted form).

        y[i] = x[i] (1 / (1 - rate) if u(seed, call, i) >= rate else 0)

    u is uniform in [0, 1) in steps of 2^-32, and i the element's number in row-major order. So the mask is the same for
    both types, on every instruction set, with any number of threads, and for any layout of the array, and it need not
    be stored: with dout, the gradient with respect to y, the gradient with respect to x is
    `dropout(dout, rate, seed=seed, call=call)`.

    u is made by Threefry-4x32 with 13 rounds, a counter-based generator, with seed and call as its key (Salmon et al.
    2011); `fusedstep.reference.dropout_mask` is the same in NumPy.

    Arguments:
        x: float32 or float64, of any shape. An array that isn't contiguous in row-major order is copied.
        rate: The part to drop, from 0 to below 1. An element is dropped with this probability rounded to a multiple of
            2^-32. Above 1 - 2^-16 the factor follows the rounded rate, 1 - 2^-32 at most, so y has the mean x for every
            rate, to 2^-17 of it.
        seed: From 0 to 2^64 - 1. Masks of different seeds are independent.
        call: From 0 to 2^64 - 1. Masks of different calls are independent.
        out: The array for y, of the shape and type of x. May be x.

    As in `Optimizer.update`, x and out may be other objects that share memory of the CPU, such as PyTorch tensors, but
    not one that requires a gradient, as autograd doesn't see the call. y is the object given as out, else a
    NumPy array.

    Returns:
        y, of the type of x. Dropped elements are multiplied by 0, so a NaN stays one. Subnormal numbers are flushed to
        zero, see `set_flush_subnormals`.

    Raises:
        ValueError: rate, seed or call is out of range, or the shape or type of out isn't that of x.
        TypeError: x or out is not a float32 or float64 array, or doesn't share memory of the CPU; or rate, seed or call
            is not a number.
    """
    return _native.dropout(x, checked("rate", rate), checked_uint64("seed", seed), checked_uint64("call", call), out)


_counting = threading.Lock()
_forks = 0  # between the first process and this one


def _begin_in_child() -> None:
    global _counting, _forks
    _counting = threading.Lock()  # of which the parent's thread may hold the old one
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


class Dropout(Layer):
    """A dropout layer: `dropout` in training, otherwise it returns its input.

    Arguments:
        rate: The part to drop, from 0 to below 1.
        seed: From 0 to 2^64 - 1; None for one that the system chooses, anew in each process that is forked. Layers
            with the same seed drop the same elements, so give each its own, and each worker's.

    Attributes:
        rate: May be changed between calls.
        seed: The seed that was given, or the one that was chosen.
        calls: The number of forward passes in training; each has its own mask. With seed and calls restored, a layer
            continues as if it hadn't been stopped.
    """

    __slots__ = ("_drawn", "_saved", "calls", "rate", "seed")
    if not TYPE_CHECKING:
        p, ratio, dropout_ratio = (Elsewhere("rate takes its place") for _ in range(3))

    def __init__(self, rate: float = 0.5, seed: int | None = None) -> None:
        self.rate: float = checked("rate", rate)
        self._drawn: tuple[int, int] | None = None  # the seed that the system has chosen, and _forks at that time
        self.seed: int = 0
        if seed is None:
            self._draw_seed()
        else:
            self.seed = checked_uint64("seed", seed)
        self.calls: int = 0
        self._saved: tuple[tuple[int, ...], float, int, int] | None = None

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        super().__setstate__({"_drawn": None} | attributes)
        if self._drawn:
            self._drawn = self._drawn[0], _forks  # an unpickled layer keeps its seed

    def _draw_seed(self) -> int:
        self.seed = secrets.randbits(64)
        self._drawn = self.seed, _forks
        return self.seed

    def __repr__(self) -> str:
        return f"Dropout(rate={self.rate!r}, seed={self.seed!r})"

    @overload
    def forward(self, x: NDArray[F], training: bool = True, out: NDArray[F] | None = None) -> NDArray[F]: ...
    @overload
    def forward(self, x: SharesMemory, training: bool = True, out: SharesMemory | None = None) -> Any: ...
    def forward(self, x: SharesMemory, training: bool = True, out: SharesMemory | None = None) -> Any:
        """Drops a part of x in training. Otherwise returns x itself, or `out` with its values.

        Raises:
            ValueError, TypeError: As for `dropout`; the call then doesn't count.
        """
        if not training:
            if out is None:
                return x
            return _native.copy(x, out)
        x = _native.as_native("x", x)
        with _counting:  # a call of another thread gets another number
            seed, call = checked_uint64("seed", self.seed), checked_uint64("calls", self.calls)
            if self._drawn and self._drawn[0] == seed and self._drawn[1] != _forks:
                seed = self._draw_seed()
            self.calls = call + 1
        try:
            y = dropout(x, self.rate, seed=seed, call=call, out=out)
        except BaseException:
            with _counting:
                if self.calls == call + 1:
                    self.calls = call
            raise
        self._saved = x.shape, self.rate, seed, call
        return y

    @overload
    def backward(self, dout: NDArray[F], out: NDArray[F] | None = None) -> NDArray[F]: ...
    @overload
    def backward(self, dout: SharesMemory, out: SharesMemory | None = None) -> Any: ...
    def backward(self, dout: SharesMemory, out: SharesMemory | None = None) -> Any:
        """The gradient with respect to the x of the last forward pass in training, by the same mask.

        Raises:
            RuntimeError: There was no forward pass in training.
            ValueError: The shape of dout isn't that of x.
            ValueError, TypeError: As for `dropout`.
        """
        if self._saved is None:
            raise RuntimeError("backward needs a forward pass in training before it")
        shape, rate, seed, call = self._saved
        dout = _native.as_native("dout", dout)
        if dout.shape != shape:
            raise ValueError(f"dout has shape {dout.shape}, x has {shape}")
        return dropout(dout, rate, seed=seed, call=call, out=out)

    def state_dict(self) -> dict[str, Any]:
        """A snapshot as a plain dict: rate, seed, calls, and drawn, whether the system has chosen the seed."""
        with _counting:
            drawn = self._drawn is not None and self._drawn[0] == self.seed
            return {"rate": self.rate, "seed": self.seed, "calls": self.calls, "drawn": drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a snapshot made by `state_dict`: this layer's next masks equal the other layer's.

        Raises:
            ValueError: The snapshot has other names, or a number is out of range.
            TypeError: Something in it is of another type. After any error nothing has changed.
        """
        self._loader(state_dict)()

    def _loader(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """What loads a snapshot, in which nothing is wrong."""
        require_names(state_dict, {"rate", "seed", "calls", "drawn"})
        rate, drawn = checked("rate", state_dict["rate"]), checked_flag("drawn", state_dict["drawn"])
        seed, calls = (checked_uint64(name, state_dict[name]) for name in ("seed", "calls"))

        def load() -> None:
            with _counting:
                self.rate, self.seed, self.calls = rate, seed, calls
                self._drawn = (seed, _forks) if drawn else None

        return load
