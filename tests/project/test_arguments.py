"""Wrong values for numbers and flags: the error begins with the argument's name and says what is expected."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import book, initializers, schedules

X, ONES = np.ones((4, 3)), np.ones(3)


class Raises:
    """A number whose conversion fails, and which has no text."""

    def __float__(self) -> float:
        raise RuntimeError("no float today")

    def __index__(self) -> int:
        raise RuntimeError("no index today")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth today")

    def __repr__(self) -> str:
        raise RuntimeError("no text today")


NEITHER: tuple[Any, ...] = (
    None,
    "1",
    b"1",
    1j,
    True,
    np.True_,
    np.array([1]),
    np.array("x"),
    [],
    Raises(),
    object(),
    Decimal("sNaN"),
)
FLOATS = (*NEITHER, float("nan"), float("inf"), -1, -0.5, Fraction(10**400), 10**400, -(10**6000))
INTEGERS = (*NEITHER, 1.5, float("nan"), -(10**400), 10**6000)
NORMS = (*NEITHER[1:], -1, -0.5, -(10**6000), -np.inf)
FLAGS = tuple(value for value in FLOATS if not isinstance(value, bool | np.bool_))


def updated(optimizer: fs.Optimizer) -> None:
    optimizer.update(np.ones(3), np.ones(3))


def stepped(**options: Any) -> None:
    fs.step("adam", [ONES.copy()], [ONES], [(np.zeros(3), np.zeros(3))], **options)


def with_steps(value: Any) -> None:
    optimizer = fs.Adam()
    updated(optimizer)
    optimizer.steps[0] = value
    updated(optimizer)


def with_attribute(layer: Any, name: str, value: Any) -> None:
    setattr(layer, name, value)
    layer.forward(X)


# By what the error begins with: a function of the value, and what is wrong for it.
CASES: tuple[tuple[str, Callable[[Any], Any], tuple[Any, ...]], ...] = (
    ("lr", lambda v: updated(fs.SGD(v)), FLOATS),
    ("lr(0)", lambda v: updated(fs.SGD(lambda t: v)), FLOATS),
    ("momentum", lambda v: fs.Momentum(momentum=v), FLOATS),
    ("momentum", lambda v: fs.SGD(momentum=v), FLOATS),
    ("dampening", lambda v: fs.SGD(dampening=v), FLOATS),
    ("nesterov", lambda v: fs.SGD(nesterov=v), FLAGS),
    ("centered", lambda v: fs.RMSProp(centered=v), FLAGS),
    ("amsgrad", lambda v: fs.Adam(amsgrad=v), FLAGS),
    ("max_corrected", lambda v: fs.Adam(max_corrected=v), FLAGS),
    ("eps_inside_max", lambda v: fs.Adamax(eps_inside_max=v), FLAGS),
    ("threshold", lambda v: fs.RAdam(threshold=v), FLOATS),
    ("momentum_decay", lambda v: fs.NAdam(momentum_decay=v), FLOATS),
    ("eta_minus", lambda v: fs.Rprop(eta_minus=v), FLOATS),
    ("clip_norm", lambda v: fs.SGD(clip_norm=v), FLOATS[1:]),  # None is none
    ("clip_norm", lambda v: fs.Split([], clip_norm=v), FLOATS[1:]),
    ("clip_norm", lambda v: stepped(clip_norm=v), FLOATS[1:]),
    ("clip_value", lambda v: fs.Adam(clip_value=v), FLOATS[1:]),
    ("average", lambda v: fs.Adam(average=v), FLOATS[1:]),
    ("average(0)", lambda v: updated(fs.SGD(average=lambda t: v)), FLOATS),
    ("groups[0]['lr']", lambda v: fs.SGD(groups=[("a", {"lr": v})]), FLOATS),
    ("lr(0)", lambda v: updated(fs.SGD(groups=[(0, {"lr": lambda t: v})])), FLOATS),
    ("decoupled", lambda v: fs.SGD(decoupled=v), FLAGS),
    ("maximize", lambda v: fs.SGD(maximize=v), FLAGS),
    ("master", lambda v: fs.SGD(master=v), FLAGS),
    ("skip_nonfinite", lambda v: fs.SGD(skip_nonfinite=v), FLAGS),
    ("skip_nonfinite", lambda v: fs.Split([], skip_nonfinite=v), FLAGS),
    ("skip_nonfinite", lambda v: stepped(skip_nonfinite=v), FLAGS),
    ("rounding", lambda v: fs.SGD(rounding=v), FLOATS),
    ("rounding", lambda v: stepped(rounding=v), FLOATS),
    ("state_dtype", lambda v: fs.SGD(state_dtype=v), FLOATS[1:]),
    ("seed", lambda v: fs.SGD(seed=v), INTEGERS),
    ("seed", lambda v: stepped(seed=v), INTEGERS),
    ("skipped", lambda v: setattr(fs.SGD(), "skipped", v), INTEGERS),
    ("scale", lambda v: fs.SGD().update(ONES.copy(), ONES, scale=v), FLOATS),
    ("scale", lambda v: fs.Split([(0, fs.SGD())]).update(ONES.copy(), ONES, scale=v), FLOATS),
    ("scale", lambda v: fs.accumulate(ONES.copy(), ONES, v), FLOATS),
    ("norm", lambda v: fs.SGD().update(ONES.copy(), ONES, norm=v), NORMS),
    ("norm", lambda v: fs.Split([(0, fs.SGD())]).update(ONES.copy(), ONES, norm=v), NORMS),
    ("norm", lambda v: stepped(norm=v), NORMS),
    ("zero_grads", lambda v: fs.SGD().update(ONES.copy(), ONES.copy(), zero_grads=v), FLAGS),
    ("zero_grads", lambda v: fs.Split([(0, fs.SGD())]).update(ONES.copy(), ONES.copy(), zero_grads=v), FLAGS),
    ("zero_grads", lambda v: stepped(zero_grads=v), FLAGS),
    ("decay", lambda v: schedules.AverageWarmup(v), FLOATS),
    ("indices", lambda v: fs.Rows(v, X), NEITHER[:6]),
    ("values", lambda v: fs.Rows([0], v), NEITHER[:5]),
    ("lr_in_velocity", lambda v: fs.Momentum(lr_in_velocity=v), FLAGS),
    ("eps_inside_root", lambda v: fs.Adam(eps_inside_root=v), FLAGS),
    ("t_alpha", lambda v: fs.AdEMAMix(t_alpha=v), FLOATS[1:]),  # None is at once
    ("learning_rate_power", lambda v: fs.FTRL(learning_rate_power=v), (*NEITHER, -0.6, 0.5)),
    ("legacy", lambda v: book.Nesterov(legacy=v), FLAGS),
    ("lazy", lambda v: setattr(book.Adam(), "lazy", v), FLAGS),
    ("lazy", lambda v: book.install(lazy=v), FLAGS),
    ("at_once", lambda v: book.UnigramSampler([0, 1], 0.75, 1, at_once=v), FLAGS),
    ("sample_size", lambda v: book.NegativeSamplingLoss(X, [0, 1], sample_size=v), INTEGERS),
    ("iterations", lambda v: setattr(fs.Adam(), "iterations", v), INTEGERS),
    ("iter", lambda v: setattr(book.Adam(), "iter", v), INTEGERS),
    ("steps[0]", with_steps, INTEGERS),
    ("rule", lambda v: fs.step(v, ONES.copy(), ONES, None), tuple(v for v in FLOATS if not isinstance(v, str))),
    ("lr[0]", lambda v: stepped(lr=[v]), FLOATS),
    ("scale", lambda v: stepped(scale=v), tuple(v for v in FLOATS if not isinstance(v, list))),
    ("decoupled[0]", lambda v: stepped(decoupled=[v]), FLAGS),
    ("t[0]", lambda v: stepped(t=[v]), INTEGERS),
    ("lr", lambda v: schedules.Cosine(v, 3), FLOATS),
    ("end", lambda v: schedules.Cosine(0.1, 3, v), FLOATS),
    ("steps", lambda v: schedules.Polynomial(0.1, v), INTEGERS),
    ("power", lambda v: schedules.Polynomial(0.1, 3, 0, v), FLOATS),
    ("at[0]", lambda v: schedules.StepDecay(0.1, [v]), INTEGERS),
    ("factor", lambda v: schedules.StepDecay(0.1, [1], v), FLOATS),
    ("t", lambda v: schedules.Exponential(0.1, 0.5)(v), INTEGERS),
    ("schedules[0]", lambda v: schedules.Joined([v, 0.1], [1]), FLOATS),
    ("schedules[1](0)", lambda v: schedules.Joined([0.1, lambda t: v], [1])(1), FLOATS),
    ("gain", lambda v: initializers.he_normal((2, 3), gain=v), FLOATS),
    ("shape", lambda v: initializers.he_normal((v, 3)), INTEGERS),
    ("in_axis", lambda v: initializers.fans((2, 3), v, 0), INTEGERS),
    ("mode", lambda v: initializers.he_normal((2, 3), mode=v), NEITHER),
    ("dtype", lambda v: initializers.he_normal((2, 3), dtype=v), FLOATS),
    ("rng", lambda v: initializers.he_normal((2, 3), rng=v), ("1", b"1", 1j, True, np.True_, -1, 0.5, Raises())),
    ("rate", lambda v: fs.dropout(X, v, seed=1), FLOATS),
    ("seed", lambda v: fs.dropout(X, seed=v), INTEGERS),
    ("call", lambda v: fs.dropout(X, seed=1, call=v), INTEGERS),
    ("rate", lambda v: with_attribute(fs.Dropout(), "rate", v), FLOATS),
    ("seed", lambda v: with_attribute(fs.Dropout(), "seed", v), INTEGERS),
    ("calls", lambda v: with_attribute(fs.Dropout(), "calls", v), INTEGERS),
    ("eps", lambda v: fs.batch_norm(X, ONES, ONES, v), FLOATS),
    ("channel_axis", lambda v: fs.batch_norm(X, ONES, ONES, channel_axis=v), INTEGERS),
    ("channel_axis", lambda v: fs.batch_norm_inference(X, ONES, ONES, ONES, ONES, channel_axis=v), INTEGERS),
    ("channel_axis", lambda v: fs.batch_norm_backward(X, X, ONES, ONES, ONES, v), INTEGERS),
    ("gamma", lambda v: fs.batch_norm(X, v, ONES), NEITHER),
    ("var", lambda v: fs.batch_norm_inference(X, ONES, ONES, ONES, v), NEITHER),
    ("num_features", lambda v: fs.BatchNorm(v), INTEGERS),
    ("dtype", lambda v: fs.BatchNorm(3, dtype=v), FLOATS),
    ("channel_axis", lambda v: with_attribute(fs.BatchNorm(3), "channel_axis", v), INTEGERS),
    ("decay", lambda v: with_attribute(fs.BatchNorm(3), "decay", v), FLOATS),
    ("unbiased_running_var", lambda v: with_attribute(fs.BatchNorm(3), "unbiased_running_var", v), FLAGS),
    (
        "gamma",
        lambda v: book.BatchNormalization(v, ONES).forward(X),
        ("1", b"1", None, 1j, [], [[1], [1, 2]], Raises()),
    ),
    ("momentum", lambda v: with_attribute(book.BatchNormalization(ONES, ONES), "momentum", v), FLOATS),
    ("x", lambda v: book.BatchNormalization(ONES, ONES).forward(v), (*NEITHER[:6], [[1.0]], Raises())),
    ("dropout_ratio", lambda v: book.Dropout(v), FLOATS),
    ("the number of threads", fs.set_num_threads, (*INTEGERS, 0)),
    ("the size of the buffer cache", fs.set_buffer_cache, INTEGERS),
    ("flag", fs.set_flush_subnormals, FLAGS),
    ("the instruction set", fs.use_isa, (*FLOATS, np.array(["a", "b"]))),
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "call", "wrong"), CASES, ids=[f"{i}-{row[0]}" for i, row in enumerate(CASES)])
def test_wrong_values_are_named(name: str, call: Callable[[Any], Any], wrong: tuple[Any, ...]) -> None:
    for value in wrong:
        with pytest.raises((TypeError, ValueError)) as raised:
            call(value)
        text = str(raised.value)
        assert text.startswith((f"{name} is ", f"{name} has ")), text
        assert "expected" in text or " has " in text, text


class Plain(fs.SGD):
    """Attributes with the names of other classes' hyper-parameters may be anything."""

    def __init__(self) -> None:
        super().__init__()
        self.beta1 = self.decay_rate = self.eps = self.eps_inside_root = self.scale = "mine"
        self.end = self.gain = self.rate = self.decay = self.factor = self.lr_in_velocity = self.legacy = None


def test_a_subclass_has_attributes_of_its_own() -> None:
    optimizer = Plain()
    updated(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert (optimizer.beta1, optimizer.rate) == ("mine", None)
    with pytest.raises(ValueError, match=r"^weight_decay is -1, expected"):
        optimizer.weight_decay = -1
