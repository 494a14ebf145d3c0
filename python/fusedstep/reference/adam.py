"""Adam and its relatives."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class _Moments(Optimizer):
    """What the rules of this family have in common."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    counts_steps: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any,
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

    def root(self, t: Rounded, v: Array, correction: float) -> Array:
        """The root of v without its bias correction, and epsilon."""
        factors = (correction, math.sqrt(correction)) if self.eps_corrected else (1, 1)
        inside, outside = (self.eps * factor for factor in factors)
        inside, outside = (inside, 0.0) if self.eps_inside_root else (0.0, outside)
        root: Array = np.sqrt(v + t(inside)) + t(outside)
        return root


class Adam(_Moments):
    """See fusedstep.Adam."""

    def __init__(
        self, lr: Any = 1e-3, *args: Any, amsgrad: bool = False, max_corrected: bool = False, **options: Any
    ) -> None:
        super().__init__(lr, *args, **options)
        self.amsgrad = amsgrad
        self.max_corrected = max_corrected

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("m", "v", "vmax") if self.amsgrad else ("m", "v")

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, vmax: Array | None = None, *, steps: int
    ) -> None:
        correction = 1 - self.beta2**steps
        step = lr * math.sqrt(correction) / (1 - self.beta1**steps)
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        if vmax is None:
            w -= t(step) * m / self.root(t, v, correction)
        elif self.max_corrected:
            vmax[...] = larger(vmax, t(1 / correction) * v)
            w -= t(lr / (1 - self.beta1**steps)) * m / self.root(t, vmax, 1.0)
        else:
            vmax[...] = larger(vmax, v)
            w -= t(step) * m / self.root(t, vmax, correction)


class AdamW(Adam):
    """See fusedstep.AdamW."""

    def __init__(self, *args: Any, weight_decay: float = 0.01, decoupled: bool = True, **options: Any) -> None:
        super().__init__(*args, weight_decay=weight_decay, decoupled=decoupled, **options)


class Adamax(Optimizer):
    """See fusedstep.Adamax."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "u")

    counts_steps: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 2e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        eps_inside_max: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_max = eps_inside_max

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, u: Array, *, steps: int
    ) -> None:
        inside, outside = (self.eps, 0.0) if self.eps_inside_max else (0.0, self.eps)
        m += t(1 - self.beta1) * (g - m)
        u[...] = larger(t(self.beta2) * u, np.abs(g) + t(inside))
        w -= t(lr / (1 - self.beta1**steps)) * m / (u + t(outside))


class RAdam(_Moments):
    """See fusedstep.RAdam."""

    def __init__(
        self, lr: Any = 1e-3, *args: Any, eps_corrected: bool = False, threshold: float = 5.0, **options: Any
    ) -> None:
        super().__init__(lr, *args, eps_corrected=eps_corrected, **options)
        self.threshold = threshold

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int
    ) -> None:
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        first, second = 1 - self.beta1**steps, 1 - self.beta2**steps
        most = 2 / (1 - self.beta2) - 1
        length = most - 2 * steps * self.beta2**steps / second
        if length > max(self.threshold, 4.0):
            rectification = math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
            step = lr * rectification * math.sqrt(second) / first
            w -= t(step) * m / self.root(t, v, second)
        else:
            w -= t(lr / first) * m


class NAdam(_Moments):
    """See fusedstep.NAdam."""

    scalars: ClassVar[dict[str, float]] = {"mu_product": 1.0}

    def __init__(self, lr: Any = 2e-3, *args: Any, momentum_decay: float = 4e-3, **options: Any) -> None:
        super().__init__(lr, *args, **options)
        self.momentum_decay = momentum_decay

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int, mu_product: Array
    ) -> None:
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        mu, following = (self.beta1 * (1 - 0.5 * 0.96 ** (n * self.momentum_decay)) for n in (steps, steps + 1))
        mu_product *= mu
        product, correction = float(mu_product), 1 - self.beta2**steps
        root = math.sqrt(correction)
        of_gradient = lr * (1 - mu) / (1 - product) * root
        of_mean = lr * following / (1 - product * following) * root
        w -= (t(of_gradient) * g + t(of_mean) * m) / self.root(t, v, correction)


def larger(a: Array, b: Array) -> Array:
    """NumPy's maximum, which is a NaN if either is one; of two zeros a."""
    return np.where((a >= b) | np.isnan(a), a, b)
