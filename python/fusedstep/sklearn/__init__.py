"""scikit-learn's networks with our step: the estimators of sklearn.neural_network, and the optimizers in them.

Change the import:

    from fusedstep.sklearn import MLPClassifier, MLPRegressor

Everything but the step is scikit-learn's own. The module needs scikit-learn, which the rest of fusedstep doesn't.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import neural_network
from sklearn.neural_network import _stochastic_optimizers as original

from fusedstep import _native

__all__ = ["AdamOptimizer", "MLPClassifier", "MLPRegressor", "SGDOptimizer"]

_Arrays = list[NDArray[Any]]


_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# Between them a double is the sum of three normal numbers in float32, as the rule needs it.
_SMALLEST_STEP, _LARGEST_STEP = 1e-20, 1e38


def _all_are(dtype: np.dtype[Any], *lists: _Arrays) -> bool:
    for arrays in lists:
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype is not dtype:
                return False
    return True


def _type(array: Any) -> np.dtype[Any] | None:
    return array.dtype if type(array) is np.ndarray else None


def _stand_ins(params: _Arrays, grads: _Arrays, states: tuple[_Arrays, ...]) -> _Arrays | None:
    """Float64 copies of the parameters that NumPy steps in float64 and then rounds; None where it does something else.

    Gradients in float64 of parameters in float32, which weights of samples and targets in float64 cause, make the state
    float64 in the first step, as NumPy promotes it.
    """
    stepped = []
    for i, (w, g) in enumerate(zip(params, grads, strict=True)):
        of_parameter, of_gradient = _type(w), _type(g)
        if of_gradient not in (_FLOAT32, _FLOAT64) or of_parameter not in (of_gradient, _FLOAT32):
            return None
        for arrays in states:
            if _type(arrays[i]) == _FLOAT32 and of_gradient == _FLOAT64 and not arrays[i].any():
                arrays[i] = arrays[i].astype(_FLOAT64)
            if _type(arrays[i]) != of_gradient:
                return None
        stepped.append(w if of_parameter == of_gradient else w.astype(_FLOAT64))
    return stepped


def _stepped(
    rule: str, params: _Arrays, grads: _Arrays, states: tuple[_Arrays, ...], lr: Any, hyperparameters: dict[str, Any]
) -> bool:
    """Makes a step if it has the bits of scikit-learn's own; else no parameter has changed."""
    if any(len(arrays) != len(params) for arrays in (grads, *states)):
        return False
    is_double = _all_are(_FLOAT64, params, grads, *states)
    stepped = params
    if not is_double and not _all_are(_FLOAT32, params, grads, *states):
        others = _stand_ins(params, grads, states)
        if others is None:
            return False
        stepped, is_double = others, all(w.dtype == _FLOAT64 for w in others)
    if is_double:
        if not all(isinstance(value, float | int) for value in (lr, *hyperparameters.values())):
            return False
    # NumPy's float64 scalars make its results float64. Adam's learning rate is one, which its rule makes allowance for.
    elif not all(type(value) in (float, int) for value in hyperparameters.values()) or not (
        _SMALLEST_STEP < lr < _LARGEST_STEP if rule == "sklearn_adam" else type(lr) in (float, int)
    ):
        return False
    values = {name: float(value) for name, value in hyperparameters.items()}
    values["lr"] = float(lr)
    try:
        # fusedstep.step checks options that aren't given here, for as long as a small step takes.
        state = list(zip(*states, strict=True))
        _native.step(rule, stepped, grads, state, 1, values, False, None, None, None, False, None)
    except (TypeError, ValueError):  # scikit-learn may take it: shapes that broadcast, numbers beyond limits
        return False
    for w, new in zip(params, stepped, strict=True):
        if w is not new:
            w[...] = new
    return True


class SGDOptimizer(original.SGDOptimizer):
    """scikit-learn's SGDOptimizer, the solver "sgd", with our step.

        v = momentum v - lr g
        w = w + momentum v - lr g, or w + v if nesterov is False

    Constructor, attributes, schedules and stopping are scikit-learn's, and so are the bits. The velocities are written
    in place. What the step has no rule for is left to scikit-learn's own: arrays of other types, and in float32
    hyper-parameters that are NumPy's scalars.
    """

    def update_params(self, params: _Arrays, grads: _Arrays) -> None:
        """Makes a step of parameters, in place."""
        rule = "sklearn_nesterov" if self.nesterov else "momentum"
        hyperparameters = {"momentum": self.momentum}
        if not _stepped(rule, params, grads, (self.velocities,), self.learning_rate, hyperparameters):
            super().update_params(params, grads)


class AdamOptimizer(original.AdamOptimizer):
    """scikit-learn's AdamOptimizer, the solver "adam", with our step.

        m = beta_1 m + (1 - beta_1) g
        v = beta_2 v + (1 - beta_2) g^2
        w = w - learning_rate m / (sqrt(v) + epsilon)
        learning_rate = learning_rate_init sqrt(1 - beta_2^t) / (1 - beta_1^t)

    Constructor, attributes and stopping are scikit-learn's, and so are the bits; in float32 the third line is computed
    in float64. The moments ms and vs are written in place. What the step has no rule for is left to scikit-learn's own,
    as with `SGDOptimizer`.
    """

    t: int
    learning_rate: float

    def update_params(self, params: _Arrays, grads: _Arrays) -> None:
        """Makes a step of parameters, in place."""
        t = self.t + 1
        rate = self.learning_rate_init * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        hyperparameters = {"beta1": self.beta_1, "beta2": self.beta_2, "eps": self.epsilon}
        if _stepped("sklearn_adam", params, grads, (self.ms, self.vs), rate, hyperparameters):
            self.t = t
            self.learning_rate = rate
        else:
            super().update_params(params, grads)


_OURS = {original.SGDOptimizer: SGDOptimizer, original.AdamOptimizer: AdamOptimizer}


class _WithOurStep:
    """A network whose fit puts an optimizer of scikit-learn into `_optimizer`, which becomes ours there."""

    @property
    def _optimizer(self) -> Any:
        try:
            return vars(self)["_optimizer"]
        except KeyError:  # fit asks with hasattr
            raise AttributeError(f"{type(self).__name__} has no optimizer before it is fitted") from None

    @_optimizer.setter
    def _optimizer(self, optimizer: Any) -> None:
        ours = _OURS.get(type(optimizer))
        if ours is not None:
            made = ours.__new__(ours)
            vars(made).update(vars(optimizer))
            optimizer = made
        vars(self)["_optimizer"] = optimizer


class MLPClassifier(_WithOurStep, neural_network.MLPClassifier):
    """scikit-learn's MLPClassifier with our step: the solvers "adam" and "sgd" take less time, with the same bits.

    Arguments, attributes and methods are scikit-learn's; the solver "lbfgs" is too.
    """


class MLPRegressor(_WithOurStep, neural_network.MLPRegressor):
    """scikit-learn's MLPRegressor with our step; see `MLPClassifier`."""
