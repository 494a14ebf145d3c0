"""The table: one row for each optimizer, with the options that its tests run through."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import book, reference

SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 1000, 100_003)


def schedule(iterations: int) -> float:
    return 0.02 / (1 + iterations)


@dataclass(frozen=True)
class Row:
    optimizer: type[Any]
    reference: type[Any]
    options: tuple[dict[str, Any], ...] = field(default=())


ROWS = (
    Row(fs.SGD, reference.SGD, ({"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.5, "nesterov": True})),
    Row(fs.Momentum, reference.Momentum, ({"lr_in_velocity": False}, {"momentum": 0.0})),
    Row(fs.Nesterov, reference.Nesterov, ({"momentum": 0.5},)),
    Row(fs.ASGD, reference.ASGD, ({"lambd": 0.1, "t0": 0.0}, {"t0": 0.0, "alpha": 0.5, "lambd": 2.0})),
    Row(fs.Rprop, reference.Rprop, ({"step_min": 0.005, "step_max": 0.02}, {"eta_minus": 0.0, "eta_plus": 3.0})),
    Row(fs.AdaGrad, reference.AdaGrad, ({"eps_inside_root": True}, {"eps": 0.1, "initial_accumulator": 0.1})),
    Row(fs.Adadelta, reference.Adadelta, ({"rho": 0.5, "eps": 0.1}, {"one_root": True})),
    Row(
        fs.RMSProp,
        reference.RMSProp,
        (
            {"eps_inside_root": True},
            {"decay_rate": 0.9, "eps": 0.1, "initial_accumulator": 1.0},
            {"centered": True, "decay_rate": 0.5},
            {"momentum": 0.9, "lr_in_velocity": True, "eps_inside_root": True},
            {"momentum": 0.5, "centered": True, "eps": 0.1},
        ),
    ),
    Row(
        fs.Adam,
        reference.Adam,
        (
            {"eps_inside_root": True},
            {"beta1": 0.0, "beta2": 0.5, "eps": 0.1},
            {"amsgrad": True, "beta2": 0.5},
            {"amsgrad": True, "beta2": 0.5, "max_corrected": True, "eps_inside_root": True},
            {"eps_corrected": False},
        ),
    ),
    Row(fs.AdamW, reference.AdamW, ({"eps_inside_root": True}, {"weight_decay": 0.0}, {"amsgrad": True})),
    Row(fs.Adamax, reference.Adamax, ({"eps_inside_max": False, "eps": 0.1}, {"beta1": 0.5, "beta2": 0.5})),
    Row(fs.RAdam, reference.RAdam, ({"beta2": 0.9, "threshold": 0.0}, {"beta2": 0.9, "eps_corrected": True})),
    Row(fs.NAdam, reference.NAdam, ({"momentum_decay": 1.0, "eps_inside_root": True}, {"eps_corrected": False})),
    Row(
        fs.LAMB,
        reference.LAMB,
        ({"trust_clip": True, "weight_decay": 0.1}, {"weight_decay": 0.1, "decay_in_update": False}),
    ),
    Row(
        fs.LARS,
        reference.LARS,
        (
            {"nesterov": True, "weight_decay": 0.1},
            {"trust_clip": True, "trust_coefficient": 0.5},
            {"decoupled": False, "weight_decay": 0.1, "eps": 0.0},
        ),
    ),
    Row(
        fs.Adafactor,
        reference.Adafactor,
        (
            {"eps1": None, "eps1_as_floor": True, "weight_decay": 0.1},
            {"beta1": 0.9, "clip_threshold": 0.5, "weight_decay": 0.1, "decay_first": True},
            {
                "relative_step": False,
                "scale_parameter": False,
                "clip_threshold": None,
                "beta1": 0.5,
                "weight_decay": 0.1,
            },
        ),
    ),
    Row(fs.StableAdamW, reference.StableAdamW, ({"weight_decay": 0.0}, {"beta1": 0.0, "beta2": 0.5, "eps": 0.1})),
    Row(fs.AdaBelief, reference.AdaBelief, ({"eps_root": 0.1, "eps": 0.0}, {"beta1": 0.0, "weight_decay": 0.1})),
    Row(fs.Yogi, reference.Yogi, ({"initial_accumulator": 0.1, "initial_m": 0.2}, {"beta2": 0.0})),
    Row(fs.LaProp, reference.LaProp, ({"beta1": 0.0}, {"beta2": 0.0, "eps": 0.1})),
    Row(fs.ADOPT, reference.ADOPT, ({"clip_exponent": None}, {"beta2": 0.0, "eps": 0.1, "clip_exponent": 0.0})),
    Row(
        fs.AdEMAMix,
        reference.AdEMAMix,
        ({"t_alpha": 3.0, "t_beta3": 4.0}, {"t_beta3": 10.0, "beta1": 0.0, "beta3": 0.5}, {"alpha": 0.0}),
    ),
    Row(fs.Adan, reference.Adan, ({"no_prox": True, "weight_decay": 0.1}, {"eps_root": 0.1, "difference_weight": 0.3})),
    Row(fs.SignSGD, reference.SignSGD),
    Row(fs.Signum, reference.Signum, ({"momentum": 0.0}, {"momentum": 1.0})),
    Row(fs.Lion, reference.Lion, ({"weight_decay": 0.1}, {"beta1": 0.0, "beta2": 0.5})),
    Row(
        fs.ScheduleFreeSGD,
        reference.ScheduleFreeSGD,
        ({"warmup_steps": 4.0, "r": 0.5}, {"lr": 0.0}, {"momentum": 1.0, "weight_lr_power": 0.0}),
    ),
    Row(
        fs.ScheduleFreeAdamW,
        reference.ScheduleFreeAdamW,
        ({"warmup_steps": 4.0, "weight_decay": 0.1}, {"beta1": 0.0, "beta2": 0.5, "eps": 0.1}),
    ),
    Row(
        fs.FTRL,
        reference.FTRL,
        ({"l1": 0.5, "l2": 0.1, "l2_shrinkage": 0.2, "beta": 1.0}, {"initial_accumulator": 0.0, "l1": 10.0}),
    ),
)
ALL_ROWS = tuple(pytest.param(row, id=row.optimizer.__name__) for row in ROWS)

# Rules that a step treats as it does another of the table: tests of what isn't the rule's own affair leave them out.
LIKE_ANOTHER = {
    *(fs.Nesterov, fs.SignSGD, fs.Signum, fs.Lion, fs.AdaGrad, fs.RMSProp, fs.Adadelta, fs.FTRL, fs.AdamW, fs.Adamax),
    *(fs.RAdam, fs.NAdam, fs.AdaBelief, fs.Yogi, fs.LaProp, fs.AdEMAMix, fs.LARS, fs.StableAdamW, fs.ScheduleFreeSGD),
}
KINDS = tuple(param for param, row in zip(ALL_ROWS, ROWS, strict=True) if row.optimizer not in LIKE_ANOTHER)

CAUTIOUS = {"lr": schedule, "weight_decay": 2.0, "decoupled": True, "cautious_decay": True, "max_lr": 0.05}
AFTER = {"lr": schedule, "weight_decay": 2.0, "decay_after": True}
COMMON_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"lr": 0.3, "weight_decay": 0.1},
    {"lr": 0.3, "weight_decay": 0.1, "decoupled": True},
    {"lr": schedule},
    CAUTIOUS,
    AFTER,
)


def _cases() -> Iterator[Any]:
    for row in ROWS:
        for options in (*COMMON_OPTIONS, *row.options):
            text = ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items())
            name = row.optimizer.__name__
            yield pytest.param(row, options, id=f"{name}({text})")
    # A rule that only the book's dialect has.
    row = Row(book.Nesterov, reference.Nesterov)
    yield pytest.param(row, {"legacy": True}, id="book.Nesterov(legacy)")
    yield pytest.param(row, {"legacy": True, "lr": schedule, "momentum": 0.5}, id="book.Nesterov(legacy,lr=schedule)")


ALL_CASES = tuple(_cases())


def shape_of_state(kind: str | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a state of a parameter, as `rules` describes it."""
    if kind == "rows":
        return (*shape[:-1], 1) if len(shape) > 1 else (0,)
    return (*shape[:-2], 1, shape[-1]) if kind == "columns" and len(shape) > 1 else shape


def new_state(rule: str, w: Any, average: bool = False, **given: Any) -> dict[str, Any]:
    """What a parameter has before its first step, in the order in which `step` takes it."""
    own, dtype = fs.rules()[rule], np.float64 if w.dtype == np.float64 else np.float32
    values = own["hyperparameters"] | given
    state: dict[str, Any] = {}
    for name in own["states"]:
        start = own["starts"].get(name)
        value = 0 if start is None else w if start == "parameter" else values[start]
        state[name] = np.full(shape_of_state(own["shapes"].get(name), w.shape), value, dtype)
    if average:
        state["average"] = w.astype(dtype)
    return state | {name: np.array(value) for name, value in own["scalars"].items()}


def assert_same_state(ours: fs.Optimizer, theirs: reference.Optimizer) -> None:
    assert ours.state.keys() == theirs.state.keys()
    assert ours.steps == theirs.steps or isinstance(ours, book.Adam)
    for key, arrays in theirs.state.items():
        assert ours.state[key].keys() == arrays.keys()
        for letter, array in arrays.items():
            np.testing.assert_array_equal(ours.state[key][letter], array, strict=True)
