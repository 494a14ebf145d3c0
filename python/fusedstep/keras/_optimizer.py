"""What the optimizers for Keras have in common: one step of all variables in one call of the extension module."""

import inspect
import math
from typing import Any, ClassVar, NamedTuple, Self

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import in_stateless_scope

from fusedstep.optimizers.stateless import accumulate, gradient_norm, step

_BACKENDS = ("torch", "numpy")
_CODES = {"float32": "f", "float64": "d"}

# Methods that are parts of Keras' step, which ours takes the place of.
_PARTS = frozenset(
    {
        "update_step",
        "_backend_update_step",
        "_parallel_update_step",
        "_clip_gradients",
        "_clip_by_norm",
        "_apply_weight_decay",
        "_backend_increment_gradient_accumulators",
        "_backend_reset_gradient_accumulators",
        "_update_model_variables_moving_average",
        "_muon_update_step",
        "_adamw_update_step",
    }
)

if keras.backend.backend() == "torch":
    import torch

    _TENSORS: tuple[Any, ...] = (torch.nn.Parameter, torch.Tensor)
    _WIDE: tuple[Any, ...] = (torch.float32, torch.float64)
else:
    _TENSORS = _WIDE = ()


class Rule(NamedTuple):
    """The rule of an optimizer, and the variables that are its state.

    Attributes:
        name: One of `fusedstep.rules()`, or Muon's.
        own: The rule's own hyper-parameters.
        states: For each state of the rule its variables, in the order of the variables that are trained.
        scalars: The rule's numbers, which are the same for all of these.
        product: The variable that the first of these is stored in after the step, if it is.
        rate: A factor of the learning rate, but not of the decay.
    """

    name: str
    own: dict[str, Any]
    states: tuple[list[Any], ...] = ()
    scalars: tuple[float, ...] = ()
    product: Any = None
    rate: float = 1.0


class _MadeByKeras:
    """The classes of which Keras makes instances: on the backend torch subclasses with a step for that."""

    def __getattr__(self, name: str) -> Any:
        kind = getattr(keras.optimizers, name)
        return type(kind.__new__(kind))


made_by_keras: Any = _MadeByKeras()


