"""Adafactor, whose second moments are those of rows and columns."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import TILE, Array, sum_of_squares, sums_of_squares

BLOCK = 16 * TILE
MOST_BLOCKS = 64


class Adafactor(Optimizer):
    """See fusedstep.Adafactor.

    The last two axes are those of matrices, and an array with fewer axes is one row. The sum of squares of a row is
    `sum_of_squares`. Those of columns are taken in float64, row by row, in blocks of 16384 // columns rows, but at
    most 64 blocks, and then added up in the order of the blocks. The mean of the moments of rows is taken in float64,
    in their order.
    """

    counts_steps: ClassVar[bool] = True
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 0.01,
        beta1: float = 0.0,
        beta2_decay: float = 0.8,
        eps1: float | None = 1e-30,
        eps2: float = 1e-3,
        clip_threshold: float | None = 1.0,
        *,
        relative_step: bool = True,
        scale_parameter: bool = True,
        eps1_as_floor: bool = False,
        decay_first: bool = False,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2_decay = beta2_decay
        self.eps1 = eps1
        self.eps2 = eps2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step
        self.scale_parameter = scale_parameter
        self.eps1_as_floor = eps1_as_floor
        self.decay_first = decay_first

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the states."""
        return ("row", "column", "m") if self.beta1 != 0 else ("row", "column")

    def state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a state of a parameter."""
        if name == "row":
            return (*shape[:-1], 1) if len(shape) > 1 else (0,)
        if name == "column" and len(shape) > 1:
            return (*shape[:-2], 1, shape[-1])
        return shape

    def step(  # type: ignore[override]
        self,
        t: Rounded,
        lr: float,
        w: Array,
        g: Array,
        row: Array,
        column: Array,
        m: Array | None = None,
        *,
        steps: int,
        decay: float,
    ) -> None:
        if w.size == 0:
            return
        rows, columns = ((1, 1, *w.shape))[-2:] if w.ndim > 1 else (1, w.size)
        matrices = w.size // (rows * columns)
        if decay != 0 and self.decay_first:
            w *= t(1 - lr * decay)
            decay = 0.0
        eps1 = float(np.finfo(w.dtype).eps) if self.eps1 is None else self.eps1
        floor, added = (eps1, 0.0) if self.eps1_as_floor else (0.0, eps1)
        rate = t(float(steps) ** -self.beta2_decay)

        squares = np.square(g.reshape(matrices, rows, columns), dtype=np.float64)
        block = min(max(BLOCK // columns, -(-rows // MOST_BLOCKS), 1), rows)
        blocks = [np.cumsum(squares[:, i : i + block], axis=1)[:, -1] for i in range(0, rows, block)]
        column_sums = np.cumsum(blocks, axis=0)[-1]
        column += rate * ((column_sums / rows + added).astype(w.dtype).reshape(column.shape) - column)
        roots = np.sqrt(column)
        if row.size != 0:
            row_sums = sums_of_squares(g.reshape(-1, columns))
            row += rate * ((row_sums / columns + added).astype(w.dtype).reshape(row.shape) - row)
            moments = row.astype(np.float64).reshape(matrices, rows)
            means = np.cumsum(moments, axis=1)[:, -1:] / rows
            means[means < floor] = floor
            roots = np.sqrt(moments / means).astype(w.dtype).reshape(row.shape) * roots
        u = g / np.where(roots < t(floor), t(floor), roots)

        step = min(lr, 1 / math.sqrt(steps)) if self.relative_step else lr
        if self.scale_parameter:
            rms = math.sqrt(sum_of_squares(w) / w.size)
            step *= max(self.eps2, rms)
        if self.clip_threshold is not None:
            excess = float(np.float64(math.sqrt(sum_of_squares(u) / w.size)) / self.clip_threshold)
            step = step / excess if excess > 1 else step
        keep = t(1 - lr * decay)
        if m is None:
            w[...] = keep * w - t(step) * u
        else:
            m += t(1 - self.beta1) * (t(step) * u - m)
            w[...] = keep * w - m
