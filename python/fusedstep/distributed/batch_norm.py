"""Batch normalisation with the statistics of all processes' data."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fusedstep import _native
from fusedstep._limits import checked, checked_flag
from fusedstep._types import SharesMemory
from fusedstep.batch_norm import BatchNorm
from fusedstep.distributed.communicators import Communicator

Float64Array = NDArray[np.float64]


class SyncBatchNorm(BatchNorm[Any]):
    """A `fusedstep.BatchNorm` whose batch is that of all processes together.

    In training, each process gives the part of the batch that it has, of any number of elements, also none. Mean and
    variance of the parts are merged in the order of the processes' numbers (Chan, Golub and LeVeque 1979), so all have
    the same running averages, and results are within the bounds that `fusedstep.BatchNorm` has for the parts one
    behind the other, as long as the variance is below the largest double. dgamma and dbeta are this process' parts, as
    the gradients of all other parameters are: `Sharded` adds them up.

    Arguments:
        num_features: As in `fusedstep.BatchNorm`.
        comm: A communicator, as that of `Sharded`.
        eps: As in `fusedstep.BatchNorm`.
        decay: As in `fusedstep.BatchNorm`.
        channel_axis: As in `fusedstep.BatchNorm`.
        dtype: As in `fusedstep.BatchNorm`.
        unbiased_running_var: As in `fusedstep.BatchNorm`, with the number of all processes' elements.

    Attributes:
        comm: The communicator that was given; None in copies and pickles, which must be given one again.
    """

    def __init__(
        self,
        num_features: int,
        comm: Communicator,
        eps: float = 1e-5,
        decay: float = 0.9,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
        *,
        unbiased_running_var: bool = False,
    ) -> None:
        super().__init__(num_features, eps, decay, channel_axis, dtype, unbiased_running_var=unbiased_running_var)
        self.comm = comm
        self._count = 0

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"comm": None}  # which has no copy

    def forward(self, x: SharesMemory, training: bool = True, out: SharesMemory | None = None) -> Any:
        """Normalises this process' part; in training all processes must call this.

        Raises:
            ValueError, TypeError: As for `fusedstep.BatchNorm.forward`, in the process that they concern, and
                RuntimeError in the others; the running averages then haven't changed.
        """
        if not training:
            return super().forward(x, False, out)
        error: Exception | None = None
        part: Any = None
        target: Any = None
        try:
            x, target = _native.as_native("x", x), None if out is None else _native.as_native("out", out)
            if target is not None:
                if target.shape != x.shape or target.dtype != x.dtype:
                    raise ValueError(
                        f"out has shape {target.shape} and dtype {target.dtype}, x has {x.shape} and {x.dtype}"
                    )
                if _native.share_memory(x, target):
                    raise ValueError("out shares memory with x, which the backward pass needs")
            part = _native.batch_norm_moments(x, self.eps, self.channel_axis)
            if len(part[0]) != self.num_features:
                raise ValueError(f"x has {len(part[0])} channels, expected {self.num_features}")
        except Exception as caught:
            error = caught
        parts = self._exchanged(part, error)
        mean, rest, var, count = _merged(parts)
        if count == 0:
            raise ValueError("x has no elements in any process to take the mean of")
        inv_std = 1 / np.sqrt(var + self.eps)
        y = _native.batch_norm_inference(x, self.gamma, self.beta, mean, var, self.eps, self.channel_axis, target, rest)
        decay = checked("decay", self.decay)
        unbiased = checked_flag("unbiased_running_var", self.unbiased_running_var) and count > 1
        now = var * (count / (count - 1)) if unbiased else var
        with np.errstate(all="ignore"):  # numbers beyond float32 become infinite, as in BatchNorm
            self.running_mean[...] = decay * self.running_mean.astype(np.float64) + (1 - decay) * mean
            self.running_var[...] = decay * self.running_var.astype(np.float64) + (1 - decay) * now
        self._saved, self._count = (x, mean, inv_std), count
        return y if out is None else out

    def backward(self, dout: SharesMemory, out: SharesMemory | None = None) -> Any:
        """The gradient with respect to this process' part; all processes must call this. Sets dgamma and dbeta, too.

        Raises:
            RuntimeError: There was no forward pass in training, or another process has raised an error.
            ValueError, TypeError: As for `fusedstep.batch_norm_backward`.
        """
        if self._saved is None:
            raise RuntimeError("backward needs a forward pass in training before it")
        x, mean, inv_std = self._saved
        error: Exception | None = None
        part: Any = None
        try:
            part = _native.batch_norm_sums(dout, x, mean, self.channel_axis)
        except Exception as caught:
            error = caught
        parts = self._exchanged(part, error)
        dots, sums = (_added([each[i] for each in parts]) for i in (0, 1))
        dx = _native.batch_norm_gradient(
            dout, x, self.gamma, mean, inv_std, dots * inv_std, sums, self._count, self.channel_axis, out
        )
        dtype = _native.as_native("x", x).dtype
        self.dgamma: NDArray[Any] | None = (part[0] * inv_std).astype(dtype)
        self.dbeta: NDArray[Any] | None = part[1].astype(dtype)
        return dx

    def _exchanged(self, part: Any, error: Exception | None) -> list[Any]:
        """The parts of all processes; an error of one is an error of all."""
        parts = self.comm.allgather(part if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, other in enumerate(parts):
            if isinstance(other, str):
                raise RuntimeError(f"process {rank}: {other}")
        return parts


def _two_sum(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """A sum and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _added(terms: list[Float64Array]) -> Float64Array:
    """The sum, whose rounding errors are kept beside it."""
    high, low = terms[0], np.zeros_like(terms[0])
    for term in terms[1:]:
        high, rounding = _two_sum(high, term)
        low += rounding
    return high + np.where(np.isfinite(high), low, 0)


def _merged(parts: list[Any]) -> tuple[Float64Array, Float64Array, Float64Array, int]:
    """Mean, what it was rounded by, variance and number of elements of all parts."""
    (mean, rest, m2, count), *others = [part for part in parts if part[3] > 0] or parts[:1]
    for other_mean, other_rest, other_m2, other_count in others:
        total = count + other_count
        difference = (other_mean - mean) + (other_rest - rest)
        m2 = m2 + (other_m2 + difference * difference * (count * (other_count / total)))
        mean, rounding = _two_sum(mean, difference * (other_count / total))
        rest, count = rest + rounding, total
    return mean, rest, m2 / max(count, 1), count
