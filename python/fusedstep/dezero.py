"""DeZero's optimizers with our step, in a module that takes the place of dezero.optimizers:

    import fusedstep.dezero as optimizers

DeZero is the framework of *Deep Learning from Scratch 3*. The module needs it, which the rest of fusedstep doesn't.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from dezero import optimizers as original
from dezero.optimizers import ClipGrad, FreezeParam, Optimizer, WeightDecay

from fusedstep.optimizers.stateless import accumulate, step

__all__ = [
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "ClipGrad",
    "FreezeParam",
    "MomentumSGD",
    "Optimizer",
    "WeightDecay",
]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# The number of a step for which Adam's corrections are 1, because DeZero has them in its learning rate.
_CORRECTED = 1 << 62


class _Fused(Optimizer):
    """Updates all parameters in one call. It is a base after DeZero's class, which updates one parameter."""

    _original: ClassVar[Any]
    _rule: ClassVar[str]
    _hyperparameters: ClassVar[tuple[str, ...]]
    _states: ClassVar[tuple[str, ...]] = ()
    _fixed: ClassVar[dict[str, Any]] = {}

    def update(self) -> None:
        """Runs the hooks, then makes a step of all parameters that have a gradient, in place."""
        params = [p for p in self.target.params() if p.grad is not None]
        for hook in self.hooks:
            hook(_decayed(params, hook.rate) if type(hook) is WeightDecay else params)
            params = [p for p in params if p.grad is not None]  # FreezeParam takes gradients away
        if getattr(self.update_one, "__func__", None) is self._original.update_one:
            params = self._step(params)
        for p in params:
            self.update_one(p)

    def _step(self, params: list[Any]) -> list[Any]:
        """Makes a step of the parameters for which ours has DeZero's bits, and returns the others."""
        values = {name: getattr(self, name) for name in self._hyperparameters}
        ours, left = _divided(params, values.values())
        weights, state = [p.data for p in ours], [self._state(p) for p in ours]
        try:
            step(self._rule, weights, [p.grad.data for p in ours], state, t=_CORRECTED, **values, **self._fixed)
        except (TypeError, ValueError):  # DeZero may take it: gradients that broadcast, numbers beyond limits
            return params
        for p, w in zip(ours, weights, strict=True):
            p.data = w  # as DeZero does, for subclasses where data is a property
        return left

    def _state(self, p: Any) -> list[Any]:
        """The state of a parameter, made as DeZero makes it."""
        states, key = [getattr(self, name) for name in self._states], id(p)
        if states and key not in states[0]:
            for arrays in states:
                arrays[key] = np.zeros_like(p.data)
        return [arrays[key] for arrays in states]


def _divided(params: list[Any], values: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The parameters that NumPy, with these numbers, computes in one type as our step does, and the others."""
    dtypes: tuple[Any, ...] = ()
    if all(type(value) in (float, int) for value in values):
        dtypes = _FLOAT32, _FLOAT64
    elif all(isinstance(value, float | int) for value in values):  # np.float64 makes float32 wider
        dtypes = (_FLOAT64,)
    ours, left = [], []
    for p in params:
        w, g = p.data, p.grad.data
        is_ours = type(w) is type(g) is np.ndarray and w.dtype in dtypes and g.dtype == w.dtype
        (ours if is_ours else left).append(p)
    return ours, left


def _decayed(params: list[Any], rate: Any) -> list[Any]:
    """Adds rate w to gradients, as WeightDecay does, and returns the parameters that are left to it."""
    grads = [p.grad.data for p in params]
    owners = {id(g if g.base is None else g.base) for g in grads if type(g) is np.ndarray}
    if len(owners) < len(grads):  # the order matters to gradients that share memory
        return params
    ours, left = _divided(params, [rate])
    try:
        accumulate([p.grad.data for p in ours], [p.data for p in ours], rate)
    except (TypeError, ValueError):
        return params
    return left


class SGD(original.SGD, _Fused):
    """dezero.optimizers.SGD with our step.

        w = w - lr g

    Arguments, attributes and hooks are DeZero's, and so are the bits. What the step can't make with these bits is left
    to DeZero's own update_one, each parameter by itself: gradients of another type than the parameter, types other
    than float32 and float64, arrays of CuPy, and in float32 hyper-parameters that are NumPy's scalars. A subclass that
    overrides update_one has it called for all parameters.
    """

    _original, _rule, _hyperparameters = original.SGD, "sgd", ("lr",)


class MomentumSGD(original.MomentumSGD, _Fused):
    """dezero.optimizers.MomentumSGD with our step.

        v = momentum v - lr g
        w = w + v

    `SGD` says what is the same, and what is left to DeZero.
    """

    _original, _rule, _hyperparameters = original.MomentumSGD, "momentum", ("lr", "momentum")
    _states = ("vs",)


class AdaGrad(original.AdaGrad, _Fused):
    """dezero.optimizers.AdaGrad with our step.

        h = h + g^2
        w = w - lr g / (sqrt(h) + eps)

    `SGD` says what is the same, and what is left to DeZero.
    """

    _original, _rule, _hyperparameters = original.AdaGrad, "adagrad", ("lr", "eps")
    _states = ("hs",)


class AdaDelta(original.AdaDelta, _Fused):
    """dezero.optimizers.AdaDelta with our step.

        msg = rho msg + (1 - rho) g^2
        dx = sqrt((msdx + eps) / (msg + eps)) g
        msdx = rho msdx + (1 - rho) dx^2
        w = w - dx

    `SGD` says what is the same, and what is left to DeZero.
    """

    _original, _rule, _hyperparameters = original.AdaDelta, "adadelta", ("rho", "eps")
    _states, _fixed = ("msg", "msdx"), {"lr": 1.0, "one_root": True}


class Adam(original.Adam, _Fused):
    """dezero.optimizers.Adam with our step.

        m = m + (1 - beta1) (g - m)
        v = v + (1 - beta2) (g^2 - v)
        w = w - lr m / (sqrt(v) + eps)
        lr = alpha sqrt(1 - beta2^t) / (1 - beta1^t)

    `SGD` says what is the same, and what is left to DeZero.
    """

    _original, _rule, _hyperparameters = original.Adam, "adam", ("lr", "beta1", "beta2", "eps")
    _states = ("ms", "vs")
