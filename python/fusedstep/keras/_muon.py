"""The class of keras.optimizers whose step has two rules, one of them with matrix products."""

from typing import Any

import keras
from numpy.typing import NDArray

from fusedstep import _native, optimizers
from fusedstep.keras._classes import rounded_correction
from fusedstep.keras._optimizer import Fused, Rule, as_array, as_native, made_by_keras, memory


class _Matrices(optimizers.Muon):
    """The rule of matrices, with the matrix products of an optimizer of Keras."""

    def __init__(self, made_for: Any) -> None:
        super().__init__(0.0, made_for.momentum, nesterov=made_for.nesterov)
        self.made_for = made_for

    def _finish(self, direction: NDArray[Any]) -> None:
        x = self.made_for.zeropower_via_newtonschulz5(as_native(direction), self.made_for.ns_steps)
        as_native(direction)[...] = self.made_for.lr_adjust(x)


@keras.saving.register_keras_serializable(package="fusedstep")
class Muon(Fused, made_by_keras.Muon):
    """keras.optimizers.Muon with our step, whose rules are those of `fusedstep.Muon` and `fusedstep.Adam`.

    The matrix products are made by Keras' own methods.
    """

    def _rule(self, t: int) -> Rule | None:
        if not (self.momentum < 1 and self.adam_lr_ratio > 0):
            return None
        return Rule("muon", {"beta1": self.adam_beta_1, "beta2": self.adam_beta_2, "eps": self.epsilon})

    def _decays(self, numbers: list[int], variables: list[Any]) -> list[float]:
        own = [self.weight_decay if self.adam_velocities[i] is None else self.adam_weight_decay for i in numbers]
        return [
            decay if decay and self._use_weight_decay(variable) else 0.0
            for decay, variable in zip(own, variables, strict=True)
        ]

    def _state(self, rule: Rule, i: int) -> list[Any]:
        own = (self.momentums[i], self.adam_velocities[i])
        return [memory(variable) for variable in own if variable is not None]

    def _make_step(
        self, rule: Rule, numbers: list[int], params: list[Any], grads: list[Any], state: list[Any], **options: Any
    ) -> None:
        t, average = options["t"], options.get("average")
        adam_rate = rounded_correction(self.momentums, self.adam_beta_1, self.adam_beta_2, t) * self.adam_lr_ratio
        matrices, others = _Matrices(self), optimizers.Adam(**rule.own, eps_corrected=False, count_updates=True)
        others.iterations = t - 1
        parts: dict[Any, list[Any]] = {matrices: [], others: []}

        def add(optimizer: Any, names: tuple[str, ...], n: int, rate: float, factor: float) -> None:
            own = {key: each[n] if isinstance(each, list) else each for key, each in options.items()}
            overrides = {
                "scale": factor * own["scale"],
                "clip_value": factor * own["clip_value"] if "clip_value" in own else None,
                "weight_decay": own.get("weight_decay", 0.0) / rate,
                "decoupled": True,
            }
            parts[optimizer].append((rate * own["lr"], overrides, (average,)))
            optimizer.state[n] = dict(zip((*names, "average"), map(as_array, state[n]), strict=False))

        for n, i in enumerate(numbers):
            if self.adam_velocities[i] is None:
                add(matrices, ("m",), n, 1.0, 1 / (1 - self.momentum))  # m is a sum here, and a mean there
            else:
                add(others, ("m", "v"), n, adam_rate, 1.0)
        _native.update(
            list(parts.items()),
            dict(enumerate(params)),
            dict(enumerate(grads)),
            1.0,
            options["zero_grads"],
            None,
            {n: place for place, n in enumerate((*matrices.state, *others.state))},
            None,
            None,
            None,
            False,
        )
