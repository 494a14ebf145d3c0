"""Schedule-Free rules."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array, arithmetic_of, numbers, stored


class _ScheduleFree(Optimizer):
    counts_steps: ClassVar[bool] = True
    starts: ClassVar[dict[str, str]] = {"z": "parameter"}
    scalars: ClassVar[dict[str, float]] = {"weight_sum": 0.0, "lr_max": 0.0}
    decays: ClassVar[bool] = True
    beta_name: ClassVar[str]

    def __init__(self, lr: Any, warmup_steps: float, r: float, weight_lr_power: float, **options: Any) -> None:
        super().__init__(lr, **options)
        self.warmup_steps = warmup_steps
        self.r = r
        self.weight_lr_power = weight_lr_power
        self.training: bool = True

    def eval(self, params: Any) -> None:
        """See fusedstep.ScheduleFreeAdamW.eval."""
        if self.training:
            self._interpolate(params, lambda beta: 1 - 1 / beta)
        self.training = False

    def train(self, params: Any) -> None:
        """See fusedstep.ScheduleFreeAdamW.train."""
        if not self.training:
            self._interpolate(params, lambda beta: 1 - beta)
        self.training = True

    def _interpolate(self, params: Any, weight_of: Any) -> None:
        if isinstance(params, np.ndarray):
            params = (params,)
        for key in params if isinstance(params, dict) else range(len(params)):
            beta = getattr(self.of_group(key, params[key]), self.beta_name)
            state = self.state.get(key)
            if state is None or beta == 0:
                continue
            param = params[key] if isinstance(params[key], np.ndarray) else np.array(params[key])
            dtype = arithmetic_of(param)
            whole = state["master"] if self.master and param.dtype != dtype else param
            w = np.array(numbers(whole, dtype))
            w += dtype.type(weight_of(beta)) * (numbers(state["z"], dtype) - w)
            whole[...] = w
            param[...] = stored(w, param.dtype)
            if param is not params[key]:
                params[key] = type(params[key])(param[()])

    def _pace(self, lr: float, steps: int, weight_sum: Any, lr_max: Any) -> tuple[float, float]:
        """The learning rate after warm-up, and the share of z in the average."""
        if steps < self.warmup_steps:
            lr *= steps / self.warmup_steps
        lr_max[...] = max(lr, float(lr_max))
        weight = _power(steps, self.r) * _power(float(lr_max), self.weight_lr_power)
        weight_sum[...] = total = float(weight_sum) + weight
        return lr, 0.0 if total == 0 else 1.0 if math.isinf(weight) else weight / total


def _power(base: float, exponent: float) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


class ScheduleFreeSGD(_ScheduleFree):
    """See fusedstep.ScheduleFreeSGD."""

    state_names: ClassVar[tuple[str, ...]] = ("z",)
    beta_name: ClassVar[str] = "momentum"

    def __init__(
        self,
        lr: Any = 1.0,
        momentum: float = 0.9,
        warmup_steps: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, warmup_steps, r, weight_lr_power, **options)
        self.momentum = momentum

    def step(  # type: ignore[override]
        self,
        t: Rounded,
        lr: float,
        w: Array,
        g: Array,
        z: Array,
        *,
        steps: int,
        weight_sum: Array,
        lr_max: Array,
        decay: float,
    ) -> None:
        if self.is_first:
            z[...] = w
        lr, share = self._pace(lr, steps, weight_sum, lr_max)
        if decay != 0:
            g = g + t(decay) * w
        w += t(share) * (z - w)
        w += t(lr * (self.momentum * (1 - share) - 1)) * g
        z -= t(lr) * g


class ScheduleFreeAdamW(_ScheduleFree):
    """See fusedstep.ScheduleFreeAdamW."""

    state_names: ClassVar[tuple[str, ...]] = ("z", "v")
    beta_name: ClassVar[str] = "beta1"

    def __init__(
        self,
        lr: Any = 2.5e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        warmup_steps: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, warmup_steps, r, weight_lr_power, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def step(  # type: ignore[override]
        self,
        t: Rounded,
        lr: float,
        w: Array,
        g: Array,
        z: Array,
        v: Array,
        *,
        steps: int,
        weight_sum: Array,
        lr_max: Array,
        decay: float,
    ) -> None:
        if self.is_first:
            z[...] = w
        lr, share = self._pace(lr, steps, weight_sum, lr_max)
        root = math.sqrt(1 - self.beta2**steps)
        v += t(1 - self.beta2) * (g * g - v)
        direction = t(root) * g / (np.sqrt(v) + t(self.eps * root)) + t(decay) * w
        w += t(share) * (z - w)
        w += t(lr * (self.beta1 * (1 - share) - 1)) * direction
        z -= t(lr) * direction
