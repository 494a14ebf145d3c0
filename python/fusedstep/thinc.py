"""Optimizers for thinc, spaCy's library: thinc.optimizers.Optimizer with our step, and the functions that make one.

A configuration of spaCy names them, without an import:

    [training.optimizer]
    @optimizers = "fusedstep.Adam.v1"

The module needs thinc, which the rest of fusedstep doesn't; 8.3 (spaCy 3.8) and 9.1 are the versions that it was tried
with.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from thinc import optimizers as original

from fusedstep import _native

__all__ = ["SGD", "Adam", "Optimizer", "RAdam"]

_FLOAT32 = np.dtype(np.float32)
_MOST_DECAY_OF_AVERAGE = 0.9999
_ARE_NUMBERS = not hasattr(original.Optimizer, "last_score")  # in thinc 8, where later versions have schedules
_AT_LEAST_5 = math.nextafter(5, 0)  # RAdam's threshold is exclusive here, and inclusive in thinc


class Optimizer(original.Optimizer):
    """thinc.optimizers.Optimizer with our step: clipping, weight decay, the rule, the average of the weights and the
    gradient's zeros in one pass over memory.

    With g = gradient, norm its own, and lr the learning rate times lr_scale (but in RAdam's rule):

        g = g + L2 w                                 unless L2_is_weight_decay
        g = g grad_clip / norm                       if norm >= grad_clip, which 0 turns off
        Adam, RAdam, or w = w - lr g where beta1 or beta2 is 0
        w = w - lr L2 w                              if L2_is_weight_decay
        mean = mean + (1 - d) (w - mean)             if use_averages; d = (1 + t) / (10 + t), at most 0.9999
        gradient = 0

    Arguments, schedules, state and counts are thinc's, which has the moments and the averages in dicts by key. Numbers
    agree to a few roundings (docs/thinc.md). A call that ours can't make is left to thinc: of arrays that are CuPy's,
    not in float32, not contiguous or read-only, and with numbers out of range.
    """

    __slots__ = ()

    def __call__(self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> tuple[Any, Any]:
        """Makes a step of one array, in place; returns it and its gradient, which is 0 then."""
        if (
            _is_plain(weights)
            and _is_plain(gradient)
            and weights.shape == gradient.shape
            and weights.size > 0
            and self._stepped(key, weights, gradient, lr_scale)
        ):
            return weights, gradient
        result: tuple[Any, Any] = super().__call__(key, weights, gradient, lr_scale=lr_scale)
        return result

    def _stepped(self, key: Any, weights: Any, gradient: Any, lr_scale: float) -> bool:
        """Makes a step, or leaves everything as it was."""
        numbers = (self.L2, self.grad_clip, self.b1, self.b2, self.learn_rate, self.eps)
        if not _ARE_NUMBERS:
            numbers = tuple(schedule(self._step, key=key, last_score=self._last_score) for schedule in numbers)
        decay, clip, beta1, beta2, lr, eps = numbers
        t, scaled = self.nr_update.get(key, 0) + 1, lr * lr_scale
        if self.use_radam:  # in which thinc counts a step more, and leaves lr_scale to the decay
            rule, t_of_rule = "radam", t + 1
            own = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "threshold": _AT_LEAST_5}
        elif beta1 > 0 and beta2 > 0:
            # thinc rounds the numbers of the moments to float32, but not those of the correction.
            rounded1, rounded2 = float(np.float32(beta1)), float(np.float32(beta2))
            if rounded1 >= 1 or rounded2 >= 1:
                return False
            rule, t_of_rule = "adam", t
            own = {"lr": scaled * _correction(beta1, beta2, t) / _correction(rounded1, rounded2, t)}
            own |= {"beta1": rounded1, "beta2": rounded2, "eps": eps, "eps_corrected": False}
        elif beta2 > 0:
            return False
        else:
            rule, t_of_rule, own = "sgd", 1, {"lr": scaled}
        w, g = weights.reshape(-1), gradient.reshape(-1)
        moments = (self.mom1, self.mom2) if rule != "sgd" else ()
        state = [found if (found := each.get(key)) is not None else np.zeros(w.size, _FLOAT32) for each in moments]
        stepped = state[:]
        if self.averages is not None:
            own["average"] = min((1 + t) / (10 + t), _MOST_DECAY_OF_AVERAGE)
            if (average := self.averages.get(key)) is None:
                average = np.zeros(weights.shape, _FLOAT32)
            if not (_is_plain(average) and average.shape == weights.shape):
                return False
            stepped.append(average.reshape(-1))
        is_sum = False
        if decay != 0 and self.L2_is_weight_decay:
            if own["lr"] != 0:
                own |= {"weight_decay": decay * scaled / own["lr"], "decay_after": True}
        elif decay != 0 and clip == 0:
            own["weight_decay"] = decay
        elif decay != 0:  # the norm of the sum is the one that is clipped
            is_sum, g = True, g + decay * w
        try:
            if clip != 0 and (norm := _native.gradient_norm(g)) >= clip:
                own["scale"] = clip / norm
            # fusedstep.step checks options that aren't given here, for as long as a small step takes.
            _native.step(rule, w, g, stepped, t_of_rule, own, True, None, None, None, False, None)
        except (TypeError, ValueError):  # thinc may take it: numbers beyond limits, state of other shapes
            return False
        if is_sum:
            gradient.fill(0)
        self.nr_update[key] = t
        for each, made in zip(moments, state, strict=True):
            each[key] = made
        if self.averages is not None:
            self.averages[key] = average
        return True


def _is_plain(array: Any) -> bool:
    """Whether it is an array that a step can take as a row of numbers."""
    return (
        type(array) is np.ndarray
        and (array.dtype is _FLOAT32 or array.dtype == _FLOAT32)  # pickle makes other objects of a type
        and array.flags.c_contiguous
        and array.flags.writeable
    )


def _correction(beta1: float, beta2: float, t: int) -> float:
    return float((1 - beta2**t) ** 0.5 / (1 - beta1**t))


def _with_our_step(function: Any) -> Callable[..., Optimizer]:
    """A function of thinc with thinc's signature, from which spaCy checks a configuration."""

    def make(*arguments: Any, **keywords: Any) -> Optimizer:
        optimizer = function(*arguments, **keywords)
        optimizer.__class__ = Optimizer
        return cast(Optimizer, optimizer)

    name = make.__name__ = make.__qualname__ = function.__name__
    vars(make)["__signature__"] = inspect.signature(function)
    make.__doc__ = f'thinc.optimizers.{name} with our step: "fusedstep.{name}.v1" in the registry of optimizers.'
    return make


Adam: Callable[..., Optimizer] = _with_our_step(original.Adam)
RAdam: Callable[..., Optimizer] = _with_our_step(original.RAdam)
SGD: Callable[..., Optimizer] = _with_our_step(original.SGD)