class Fused(keras.optimizers.Optimizer):
    """The step of the optimizers for Keras, which takes the place of Keras' own.

    Arguments, configuration, variables and what is saved are Keras' own. A step that ours can't make is left to Keras:
    in a stateless scope, compiled by torch.compile, with variables that are on another device or narrower than float32,
    with gradients that aren't finite to be clipped by their norm, with numbers that fusedstep refuses, and of
    subclasses that change parts of Keras' step.
    """

    _fuses: ClassVar[bool] = True

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        backend = keras.backend.backend()
        if backend not in _BACKENDS:
            raise RuntimeError(
                f"fusedstep.keras.{cls.__name__} needs one of Keras' backends {' and '.join(_BACKENDS)}, but Keras' "
                f"backend is {backend}: set the environment variable KERAS_BACKEND before Keras is imported"
            )
        # On the backend torch Keras' __new__ makes an instance of another class.
        made: Self = object.__new__(cls)
        return made

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if _PARTS & vars(cls).keys():
            cls._fuses = False
        _, *parameters = inspect.signature(cls.__init__).parameters.values()
        cls.__signature__ = inspect.Signature(parameters)

    def build(self, variables: Any) -> None:
        """Makes the optimizer's variables, as in Keras."""
        was_built = self.built
        super().build(variables)
        if not _TENSORS and not was_built and not in_stateless_scope():
            for variable in variables:
                variable.assign(variable.value)  # a copy: Keras never writes to an array that an initializer gave

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        left = self._step(list(grads), list(trainable_variables))
        if left is not None:
            super()._backend_apply_gradients(left, trainable_variables)

    def _step(self, grads: list[Any], variables: list[Any]) -> list[Any] | None:
        """Makes a step, or returns the gradients of the step that is left to Keras."""
        if not self._fuses or in_stateless_scope() or _is_compiling():
            return grads
        count, every = int(self._iterations._value), self.gradient_accumulation_steps
        updates = count // every if every else count
        rule = self._rule(updates + 1)
        if rule is None:
            return grads
        numbers = [self._get_variable_index(variable) for variable in variables]
        if not every:
            try:
                fused_average = self._update(rule, variables, numbers, grads, updates)
            except (TypeError, ValueError):
                return grads
        else:
            try:
                for variable in variables:
                    memory(variable)
                sums = [memory(self._accumulated_gradients[i]) for i in numbers]
                norm = accumulate(sums, [gradient(g) for g in grads])
            except (TypeError, ValueError):
                return grads
            fused_average = False
            if (count + 1) % every == 0:
                try:
                    fused_average = self._update(rule, variables, numbers, sums, updates, 1 / every, norm)
                except (TypeError, ValueError):
                    return [keras.ops.zeros_like(variable) for variable in variables]  # the sums have the gradients
                if len(variables) < len(self._accumulated_gradients):
                    self._backend_reset_gradient_accumulators()
        if self.use_ema:
            if not fused_average:
                self._update_model_variables_moving_average(self._trainable_variables)
            if self.ema_overwrite_frequency and (updates + 1) % self.ema_overwrite_frequency == 0:
                self._overwrite_model_variables_with_average_value(self._trainable_variables)
        return None

    def _update(
        self,
        rule: Rule,
        variables: list[Any],
        numbers: list[int],
        grads: list[Any],
        updates: int,
        scale: float = 1.0,
        norm: float | None = None,
    ) -> bool:
        """Makes a step in one call; whether it has moved the averages.

        Arguments:
            numbers: Those of the variables among all that are trained.
            scale: The factor of the gradients, which are sums and become 0 if it isn't 1.
            norm: Of all gradients, without the factor, if it is known.

        Raises:
            TypeError, ValueError: It can't be made. Nothing has changed.
        """
        params = [memory(variable) for variable in variables]
        grads = [gradient(g) for g in grads]
        state = [self._state(rule, i) for i in numbers]
        options: dict[str, Any] = {}
        averages = [self._model_variables_moving_average[i] for i in numbers] if self.use_ema else []
        has_averages = bool(averages) and len(averages) == sum(
            each is not None for each in self._model_variables_moving_average
        )
        if has_averages:
            options["average"] = self.ema_momentum if updates != 0 else 0.0
            for own, average in zip(state, averages, strict=True):
                own.append(memory(average))
        scalars = [[np.array(scalar, np.float64) for scalar in rule.scalars] for _ in numbers]
        for own, each in zip(state, scalars, strict=True):
            own.extend(each)
        decays = self._decays(numbers, variables)
        if any(decays):
            per_rate = [decay / rule.rate for decay in decays]
            options["weight_decay"] = per_rate[0] if len(set(decays)) == 1 else per_rate
            options["decoupled"] = True
        factor: Any = scale
        if self.clipnorm and self.clipnorm > 0:
            norms = [scale * gradient_norm(g) for g in grads]
            factor = [scale * _to_norm(self.clipnorm, each) for each in norms]
        elif self.global_clipnorm and self.global_clipnorm > 0:
            factor *= _to_norm(self.global_clipnorm, scale * (gradient_norm(grads) if norm is None else norm))
        elif self.clipvalue and self.clipvalue > 0:
            options["clip_value"] = self.clipvalue
        options |= {"t": updates + 1, "lr": rule.rate * float(self.learning_rate), "scale": factor}
        self._make_step(rule, numbers, params, grads, state, zero_grads=scale != 1.0, **options)
        if _TENSORS:
            torch.autograd.graph.increment_version(params)
        if rule.product is not None:
            rule.product.assign(scalars[0][0])
        return has_averages

    def _make_step(
        self, rule: Rule, numbers: list[int], params: list[Any], grads: list[Any], state: list[Any], **options: Any
    ) -> None:
        """Makes the step whose options `_update` has found, and which changes nothing if it raises an error."""
        step(rule.name, params, grads, state, **rule.own, **options)

    def _rule(self, t: int) -> Rule | None:
        """The rule of step t from 1, or None if there is none for what the optimizer is set to."""
        raise NotImplementedError

    def _decays(self, numbers: list[int], variables: list[Any]) -> list[float]:
        """The weight decay of each of these variables, or nothing if there is none."""
        if not self.weight_decay:
            return []
        return [self.weight_decay if self._use_weight_decay(variable) else 0.0 for variable in variables]

    def _state(self, rule: Rule, i: int) -> list[Any]:
        """The state of a variable that is trained, in the order of the rule."""
        return [memory(variables[i]) for variables in rule.states]


def _is_compiling() -> bool:
    return bool(_TENSORS) and bool(torch.compiler.is_compiling())


def _to_norm(most: float, norm: float) -> float:
    if not math.isfinite(norm):
        raise ValueError(f"the norm is {norm}")  # of which Keras makes gradients that are 0 or NaN
    return most / max(norm, most)


def memory(variable: Any) -> Any:
    """The array or tensor of a variable, which a step writes to.

    Raises:
        TypeError: It is in another device's memory, narrower than float32, or not made yet.
    """
    value = variable._value
    if type(value) in _TENSORS:
        if value.dtype in _WIDE and value.is_cpu:
            return value
    elif isinstance(value, np.generic | np.ndarray) and variable._dtype in _CODES:
        if type(value) is np.ndarray and value.flags.writeable and value.dtype.char == _CODES[variable._dtype]:
            return value
        variable.assign(value)  # the first value may be a number, or in float32 whatever the type
        return variable._value
    raise TypeError(f"{variable} isn't an array in float32 or float64")


def as_array(values: Any) -> Any:
    """The array of a variable's memory."""
    return values.detach().numpy() if type(values) in _TENSORS else values


def as_native(array: Any) -> Any:
    """The backend's own object for an array, in its memory."""
    return torch.from_numpy(array) if _TENSORS else array


def gradient(g: Any) -> Any:
    """A gradient that is an array or a tensor."""
    if type(g) in _TENSORS or type(g) is np.ndarray:
        return g
    if isinstance(g, np.generic):
        return np.asarray(g)
    raise TypeError(f"{type(g)} isn't an array")
