"""Rules that divide by the root of a sum or mean of squared gradients."""

from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class AdaGrad(Optimizer):
    """See fusedstep.AdaGrad."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    starts: ClassVar[dict[str, str]] = {"h": "initial_accumulator"}

    def __init__(
        self,
        lr: Any = 0.01,
        eps: float = 1e-7,
        *,
        eps_inside_root: bool = False,
        initial_accumulator: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.eps = eps
        self.eps_inside_root = eps_inside_root
        self.initial_accumulator = initial_accumulator

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h += g * g
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        w -= t(lr) * g / (np.sqrt(h + t(inside)) + t(outside))


class Adadelta(Optimizer):
    """See fusedstep.Adadelta."""

    state_names: ClassVar[tuple[str, ...]] = ("h", "d")

    def __init__(
        self, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, *, one_root: bool = False, **options: Any
    ) -> None:
        super().__init__(lr, **options)
        self.rho = rho
        self.eps = eps
        self.one_root = one_root

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array, d: Array) -> None:  # type: ignore[override]
        keep, c = t(self.rho), t(1 - self.rho)
        h[...] = keep * h + c * g * g
        eps = t(self.eps)
        delta = (np.sqrt((d + eps) / (h + eps)) if self.one_root else np.sqrt(d + eps) / np.sqrt(h + eps)) * g
        d[...] = keep * d + c * delta * delta
        w -= t(lr) * delta


class RMSProp(Optimizer):
    """See fusedstep.RMSProp."""

    starts: ClassVar[dict[str, str]] = {"h": "initial_accumulator"}

    def __init__(
        self,
        lr: Any = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        momentum: float = 0.0,
        centered: bool = False,
        lr_in_velocity: bool = False,
        eps_inside_root: bool = False,
        initial_accumulator: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.decay_rate = decay_rate
        self.eps = eps
        self.momentum = momentum
        self.centered = centered
        self.lr_in_velocity = lr_in_velocity
        self.eps_inside_root = eps_inside_root
        self.initial_accumulator = initial_accumulator

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return "h", *(("mean",) if self.centered else ()), *(("v",) if self.momentum != 0 else ())

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, h: Array, mean: Array | None = None, v: Array | None = None
    ) -> None:
        h *= t(self.decay_rate)
        h += t(1 - self.decay_rate) * g * g
        square = h
        if mean is not None:
            mean += t(1 - self.decay_rate) * (g - mean)
            square = h - mean * mean
            square = np.where(square < 0, t(0), square)  # a NaN stays
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        root = np.sqrt(square + t(inside)) + t(outside)
        if v is None:
            w -= t(lr) * g / root
            return
        lr_inside, lr_outside = (lr, 1.0) if self.lr_in_velocity else (1.0, lr)
        v[...] = t(self.momentum) * v + t(lr_inside) * g / root
        w -= t(lr_outside) * v
