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
    Row(fs.SGD, reference.SGD),
    Row(fs.Momentum, reference.Momentum, ({"lr_in_velocity": False}, {"momentum": 0.0})),
    Row(fs.Nesterov, reference.Nesterov, ({"momentum": 0.5},)),
    Row(fs.AdaGrad, reference.AdaGrad, ({"eps_inside_root": True}, {"eps": 0.1})),
    Row(fs.RMSProp, reference.RMSProp, ({"eps_inside_root": True}, {"decay_rate": 0.9, "eps": 0.1})),
    Row(fs.Adam, reference.Adam, ({"eps_inside_root": True}, {"beta1": 0.0, "beta2": 0.5, "eps": 0.1})),
    Row(fs.AdamW, reference.AdamW, ({"eps_inside_root": True}, {"weight_decay": 0.0})),
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
            {"beta1": 0.9, "clip_threshold": 0.5},
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
)
ALL_ROWS = tuple(pytest.param(row, id=row.optimizer.__name__) for row in ROWS)

CAUTIOUS = {"lr": schedule, "weight_decay": 2.0, "decoupled": True, "cautious_decay": True, "max_lr": 0.05}
COMMON_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"lr": 0.3, "weight_decay": 0.1},
    {"lr": 0.3, "weight_decay": 0.1, "decoupled": True},
    {"lr": schedule},
    CAUTIOUS,
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


def assert_same_state(ours: fs.Optimizer, theirs: reference.Optimizer) -> None:
    assert ours.state.keys() == theirs.state.keys()
    assert ours.steps == theirs.steps or isinstance(ours, book.Adam)
    for key, arrays in theirs.state.items():
        assert ours.state[key].keys() == arrays.keys()
        for letter, array in arrays.items():
            np.testing.assert_array_equal(ours.state[key][letter], array, strict=True)
