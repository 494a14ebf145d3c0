"""The steps of the server's optimizers, for both of Flower's interfaces."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusedstep.flower._arrays import FLOATS
from fusedstep.optimizers.stateless import accumulate, step, weighted_mean

Arrays = list[NDArray[Any]]

# Between them a double is the sum of three normal numbers in float32, as the rule of FedAdam needs it.
_SMALLEST_STEP, _LARGEST_STEP = 1e-20, 1e38


def _types(current: Sequence[Any], means: Sequence[NDArray[Any]]) -> list[np.dtype[Any]] | None:
    """The type of each array's step, as NumPy promotes it; None if one is not ours to step."""
    types = []
    for x, mean in zip(current, means, strict=True):
        if type(x) is not np.ndarray or x.shape != mean.shape or not {x.dtype.kind, mean.dtype.kind} <= set("biuf"):
            return None
        dtype = np.result_type(x.dtype, mean.dtype)
        types.append(FLOATS[1] if dtype == np.int64 else dtype)  # a counter, which Flower's step makes a float, too
    return types if all(dtype in FLOATS for dtype in types) else None


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float | np.number) for value in values)


def _copies(arrays: Sequence[Any], types: Sequence[Any]) -> Arrays:
    """Copies of these types; unlike NumPy's, in memory of an earlier round's, without its page faults."""
    copies: Arrays = weighted_mean([[x.astype(dtype, copy=False) for x, dtype in zip(arrays, types, strict=True)]], [1])
    return copies


class _Strategy:
    """The part of a strategy that keeps state between rounds."""

    _made: Sequence[NDArray[Any]] = ()

    def _kept(self, types: list[np.dtype[Any]], like: Arrays, *states: Sequence[Any] | None) -> list[Arrays] | None:
        """The arrays of each state, zeros at first; None if NumPy would promote them.

        Arrays that users have put there are theirs, so copies of them are written.
        """
        ours = {id(array): array for array in self._made}
        expected = [(dtype, x.shape) for x, dtype in zip(like, types, strict=True)]
        kept = []
        for state in states:
            if not state:
                kept.append([np.zeros(shape, dtype) for dtype, shape in expected])
            elif [(own.dtype, own.shape) for own in state if type(own) is np.ndarray] == expected:
                kept.append([ours.pop(id(own)) if id(own) in ours else own.copy() for own in state])
            else:
                return None
        return kept


class FedOpt(_Strategy):
    """The step of the strategies whose optimizer is adaptive. Rules subtract, so x + u is made as -(-x - u)."""

    _rule: ClassVar[str]

    eta: Any
    tau: Any
    beta_1: Any
    beta_2: Any
    m_t: Any
    v_t: Any

    def _learning_rate(self, server_round: int) -> Any:
        return self.eta

    def _stepped(
        self, server_round: int, current: Sequence[Any], means: Arrays, m: Sequence[Any] | None, v: Sequence[Any] | None
    ) -> tuple[Arrays, Arrays, Arrays] | None:
        """New arrays, m and v; None, and nothing has changed, if Flower's own step has to be made."""
        betas = (self.beta_1, self.beta_2)
        if not _are_numbers(self.eta, self.tau, *betas) or not all(0 <= beta < 1 for beta in betas):
            return None
        lr, types = float(self._learning_rate(server_round)), _types(current, means)
        if types is None or not (_SMALLEST_STEP < lr < _LARGEST_STEP and 0 <= self.tau < math.inf):
            return None
        hyperparameters: dict[str, Any] = {"lr": lr, "eps": float(self.tau)}
        if self._rule != "adagrad":
            states = self._kept(types, means, m, v)
            hyperparameters |= {"beta1": float(self.beta_1), "beta2": float(self.beta_2)}
        else:
            states = self._kept(types, means, v) if self.beta_1 == 0 else None
        if states is None:
            return None
        stepped = _copies(current, types)
        for x in stepped:
            np.negative(x, out=x)
        differences = [mean.astype(dtype, copy=False) for mean, dtype in zip(means, types, strict=True)]
        accumulate(differences, stepped)
        step(self._rule, stepped, differences, list(zip(*states, strict=True)), **hyperparameters)
        for x in stepped:
            np.subtract(0, x, out=x)
        self._made = [array for arrays in states for array in arrays]
        return stepped, states[0] if len(states) == 2 else differences, states[-1]


class Adam(FedOpt):
    """FedAdam's step. NumPy makes its last line in float64, because the learning rate is a scalar in float64."""

    _rule = "sklearn_adam"

    def _learning_rate(self, server_round: int) -> Any:
        first, second = (1 - np.power(float(beta), server_round + 1.0) for beta in (self.beta_1, self.beta_2))
        return self.eta * np.sqrt(second) / first


class Yogi(FedOpt):
    """FedYogi's step."""

    _rule = "flower_yogi"


class Adagrad(FedOpt):
    """FedAdagrad's step. Without a beta_1 its m is the difference itself."""

    _rule = "adagrad"


class Momentum(_Strategy):
    """FedAvgM's step."""

    server_learning_rate: Any
    server_momentum: Any
    momentum_vector: Any

    def _stepped(
        self, current: Sequence[Any], means: Arrays, velocities: Sequence[Any] | None
    ) -> tuple[Arrays, Arrays] | None:
        """New arrays and velocities, which begin as gradients; None, and nothing has changed, as above."""
        lr, momentum = self.server_learning_rate, self.server_momentum
        if len(current) != len(means) or not _are_numbers(lr, momentum) or not (0 <= lr < math.inf and momentum <= 1):
            return None
        types = _types(current, means)
        kept = None if types is None else self._kept(types, means, *([velocities] if velocities else []))
        if types is None or kept is None:
            return None
        stepped = _copies(current, types)
        gradients = [
            np.subtract(x, mean, out=mean.astype(x.dtype, copy=False)) for x, mean in zip(stepped, means, strict=True)
        ]
        if kept:
            state = list(zip(*kept, strict=True))
            step("momentum_plain_velocity", stepped, gradients, state, lr=float(lr), momentum=float(momentum))
        else:
            step("sgd", stepped, gradients, None, lr=float(lr))
        self._made = kept[0] if kept else gradients
        return stepped, self._made
