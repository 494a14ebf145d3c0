"""The rules of the optimizers."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class SGD(Optimizer):
    """See fusedstep.SGD."""

    def __init__(self, lr: Any = 0.01, **options: Any) -> None:
        super().__init__(lr, **options)

    def step(self, t: Rounded, lr: float, w: Array, g: Array) -> None:  # type: ignore[override]
        w -= t(lr) * g


class Momentum(Optimizer):
    """See fusedstep.Momentum."""

    state_names: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self, lr: Any = 0.01, momentum: float = 0.9, lr_in_velocity: bool = True, **options: Any) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum
        self.lr_in_velocity = lr_in_velocity

    def step(self, t: Rounded, lr: float, w: Array, g: Array, v: Array) -> None:  # type: ignore[override]
        a = self.momentum
        if self.lr_in_velocity:
            v[...] = t(a) * v - t(lr) * g
            w += v
        else:
            v[...] = t(a) * v + g
            w -= t(lr) * v


class Nesterov(Optimizer):
    """See fusedstep.Nesterov, and for legacy fusedstep.book.Nesterov."""

    state_names: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self, lr: Any = 0.01, momentum: float = 0.9, legacy: bool = False, **options: Any) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum
        self.legacy = legacy

    def step(self, t: Rounded, lr: float, w: Array, g: Array, v: Array) -> None:  # type: ignore[override]
        a = self.momentum
        new = t(a) * v - t(lr) * g
        w += t(a * a) * (new if self.legacy else v)
        w -= t((1 + a) * lr) * g
        v[...] = new


class AdaGrad(Optimizer):
    """See fusedstep.AdaGrad."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, lr: Any = 0.01, eps: float = 1e-7, *, eps_inside_root: bool = False, **options: Any) -> None:
        super().__init__(lr, **options)
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h += g * g
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        w -= t(lr) * g / (np.sqrt(h + t(inside)) + t(outside))


class RMSProp(Optimizer):
    """See fusedstep.RMSProp."""

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(
        self,
        lr: Any = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        eps_inside_root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.decay_rate = decay_rate
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h *= t(self.decay_rate)
        h += t(1 - self.decay_rate) * g * g
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        w -= t(lr) * g / (np.sqrt(h + t(inside)) + t(outside))


class Adam(Optimizer):
    """See fusedstep.Adam."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    counts_steps: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        eps_inside_root: bool = False,
        eps_corrected: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root
        self.eps_corrected = eps_corrected

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int
    ) -> None:
        correction = 1 - self.beta2**steps
        root = math.sqrt(correction)
        step = lr * root / (1 - self.beta1**steps)
        inside = self.eps * (correction if self.eps_corrected else 1) if self.eps_inside_root else 0.0
        outside = 0.0 if self.eps_inside_root else self.eps * (root if self.eps_corrected else 1)
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        w -= t(step) * m / (np.sqrt(v + t(inside)) + t(outside))


class AdamW(Adam):
    """See fusedstep.AdamW."""

    def __init__(self, *args: Any, weight_decay: float = 0.01, decoupled: bool = True, **options: Any) -> None:
        super().__init__(*args, weight_decay=weight_decay, decoupled=decoupled, **options)
