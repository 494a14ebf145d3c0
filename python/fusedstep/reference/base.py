"""A step: the order of its operations, and the options that all optimizers have."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from fusedstep.reference.dropout import random_halves
from fusedstep.reference.storage import Array, arithmetic_of, numbers, stored, stored_randomly, sum_of_squares

Rounded = Callable[[float], Any]


class Rows:
    """The gradient of a matrix of which only some rows are not zero; see fusedstep.Rows."""

    def __init__(self, indices: Any, values: Any) -> None:
        self.indices = indices
        self.values = values


class Optimizer:
    """The base class of the rules: options, state and counts by key.

    A parameter is computed in T: float64 if it is of that type, else float32. Coefficients are doubles, rounded once to
    T. The order of the operations, each left out if its option is at the default:

    1. The gradient is converted to T and multiplied by scale, or by -scale if maximize is set.
    2. The norm is the root of `sum_of_squares` of all gradients of the call, in the order of the parameters.
    3. Clipping by norm: with c = clip_norm / (norm + 1e-6), the gradient is multiplied by c unless c >= 1.
    4. Clipping by value: a gradient above clip_value becomes it, one below -clip_value becomes that.
    5. L2 decay: weight_decay times the parameter is added to the gradient.
    6. Decoupled decay: the parameter is multiplied by 1 - lr * weight_decay. With max_lr, weight_decay is first
       multiplied by lr / max_lr.
    7. The rule. After it, in place of 6: with cautious_decay, lr * weight_decay times the parameter before the rule is
       subtracted where the rule has not moved it away from zero; else with decay_after, lr * weight_decay times the
       parameter is subtracted.
    8. The average: it moves by 1 - average of its distance to the new parameter. The first one is a copy.
    9. The parameter is rounded to its storage type, and the copy to its own.
    10. The gradients become zeros, if zero_grads is set, even those of a step that was skipped.

    If skip_nonfinite is set and a gradient after 1 isn't finite, or the norm that was given isn't, 3 to 9 are left out,
    and the step isn't counted.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    counts_steps: ClassVar[bool] = False
    # Of states that don't start with zeros: the hyper-parameter that all elements are at first, or "parameter".
    starts: ClassVar[dict[str, str]] = {}
    scalars: ClassVar[dict[str, float]] = {}  # numbers beside the state, and what they are at first
    decays: ClassVar[bool] = False  # decoupled decay is done by `step`, which gets weight_decay as `decay`

    def __init__(
        self,
        lr: Any,
        *,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        count_updates: bool = False,
        cautious_decay: bool = False,
        max_lr: float | None = None,
        decay_after: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        maximize: bool = False,
        skip_nonfinite: bool = False,
        average: Any = None,
        groups: Any = (),
        master: bool = False,
        rounding: str = "nearest",
        seed: int = 0,
        state_dtype: str | None = None,
    ) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.decoupled = decoupled
        self.count_updates = count_updates
        self.cautious_decay = cautious_decay
        self.max_lr = max_lr
        self.decay_after = decay_after
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.maximize = maximize
        self.skip_nonfinite = skip_nonfinite
        self.average = average
        self.groups = groups
        self.master = master
        self.rounding = rounding
        self.seed = seed
        self.state_dtype = state_dtype
        self.iterations: int = 0
        self.skipped: int = 0
        self.gradient_norm: float | None = None
        self.is_first: bool = False  # whether the step at hand is the first of its state
        self.state: dict[Any, dict[str, Array]] = {}
        self.steps: dict[Any, int] = {}
        self._overrides: dict[Any, dict[str, Any]] = {}

    def update(
        self,
        params: Any,
        grads: Any,
        *,
        scale: float = 1.0,
        zero_grads: bool = False,
        copies: Any = None,
        norm: float | None = None,
    ) -> None:
        """Updates the arrays in place; a number in a dict or list is replaced.

        norm, if it is known, is that of the gradients as they are given.
        """
        all_of_them = Split([(lambda *_: True, self)], clip_norm=self.clip_norm, skip_nonfinite=self.skip_nonfinite)
        all_of_them.update(params, grads, scale=scale, zero_grads=zero_grads, copies=copies, norm=norm)
        self.gradient_norm = all_of_them.gradient_norm
        self.skipped += all_of_them.skipped

    def averages(self) -> dict[Any, Array]:
        """The averages by key."""
        return {key: arrays["average"] for key, arrays in self.state.items() if "average" in arrays}

    def of_group(self, key: Any, param: Any) -> "Optimizer":
        """This optimizer with the hyper-parameters of the first group to which a parameter belongs."""
        if key not in self._overrides:
            own = (overrides for match, overrides in self.groups if _matches(match, key, param))
            self._overrides[key] = next(own, {})
        member = copy.copy(self)
        vars(member).update(self._overrides[key])
        return member

    def scaled(self, param: Array, gradient: Any, scale: float) -> tuple[Any, Array]:
        """The places in a parameter that a gradient is for, and its numbers there after operation 1."""
        dtype = arithmetic_of(param)
        at, g = _taken(gradient, dtype)
        factor = -scale if self.maximize else scale
        return at, g if factor == 1 else g * dtype.type(factor)

    def update_one(
        self, number: int, key: Any, param: Array, gradient: Any, scale: float, clip: float, copied: Any
    ) -> None:
        """Operations 1 and 3 to 9 for one parameter, the one of this number in the call."""
        made_before = self.iterations - 1
        lr, decay = _now(self.lr, made_before), self.weight_decay
        dtype = arithmetic_of(param)
        t: Rounded = dtype.type
        at, g = self.scaled(param, gradient, scale)

        is_first = key not in self.state
        state = self.state.get(key, {})
        narrow = param.dtype != dtype
        if not self.master:
            state.pop("master", None)
        elif narrow and "master" not in state:
            state["master"] = numbers(param, dtype)
        whole = state["master"] if self.master and narrow else param
        w = np.array(numbers(whole[at], dtype))
        for name in self.state_names:
            if name not in state:
                state[name] = np.zeros(
                    self.state_shape(name, param.shape), _bfloat16() if self.state_dtype == "bfloat16" else dtype
                )
                start = self.starts.get(name)
                if start is not None:
                    number_at_first = lr if start == "lr" else getattr(self, start, None)
                    first = numbers(whole, dtype) if start == "parameter" else np.array(number_at_first, dtype)
                    state[name][...] = stored(first, state[name].dtype)
        for name, first_number in self.scalars.items():
            state.setdefault(name, np.array(first_number))
        arrays = {name: np.array(numbers(state[name][at], dtype)) for name in self.state_names}

        if not clip >= 1:
            g = g * t(clip)
        if self.clip_value is not None:
            bound = t(self.clip_value)
            g = np.where(g > bound, bound, np.where(g < -bound, -bound, g))
        after = self.cautious_decay or self.decay_after
        decoupled = self.decoupled or after or self.max_lr is not None
        if decay != 0 and not decoupled:
            g = g + t(decay) * w
        if self.max_lr is not None and decay != 0:
            decay = decay * (lr / self.max_lr)
        before = w.copy()
        counts: dict[str, Any] = {name: state[name] for name in self.scalars}
        if self.decays:
            counts["decay"] = decay if decoupled and not after else 0.0
        elif decay != 0 and decoupled and not after:
            w *= t(1 - lr * decay)
        if self.counts_steps:
            # State that was set from outside counts as having had all updates of the optimizer.
            made = 0 if is_first else self.steps.get(key, made_before)
            counts["steps"] = made + 1
            if self.count_updates:
                counts["steps"] = self.iterations
            else:
                self.steps[key] = made + 1
        self.is_first = is_first or counts.get("steps") == 1
        self.step(t, lr, w, g, **arrays, **counts)
        if decay != 0 and self.cautious_decay:
            moved = w - before
            grows = (moved > 0) & (before > 0) | (moved < 0) & (before < 0)
            w[...] = np.where(grows, w, w - t(lr * decay) * before)
        elif decay != 0 and after:
            w -= t(lr * decay) * w

        if self.average is not None:
            keep = _now(self.average, made_before)
            if "average" not in state:
                state["average"] = np.array(numbers(whole, dtype))
                keep = 0.0
            mean = state["average"]
            mean[at] = mean[at] + t(1 - keep) * (w - mean[at]) if keep != 0 else w
        if whole is not param:
            whole[at] = w
        self._store(w, param, at, self.rounding == "stochastic", number, 0)
        if copied is not None:
            copied[at] = stored(w, copied.dtype)
        for slot, (name, array) in enumerate(arrays.items(), start=1):
            self._store(array, state[name], at, True, number, slot)
        if state:
            self.state[key] = state

    def state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a state of a parameter."""
        return shape

    def _store(self, values: Array, to: Array, at: Any, randomly: bool, number: int, slot: int) -> None:
        """Stores at some places. Random bits depend on seed, update, array, slot, and number of the element there."""
        if randomly and to.dtype != values.dtype:
            key = self.seed % 2**64, self.iterations
            bits = random_halves(values.size, key, number % 2**32, slot + 1).reshape(values.shape)
            to[at] = stored_randomly(values, to.dtype, bits)
        else:
            to[at] = stored(values, to.dtype)

    def step(self, t: Rounded, lr: float, w: Array, g: Array, **state: Any) -> None:
        """Updates one parameter w in place; t rounds a coefficient to its type."""
        raise NotImplementedError


class Split:
    """Several optimizers, each for the parameters that it is the first to match; see fusedstep.Split."""

    def __init__(self, pairs: Any, *, clip_norm: float | None = None, skip_nonfinite: bool = False) -> None:
        self.pairs: list[tuple[Any, Optimizer]] = list(pairs)
        self.clip_norm = clip_norm
        self.skip_nonfinite = skip_nonfinite
        self.skipped: int = 0
        self.gradient_norm: float | None = None

    def update(
        self,
        params: Any,
        grads: Any,
        *,
        scale: float = 1.0,
        zero_grads: bool = False,
        copies: Any = None,
        norm: float | None = None,
    ) -> None:
        """One step of all optimizers; see Optimizer.update."""
        if isinstance(params, np.ndarray):
            params, grads, copies = (params,), (grads,), None if copies is None else (copies,)
        keys = list(_keys(params, grads))

        is_finite, clip = True, 1.0
        if norm is not None:
            norm *= scale
            is_finite = math.isfinite(norm)
        elif self.clip_norm is not None or self.skip_nonfinite:
            scaled = [self._of(key, params).scaled(np.asarray(params[key]), grads[key], scale)[1] for _, key in keys]
            norm = math.sqrt(sum_of_squares(*scaled))
            is_finite = all(np.isfinite(g).all() for g in scaled)
        if self.clip_norm is not None and norm is not None:
            clip = self.clip_norm / (norm + 1e-6)
        self.gradient_norm = norm

        if is_finite or not self.skip_nonfinite:
            for _, optimizer in self.pairs:
                optimizer.iterations += 1
            for number, key in keys:
                param = params[key] if isinstance(params[key], np.ndarray) else np.array(params[key])
                copied = None if copies is None else copies[key]
                self._of(key, params).update_one(number, key, param, grads[key], scale, clip, copied)
                if param is not params[key]:
                    params[key] = type(params[key])(param[()])
        else:
            self.skipped += 1
        for _, key in keys if zero_grads else ():
            grads[key][...] = 0

    def averages(self) -> dict[Any, Array]:
        """The averages by key."""
        return {key: mean for _, optimizer in self.pairs for key, mean in optimizer.averages().items()}

    def _of(self, key: Any, params: Any) -> Optimizer:
        """The optimizer of a parameter, with the hyper-parameters of its group."""
        optimizer = next(optimizer for match, optimizer in self.pairs if _matches(match, key, params[key]))
        return optimizer.of_group(key, params[key])


def accumulate(sums: Any, grads: Any, scale: float = 1.0) -> float:
    """Adds scaled gradients to sums, and returns the norm of all sums.

    The norm is that of the sums before they are rounded to a narrower type, if their gradient isn't Rows.
    """
    totals = []
    for key in sums if isinstance(sums, dict) else range(len(sums)):
        dtype = arithmetic_of(sums[key])
        total = np.array(numbers(sums[key], dtype))
        if grads[key] is not None:
            at, g = _taken(grads[key], dtype)
            total[at] += dtype.type(scale) * g
            sums[key][at] = stored(total[at], sums[key].dtype)
            if at is not ...:
                total = numbers(sums[key], dtype)
        totals.append(total)
    return math.sqrt(sum_of_squares(*totals))


def gradient_norm(grads: Any) -> float:
    """The norm of all gradients together, each in the type that it is computed in."""
    given = [grads[key] for _, key in _keys(grads, grads)]
    dtypes = [arithmetic_of(np.asarray(getattr(gradient, "values", gradient))) for gradient in given]
    return math.sqrt(
        sum_of_squares(*(_taken(gradient, dtype)[1] for gradient, dtype in zip(given, dtypes, strict=True)))
    )


def _keys(params: Any, grads: Any) -> Iterator[tuple[int, Any]]:
    """The numbers and keys of the parameters that have a gradient."""
    for number, key in enumerate(params if isinstance(params, dict) else range(len(params))):
        if grads[key] is not None:
            yield number, key


def _matches(match: Any, key: Any, param: Any) -> bool:
    if callable(match):
        return bool(match(key, param))
    return key in match if isinstance(match, list | set | frozenset) else bool(key == match)


def _now(value: Any, iterations: int) -> float:
    return float(value(iterations) if callable(value) else value)


def _taken(gradient: Any, dtype: Any) -> tuple[Any, Array]:
    """The places that a gradient is for, and its numbers there.

    Of Rows these are the rows, ascending, and the sums of the values of each, in their order from zero.
    """
    if not hasattr(gradient, "indices"):
        return ..., numbers(np.array(gradient), dtype)
    at, places = np.unique(np.asarray(gradient.indices), return_inverse=True)
    values = numbers(np.asarray(gradient.values), dtype)
    sums = np.zeros((len(at), *values.shape[1:]), dtype)
    np.add.at(sums, places, values)
    return at, sums


def _bfloat16() -> Any:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
