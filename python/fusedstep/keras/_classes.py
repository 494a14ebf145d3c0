"""The classes of keras.optimizers with our step."""

from typing import Any

import keras
import numpy as np

from fusedstep.keras._optimizer import Fused, Rule, made_by_keras, memory
from fusedstep.optimizers.stateless import step

_registered = keras.saving.register_keras_serializable(package="fusedstep")


@_registered
class SGD(Fused, made_by_keras.SGD):
    """keras.optimizers.SGD with our step, whose rule is that of `fusedstep.SGD`, `fusedstep.Momentum` or
    `fusedstep.Nesterov`.
    """

    def _rule(self, t: int) -> Rule | None:
        if self.momentum == 0:
            return Rule("sgd", {})
        return Rule("nesterov" if self.nesterov else "momentum", {"momentum": self.momentum}, (self.momentums,))


@_registered
class RMSprop(Fused, made_by_keras.RMSprop):
    """keras.optimizers.RMSprop with our step, whose rule is that of `fusedstep.RMSProp`.

    Where centered makes a variance negative by rounding, it counts as 0, where Keras' step gives NaN.
    """

    def _rule(self, t: int) -> Rule | None:
        name, states = "rmsprop", [self._velocities]
        own = {"decay_rate": self.rho, "eps": self.epsilon, "eps_inside_root": True}
        if self.centered:
            name += "_centered"
            states.append(self._average_gradients)
        if self.momentum > 0:
            name += "_momentum"
            states.append(self._momentums)
            own |= {"momentum": self.momentum, "lr_in_velocity": True}
        return Rule(name, own, tuple(states))


@_registered
class Adam(Fused, made_by_keras.Adam):
    """keras.optimizers.Adam with our step, whose rule is that of `fusedstep.Adam`."""

    def _rule(self, t: int) -> Rule | None:
        own = _betas(self) | {"eps_corrected": False}
        rate = rounded_correction(self._momentums, self.beta_1, self.beta_2, t)
        if self.amsgrad:
            return Rule("amsgrad", own, (self._momentums, self._velocities, self._velocity_hats), rate=rate)
        return Rule("adam", own, (self._momentums, self._velocities), rate=rate)


@_registered
class AdamW(Fused, made_by_keras.AdamW):
    """keras.optimizers.AdamW with our step, whose rule is that of `fusedstep.Adam` after the decay."""

    _rule = Adam._rule


@_registered
class Adadelta(Fused, made_by_keras.Adadelta):
    """keras.optimizers.Adadelta with our step, whose rule is that of `fusedstep.Adadelta`."""

    def _rule(self, t: int) -> Rule | None:
        own = {"rho": self.rho, "eps": self.epsilon}
        return Rule("adadelta", own, (self._accumulated_grads, self._accumulated_delta_vars))


@_registered
class Adagrad(Fused, made_by_keras.Adagrad):
    """keras.optimizers.Adagrad with our step, whose rule is that of `fusedstep.AdaGrad`."""

    def _rule(self, t: int) -> Rule | None:
        return Rule("adagrad", {"eps": self.epsilon, "eps_inside_root": True}, (self._accumulators,))


@_registered
class Adamax(Fused, made_by_keras.Adamax):
    """keras.optimizers.Adamax with our step, whose rule is that of `fusedstep.Adamax`."""

    def _rule(self, t: int) -> Rule | None:
        return Rule("adamax", _betas(self) | {"eps_inside_max": False}, (self._m, self._u))


@_registered
class Nadam(Fused, made_by_keras.Nadam):
    """keras.optimizers.Nadam with our step, whose rule is that of `fusedstep.NAdam`."""

    def _rule(self, t: int) -> Rule | None:
        own, rate = _betas(self) | {"momentum_decay": 1.0}, 1.0
        if self._u_product._dtype == "float32":
            if keras.backend.backend() == "numpy":  # where Keras subtracts rounded numbers from 1, for the moments, too
                own |= {"beta1": float(np.float32(self.beta_1)), "beta2": float(np.float32(self.beta_2))}
            rate = _ratio(_rounded_rest(self.beta_2, t), 1 - own["beta2"] ** t) ** 0.5
        scalars = (self._u_product._value.item(),)
        return Rule("nadam", own, (self._momentums, self._velocities), scalars, self._u_product, rate)


@_registered
class Ftrl(Fused, made_by_keras.Ftrl):
    """keras.optimizers.Ftrl with our step, whose rule is that of `fusedstep.FTRL`.

    A learning_rate_power other than -0.5 is left to Keras' step.
    """

    def _rule(self, t: int) -> Rule | None:
        if self.learning_rate_power != -0.5:
            return None
        own = {
            "l1": self.l1_regularization_strength,
            "l2": self.l2_regularization_strength,
            "l2_shrinkage": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }
        return Rule("ftrl", own, (self._accumulators, self._linears))


