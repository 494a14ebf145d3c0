"""Gradient descent: plain, with momentum, averaged, and by the signs of the gradient."""

from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class SGD(Optimizer):
    """See fusedstep.SGD."""

    def __init__(
        self, lr: Any = 0.01, momentum: float = 0.0, *, dampening: float = 0.0, nesterov: bool = False, **options: Any
    ) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v",) if self.momentum != 0 else ()

    @property
    def counts_steps(self) -> bool:  # type: ignore[override]
        return self.momentum != 0

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, v: Array | None = None, *, steps: int = 0
    ) -> None:
        if v is None:
            w -= t(lr) * g
            return
        keep, c = (0.0, 1.0) if self.is_first else (self.momentum, 1 - self.dampening)
        v[...] = t(keep) * v + t(c) * g
        w -= t(lr) * (g + t(self.momentum) * v if self.nesterov else v)


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


class ASGD(Optimizer):
    """See fusedstep.ASGD."""

    state_names: ClassVar[tuple[str, ...]] = ("mean",)

    counts_steps: ClassVar[bool] = True
    starts: ClassVar[dict[str, str]] = {"mean": "parameter"}
    scalars: ClassVar[dict[str, float]] = {"eta": 0.0}

    def __init__(
        self, lr: Any = 0.01, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6, **options: Any
    ) -> None:
        super().__init__(lr, **options)
        self.lambd = lambd
        self.alpha = alpha
        self.t0 = t0

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, mean: Array, *, steps: int, eta: Array
    ) -> None:
        now = lr if self.is_first else float(eta)
        eta[...] = lr / (1 + self.lambd * lr * steps) ** self.alpha
        mu = 1 / max(1.0, steps - 1 - self.t0)
        w *= t(1 - self.lambd * now)
        w -= t(now) * g
        mean[...] = w if mu == 1 else mean + t(mu) * (w - mean)


class Rprop(Optimizer):
    """See fusedstep.Rprop."""

    state_names: ClassVar[tuple[str, ...]] = ("prev", "step_size")

    starts: ClassVar[dict[str, str]] = {"step_size": "lr"}

    def __init__(
        self,
        lr: Any = 0.01,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        step_min: float = 1e-6,
        step_max: float = 50.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.eta_minus = eta_minus
        self.eta_plus = eta_plus
        self.step_min = step_min
        self.step_max = step_max

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, prev: Array, step_size: Array
    ) -> None:
        product = g * prev
        factor = np.where(product == 0, t(1), product)  # a NaN stays
        factor = np.where(product > 0, t(self.eta_plus), np.where(product < 0, t(self.eta_minus), factor))
        step_size *= factor
        step_size[step_size < t(self.step_min)] = t(self.step_min)
        step_size[step_size > t(self.step_max)] = t(self.step_max)
        prev[...] = np.where(product < 0, t(0), g)
        w -= np.where(prev > 0, t(1), np.where(prev < 0, t(-1), prev)) * step_size
