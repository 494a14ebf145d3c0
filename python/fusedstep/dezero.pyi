# DeZero has no types: to type checkers its classes are these.
from collections.abc import Callable
from typing import Any, Self, TypeAlias

from numpy.typing import NDArray

_Arrays: TypeAlias = dict[int, NDArray[Any]]

class Optimizer:
    target: Any
    hooks: list[Callable[[list[Any]], object]]
    def __init__(self) -> None: ...
    def setup(self, target: Any) -> Self: ...
    def update(self) -> None: ...
    def update_one(self, param: Any) -> None: ...
    def add_hook(self, f: Callable[[list[Any]], object]) -> None: ...

class SGD(Optimizer):
    lr: float
    def __init__(self, lr: float = 0.01) -> None: ...

class MomentumSGD(Optimizer):
    lr: float
    momentum: float
    vs: _Arrays
    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None: ...

class AdaGrad(Optimizer):
    lr: float
    eps: float
    hs: _Arrays
    def __init__(self, lr: float = 0.001, eps: float = 1e-8) -> None: ...

class AdaDelta(Optimizer):
    rho: float
    eps: float
    msg: _Arrays
    msdx: _Arrays
    def __init__(self, rho: float = 0.95, eps: float = 1e-6) -> None: ...

class Adam(Optimizer):
    t: int
    alpha: float
    beta1: float
    beta2: float
    eps: float
    ms: _Arrays
    vs: _Arrays
    def __init__(self, alpha: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None: ...
    @property
    def lr(self) -> float: ...

class _Hook:
    def __call__(self, params: list[Any]) -> None: ...

class WeightDecay(_Hook):
    rate: float
    def __init__(self, rate: float) -> None: ...

class ClipGrad(_Hook):
    max_norm: float
    def __init__(self, max_norm: float) -> None: ...

class FreezeParam(_Hook):
    freeze_params: list[Any]
    def __init__(self, *layers: Any) -> None: ...
