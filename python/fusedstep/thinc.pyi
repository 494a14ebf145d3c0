# To type checkers thinc's class is no base of this one, which has all that thinc's has.
from collections.abc import Callable
from typing import Any

__all__ = ["SGD", "Adam", "Optimizer", "RAdam"]

class Optimizer:
    def __init__(self, learn_rate: Any, **keywords: Any) -> None: ...
    def __call__(self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> tuple[Any, Any]: ...
    def __getattr__(self, name: str) -> Any: ...
    def _stepped(self, key: Any, weights: Any, gradient: Any, lr_scale: float) -> bool: ...

Adam: Callable[..., Optimizer]
RAdam: Callable[..., Optimizer]
SGD: Callable[..., Optimizer]
