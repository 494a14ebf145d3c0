"""The rules of the optimizers."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.storage import Array, arithmetic_of, numbers, stored

Rounded = Callable[[float], Any]


class Optimizer:
    """The base class of the rules: a pass over the parameters, state and counts by key, the scale, weight decay.

    A parameter is computed in float64 if it is of that type, else in float32, and has state of the type that it is
    computed in. The order: the gradient is scaled, L2 decay is added to it, decoupled decay shrinks the parameter, then
    comes the rule.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    counts_steps: ClassVar[bool] = False

    def __init__(self, lr: Any, *, weight_decay: float = 0.0, decoupled: bool = False, scale: float = 1.0) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.decoupled = decoupled
        self.scale = scale
        self.iterations: int = 0
        self.state: dict[Any, dict[str, Array]] = {}
        self.steps: dict[Any, int] = {}

    def update(self, params: Any, grads: Any) -> None:
        """Updates the arrays in place; a number in a dict or list is replaced."""
        lr = float(self.lr(self.iterations) if callable(self.lr) else self.lr)
        self.iterations += 1
        if isinstance(params, np.ndarray):
            params, grads = (params,), (grads,)
        for key in params if isinstance(params, dict) else range(len(params)):
            if grads[key] is None:
                continue
            given = params[key] if isinstance(params[key], np.ndarray) else np.array(params[key])
            self._update_one(key, lr, given, grads[key])
            if given is not params[key]:
                params[key] = type(params[key])(given[()])

    def _update_one(self, key: Any, lr: float, given: Array, gradient: Any) -> None:
        w = numbers(given, arithmetic_of(given))
        t = w.dtype.type
        g = numbers(np.asarray(gradient), w.dtype)
        if np.may_share_memory(w, g):
            g = g.copy()
        if self.scale != 1:
            g = g * t(self.scale)
        if self.weight_decay != 0 and not self.decoupled:
            g = g + t(self.weight_decay) * w
        if self.weight_decay != 0 and self.decoupled:
            w *= t(1 - lr * self.weight_decay)
        counts: dict[str, Any] = {}
        if self.counts_steps:
            # State that was set from outside counts as having had all updates of the optimizer.
            made = self.steps.get(key, self.iterations - 1) if key in self.state else 0
            counts["steps"] = self.steps[key] = made + 1
        if self.state_names and key not in self.state:
            self.state[key] = {name: np.zeros_like(w) for name in self.state_names}
        self.step(t, lr, w, g, **self.state.get(key, {}), **counts)
        if w is not given:
            given[...] = stored(w, given.dtype)

    def step(self, t: Rounded, lr: float, w: Array, g: Array, **state: Any) -> None:
        """Updates one parameter w in place; t rounds a coefficient to its type."""
        raise NotImplementedError


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
        self.eps_inside: float = eps if eps_inside_root else 0.0
        self.eps_outside: float = 0.0 if eps_inside_root else eps

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h += g * g
        w -= t(lr) * g / (np.sqrt(h + t(self.eps_inside)) + t(self.eps_outside))


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
        self.eps_inside: float = eps if eps_inside_root else 0.0
        self.eps_outside: float = 0.0 if eps_inside_root else eps

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h *= t(self.decay_rate)
        h += t(1 - self.decay_rate) * g * g
        w -= t(lr) * g / (np.sqrt(h + t(self.eps_inside)) + t(self.eps_outside))


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
