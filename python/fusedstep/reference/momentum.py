"""Gradient descent, with and without momentum."""

from typing import Any, ClassVar

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
