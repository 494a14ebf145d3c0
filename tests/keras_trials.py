"""What fusedstep.keras and Keras' own classes are tried with, on the backend that KERAS_BACKEND names."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

BACKEND = keras.backend.backend()
STEPS = 36
SHAPES: dict[str, tuple[int, ...]] = {
    "kernel": (12, 7),
    "bias": (9,),
    "still": (6, 5),  # its gradients are 0
    "scalar": (),
    "stack": (2, 3, 4),
    "paused": (4, 3),  # without gradient in some steps
    "held": (5,),  # with a constraint
}
# In units in the last place of the largest number of an array. Each side rounds a weight once or twice in a step, and
# Keras some coefficients of moments to float32 several times, so that 36 steps can be apart by about this.
BOUND = 64
Arrays = dict[str, NDArray[Any]]

CLASSES: dict[str, tuple[dict[str, Any], ...]] = {
    "SGD": ({}, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True}),
    "RMSprop": ({}, {"momentum": 0.9}, {"centered": True, "epsilon": 1e-3, "momentum": 0.5}),
    "Adam": ({}, {"amsgrad": True, "beta_1": 0.8, "epsilon": 1e-3}),
    "AdamW": ({}, {"amsgrad": True, "weight_decay": 0.1}),
    "Adadelta": ({}, {"rho": 0.5}),
    "Adagrad": ({}, {"initial_accumulator_value": 0.5}),
    "Adamax": ({}, {"beta_2": 0.9}),
    "Adafactor": ({}, {"relative_step": False, "clip_threshold": 0.5, "learning_rate": 0.7}),
    "Nadam": ({}, {"beta_1": 0.8}),
    "Ftrl": (
        {},
        {"l1_regularization_strength": 0.1, "l2_shrinkage_regularization_strength": 0.2, "beta": 0.1},
    ),
    "Lion": ({}, {"beta_2": 0.9}),
    "Lamb": ({}, {"epsilon": 1e-3}),
    "Muon": (
        {},
        {"momentum": 0.5, "nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5, "exclude_layers": ["still"]},
        {"adam_weight_decay": None, "weight_decay": 0.1, "ns_steps": 3, "muon_a": 2.0, "muon_b": -1.5, "muon_c": 0.5},
    ),
    "ScheduleFreeAdamW": ({}, {"beta_1": 0.5, "warmup_steps": 10}),
}
COMMON: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "ema": {"use_ema": True, "ema_momentum": 0.9},
    "ema that overwrites": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 7},
    "accumulated": {"gradient_accumulation_steps": 3},
    "accumulated, clipped": {"gradient_accumulation_steps": 4, "global_clipnorm": 0.5, "weight_decay": 0.1},
    "accumulated, ema": {"gradient_accumulation_steps": 4, "use_ema": True, "ema_overwrite_frequency": 5},
    "scaled loss": {"loss_scale_factor": 1024.0, "clipvalue": 1e-4},
    "schedule": {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)},
    "callable": {"learning_rate": lambda: 0.03},
}


@keras.saving.register_keras_serializable(package="tests")
class WithOwnMemory(keras.optimizers.ScheduleFreeAdamW):  # type: ignore[misc]
    """Keras' ScheduleFreeAdamW, whose new momentum isn't in the memory of the old one, which the step reads then."""

    def assign_sub(self, variable: Any, value: Any) -> None:
        variable._value = variable.value - keras.ops.convert_to_tensor(value)


def of_keras(name: str) -> Any:
    return WithOwnMemory if name == "ScheduleFreeAdamW" else getattr(keras.optimizers, name)


def numbers(variable: Any) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable.value if BACKEND == "numpy" else variable.value.detach()))


def made(dtype: str = "float32") -> list[Any]:
    rng = np.random.default_rng(1)
    variables = [
        keras.Variable(rng.standard_normal(shape).astype(dtype), dtype=dtype, name=name)
        for name, shape in SHAPES.items()
    ]
    variables[-1].constraint = keras.constraints.NonNeg()
    return variables


def gradients(dtype: str = "float32", steps: int = STEPS, pauses: bool = True) -> Iterator[list[Any]]:
    rng = np.random.default_rng(2)
    for number in range(steps):
        size = 10.0 ** rng.uniform(-2, 0)
        grads = {name: (size * rng.standard_normal(shape)).astype(dtype) for name, shape in SHAPES.items()}
        grads["still"][...] = 0
        given: list[Any] = [keras.ops.convert_to_tensor(g) for g in grads.values()]
        if pauses and 10 <= number < 15:
            given[list(SHAPES).index("paused")] = None
        yield given


def trained(
    make: Callable[..., Any], options: dict[str, Any], dtype: str = "float32", pauses: bool = True, steps: int = STEPS
) -> tuple[Any, Arrays]:
    """An optimizer after all steps, and all numbers by then: the variables' and its own."""
    variables = made(dtype)
    optimizer = make(**{"learning_rate": 0.02} | options)
    optimizer.exclude_from_weight_decay(var_list=[variables[0]], var_names=["bias"])
    for number, grads in enumerate(gradients(dtype, steps, pauses)):
        if number == 20 and "learning_rate" not in options:
            optimizer.learning_rate = 0.01
        optimizer.apply(grads, variables)
    arrays = {name: numbers(variable) for name, variable in zip(SHAPES, variables, strict=True)}
    return optimizer, arrays | {f"{i} of the optimizer": numbers(v) for i, v in enumerate(optimizer.variables)}


def assert_close(ours: Arrays, theirs: Arrays, ignored: Sequence[str] = (), bound: float = BOUND) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        if bound == 0:
            np.testing.assert_array_equal(ours[name], array)
        elif name not in ignored:
            unit = np.finfo("float32").eps * max(np.abs(array).max(initial=0.0), 1e-30)
            assert np.abs(ours[name] - array).max(initial=0.0) <= bound * unit, name