@_registered
class Lion(Fused, made_by_keras.Lion):
    """keras.optimizers.Lion with our step, whose rule is that of `fusedstep.Lion`."""

    def _rule(self, t: int) -> Rule | None:
        return Rule("lion", {"beta1": self.beta_1, "beta2": self.beta_2}, (self._momentums,))


@_registered
class Lamb(Fused, made_by_keras.Lamb):
    """keras.optimizers.Lamb with our step, whose rule is that of `fusedstep.LAMB`."""

    def _rule(self, t: int) -> Rule | None:
        return Rule("lamb", _betas(self) | {"decay_in_update": False}, (self._momentums, self._velocities))


@_registered
class Adafactor(Fused, made_by_keras.Adafactor):
    """keras.optimizers.Adafactor with our step, whose rule is that of `fusedstep.Adafactor`.

    The variable "velocity" of a matrix stays as it is: Keras' step keeps a product in it that no step reads.
    """

    def _rule(self, t: int) -> Rule | None:
        own = {
            "beta2_decay": -self.beta_2_decay,
            "eps1": self.epsilon_1,
            "eps2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
            "relative_step": True,  # Keras' own argument bounds a rate that is bounded anyway
            "decay_first": True,
        }
        return Rule("adafactor", own)

    def _state(self, rule: Rule, i: int) -> list[Any]:
        if len(self._trainable_variables[i].shape) < 2:
            column = memory(self._v[i])
            return [column.reshape(-1)[:0], column]  # a vector has no moments of rows
        return [memory(self._r[i])[..., None], memory(self._c[i])[..., None, :]]


@_registered
class ScheduleFreeAdamW(Fused, made_by_keras.ScheduleFreeAdamW):
    """keras.optimizers.ScheduleFreeAdamW with our step, whose rule is that of `fusedstep.ScheduleFreeAdamW`.

    The numbers are those of Keras' backend numpy. On the backend torch Keras' own step reads the old momentum from
    memory that has the new one by then. The first step is Keras', which makes no use of the old one.
    """

    def _rule(self, t: int) -> Rule | None:
        if t == 1 or self.beta_1 == 0:  # ours would begin with a momentum that is a copy of the variable by now
            return None
        own, rate = _betas(self) | {"warmup_steps": self.warmup_steps, "weight_lr_power": 0.0}, 1.0
        if _are_float32(self._momentums):
            own |= {"beta1": float(np.float32(self.beta_1)), "beta2": float(np.float32(self.beta_2))}
            rate = _ratio(_rounded_rest(self.beta_2, t), 1 - own["beta2"] ** t) ** 0.5
        # So far the mean has had t - 1 numbers of the same weight.
        return Rule("schedule_free_adamw", own, (self._momentums, self._velocities), (t - 1.0, 0.0), rate=rate)

    def _make_step(
        self, rule: Rule, numbers: list[int], params: list[Any], grads: list[Any], state: list[Any], **options: Any
    ) -> None:
        decay = {key: options.pop(key) for key in ("weight_decay", "decoupled") if key in options}
        if decay:  # of the variable, and not of the momentum, as the rule has it
            step(rule.name, [], [], [], **rule.own)  # raises the errors that would come after it
            step("sgd", params, grads, None, lr=options["lr"], scale=0.0, **decay)
        super()._make_step(rule, numbers, params, grads, state, **options)


def _betas(optimizer: Any) -> dict[str, Any]:
    return {"beta1": optimizer.beta_1, "beta2": optimizer.beta_2, "eps": optimizer.epsilon}


# A float32 of 0.999 and its powers are near 1, so that rounding them changes their distance from 1 by 1e-5 of it.


def rounded_correction(momentums: list[Any], beta_1: float, beta_2: float, t: int) -> float:
    """Adam's bias correction as Keras rounds it to float32, divided by the exact one."""
    if not _are_float32(momentums):
        return 1.0
    of_mean, of_square = (_ratio(_rounded_rest(beta, t), 1 - beta**t) for beta in (beta_1, beta_2))
    return float(of_square**0.5 / of_mean)


def _are_float32(variables: list[Any]) -> bool:
    return all(variable._dtype == "float32" for variable in variables if variable is not None)


def _rounded_rest(beta: float, t: int) -> float:
    """1 - beta^t from float32 numbers. NumPy's power isn't always the nearest one, PyTorch's is."""
    if keras.backend.backend() == "numpy":
        return 1 - float(np.power(np.float32(beta), np.float32(t)))
    return 1 - float(np.float32(float(np.float32(beta)) ** t))


def _ratio(rounded: float, exact: float) -> float:
    return rounded / exact if exact > 0 and 0.5 < rounded / exact < 2 else 1.0
