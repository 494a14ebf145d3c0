"""The solvers of scikit-learn's networks, in its order of operations."""

from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.base import Optimizer, Rounded
from fusedstep.reference.storage import Array


class SklearnAdam(Optimizer):
    """Adam with its corrections in the learning rate, which the caller computes; see fusedstep.sklearn.AdamOptimizer.

    The last line is in float64 whatever T is: NumPy's promotion has it so, as the learning rate is a float64 scalar.
    """

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    def __init__(
        self, lr: Any = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, **options: Any
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def step(self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array) -> None:  # type: ignore[override]
        m[...] = t(self.beta1) * m + t(1 - self.beta1) * g
        v[...] = t(self.beta2) * v + t(1 - self.beta2) * (g * g)
        w -= np.float64(lr) * m / (np.sqrt(v) + t(self.eps))


class SklearnNesterov(Optimizer):
    """Nesterov's momentum as a second look at the gradient; see fusedstep.sklearn.SGDOptimizer."""

    state_names: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self, lr: Any = 0.1, momentum: float = 0.9, **options: Any) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum

    def step(self, t: Rounded, lr: float, w: Array, g: Array, v: Array) -> None:  # type: ignore[override]
        v[...] = t(self.momentum) * v - t(lr) * g
        w += t(self.momentum) * v - t(lr) * g
