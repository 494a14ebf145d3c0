"""Rules that change Adam's moments, or what is made of them."""

import math
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class AdaBelief(Optimizer):
    """See fusedstep.AdaBelief."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "s")
    counts_steps: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-16,
        eps_root: float = 1e-16,
        *,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_root = eps_root

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, s: Array, *, steps: int
    ) -> None:
        root = math.sqrt(1 - self.beta2**steps)
        m += t(1 - self.beta1) * (g - m)
        surprise = g - m
        s += t(1 - self.beta2) * (surprise * surprise - s)
        s += t(self.eps_root)
        w -= t(lr * root / (1 - self.beta1**steps)) * m / (np.sqrt(s) + t(self.eps * root))


class Yogi(Optimizer):
    """See fusedstep.Yogi."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")
    counts_steps: ClassVar[bool] = True
    starts: ClassVar[dict[str, str]] = {"m": "initial_m", "v": "initial_accumulator"}

    def __init__(
        self,
        lr: Any = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        initial_m: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.initial_accumulator = initial_accumulator
        self.initial_m = initial_m

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int
    ) -> None:
        root = math.sqrt(1 - self.beta2**steps)
        square = g * g
        m += t(1 - self.beta1) * (g - m)
        v -= t(1 - self.beta2) * np.sign(v - square) * square
        w -= t(lr * root / (1 - self.beta1**steps)) * m / (np.sqrt(v) + t(self.eps * root))


class FlowerYogi(Optimizer):
    """Yogi in Flower's order of operations, without corrections; see fusedstep.flower.FedYogi."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    def __init__(
        self, lr: Any = 0.01, beta1: float = 0.9, beta2: float = 0.99, eps: float = 1e-3, **options: Any
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def step(self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array) -> None:  # type: ignore[override]
        square = g * g
        m[...] = t(self.beta1) * m + t(1 - self.beta1) * g
        v -= t(1 - self.beta2) * np.sign(v - square) * square
        w -= t(lr) * m / (np.sqrt(v) + t(self.eps))


class LaProp(Optimizer):
    """See fusedstep.LaProp."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")
    counts_steps: ClassVar[bool] = True

    def __init__(
        self, lr: Any = 4e-4, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-15, **options: Any
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int
    ) -> None:
        root = math.sqrt(1 - self.beta2**steps)
        v += t(1 - self.beta2) * (g * g - v)
        m += t(1 - self.beta1) * (t(root) * g / (np.sqrt(v) + t(self.eps * root)) - m)
        w -= t(lr / (1 - self.beta1**steps)) * m


class ADOPT(Optimizer):
    """See fusedstep.ADOPT."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")
    counts_steps: ClassVar[bool] = True
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.9999,
        eps: float = 1e-6,
        clip_exponent: float | None = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.clip_exponent = clip_exponent

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array, *, steps: int, decay: float
    ) -> None:
        if self.is_first:
            v[...] = g * g
            return
        if decay != 0:
            w *= t(1 - lr * decay)
        normed = g / np.maximum(np.sqrt(v), t(self.eps))
        if self.clip_exponent is not None:
            bound = t((steps - 1) ** self.clip_exponent)
            normed = np.clip(normed, -bound, bound)
        m += t(1 - self.beta1) * (normed - m)
        w -= t(lr) * m
        v += t(1 - self.beta2) * (g * g - v)


class AdEMAMix(Optimizer):
    """See fusedstep.AdEMAMix."""

    state_names: ClassVar[tuple[str, ...]] = ("m1", "m2", "v")
    counts_steps: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        beta3: float = 0.9999,
        alpha: float = 5.0,
        eps: float = 1e-8,
        t_alpha: float | None = None,
        t_beta3: float | None = None,
        *,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.beta3 = beta3
        self.alpha = alpha
        self.eps = eps
        self.t_alpha = t_alpha
        self.t_beta3 = t_beta3

    def step(  # type: ignore[override]
        self, t: Rounded, lr: float, w: Array, g: Array, m1: Array, m2: Array, v: Array, *, steps: int
    ) -> None:
        alpha, beta3 = self.alpha, self.beta3
        if self.t_alpha is not None and steps < self.t_alpha:
            alpha *= steps / self.t_alpha
        if self.t_beta3 is not None and steps < self.t_beta3:
            part = steps / self.t_beta3
            half_life = (1 - part) * _half_life(self.beta1) + part * _half_life(self.beta3)
            beta3 = 0.5 ** (1 / half_life) if half_life > 0 else 0.0
        root = math.sqrt(1 - self.beta2**steps)
        m1 += t(1 - self.beta1) * (g - m1)
        m2 += t(1 - beta3) * (g - m2)
        v += t(1 - self.beta2) * (g * g - v)
        step, slow = lr * root / (1 - self.beta1**steps), lr * root * alpha
        w -= (t(step) * m1 + t(slow) * m2) / (np.sqrt(v) + t(self.eps * root))


def _half_life(beta: float) -> float:
    """After how many steps a gradient counts half."""
    return math.log(0.5) / math.log(beta) if beta > 0 else 0.0


class Adan(Optimizer):
    """See fusedstep.Adan."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v", "n", "g_prev")
    counts_steps: ClassVar[bool] = True
    decays: ClassVar[bool] = True

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.98,
        beta2: float = 0.92,
        beta3: float = 0.99,
        eps: float = 1e-8,
        eps_root: float = 0.0,
        difference_weight: float | None = None,
        *,
        no_prox: bool = False,
        decoupled: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(lr, decoupled=decoupled, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.beta3 = beta3
        self.eps = eps
        self.eps_root = eps_root
        self.difference_weight = difference_weight
        self.no_prox = no_prox

    def step(  # type: ignore[override]
        self,
        t: Rounded,
        lr: float,
        w: Array,
        g: Array,
        m: Array,
        v: Array,
        n: Array,
        g_prev: Array,
        *,
        steps: int,
        decay: float,
    ) -> None:
        correction = 1 - self.beta3**steps
        root = math.sqrt(correction)
        ahead = self.beta2 if self.difference_weight is None else self.difference_weight
        difference = np.zeros_like(g) if self.is_first else g - g_prev
        if decay != 0 and self.no_prox:
            w *= t(1 - lr * decay)
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (difference - v)
        look = g + t(ahead) * difference
        n += t(1 - self.beta3) * (look * look - n)
        step, difference_step = lr * root / (1 - self.beta1**steps), lr * root * ahead / (1 - self.beta2**steps)
        below = np.sqrt(n + t(self.eps_root * correction)) + t(self.eps * root)
        w -= (t(step) * m + t(difference_step) * v) / below
        if not self.no_prox:
            w *= t(1 / (1 + lr * decay))
        g_prev[...] = g
