"""Rules whose step is scaled by norms of the array itself."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array, sum_of_squares


class LAMB(Optimizer):
    """See fusedstep.LAMB. The norms are roots of `sum_of_squares`, in float64, as is the ratio."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")
    counts_steps: ClassVar[bool] = True
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        *,
        trust_clip: bool = False,
        decay_in_update: bool = True,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.trust_clip = trust_clip
        self.decay_in_update = decay_in_update

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int, decay: float
    ) -> None:
        root = math.sqrt(1 - self.beta2**steps)
        if decay != 0 and not self.decay_in_update:
            w *= t(1 - lr * decay)
            decay = 0.0
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        u = t(root / (1 - self.beta1**steps)) * m / (np.sqrt(v) + t(self.eps * root)) + t(decay) * w
        w_norm, u_norm = math.sqrt(sum_of_squares(w)), math.sqrt(sum_of_squares(u))
        ratio = 1.0 if w_norm == 0 or u_norm == 0 else w_norm / u_norm
        if self.trust_clip and ratio > 1:
            ratio = 1.0
        w -= t(lr * ratio) * u


class LARS(Optimizer):
    """See fusedstep.LARS. The norms are roots of `sum_of_squares`, in float64, as is the ratio."""

    state_names: ClassVar[tuple[str, ...]] = ("v",)
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 0.1,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        *,
        nesterov: bool = False,
        trust_clip: bool = False,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.eps = eps
        self.nesterov = nesterov
        self.trust_clip = trust_clip

    def step(self, t: Rounded, lr: float, w: Array, g: Array, v: Array, *, decay: float) -> None:  # type: ignore[override]
        w_norm, g_norm = math.sqrt(sum_of_squares(w)), math.sqrt(sum_of_squares(g))
        step = lr
        if w_norm != 0 and g_norm != 0:
            divisor = np.float64(g_norm + decay * w_norm + self.eps)
            ratio = float(self.trust_coefficient * w_norm / divisor)
            step = lr * ratio
            if self.trust_clip:
                step = min(ratio, lr)
        a, change = t(self.momentum), t(step) * (g + t(decay) * w)
        v[...] = a * v + change
        w -= a * v + change if self.nesterov else v


class StableAdamW(Optimizer):
    """See fusedstep.StableAdamW. The mean is that of `sum_of_squares` of g / sqrt(max(v, eps^2)), in float64."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")
    counts_steps: ClassVar[bool] = True
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int, decay: float
    ) -> None:
        m += t((1 - self.beta1) / (1 - self.beta1**steps)) * (g - m)
        v += t((1 - self.beta2) / (1 - self.beta2**steps)) * (g * g - v)
        if w.size != 0:
            rms = math.sqrt(sum_of_squares(g / np.sqrt(np.maximum(v, t(self.eps * self.eps)))) / w.size)
            lr = lr / rms if rms > 1 else lr
        w[...] = t(1 - lr * decay) * w - t(lr) * m / (np.sqrt(v) + t(self.eps))
