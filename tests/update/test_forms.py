"""Arguments that choose between forms of a rule: which combinations there are, and what may change when."""

import math
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

ONES = np.ones(2)


def stepped(optimizer: fs.Optimizer) -> Any:
    optimizer.update(np.ones(2), ONES)
    return optimizer


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.0}, {"momentum": 0.5, "dampening": 0.1}], ids=["none", "zero", "dampened"]
)
def test_nesterov_needs_momentum_without_dampening(options: Any) -> None:
    message = "nesterov is expected to have momentum and no dampening$"
    with pytest.raises(ValueError, match=f"^nesterov is True, but {message}"):
        fs.SGD(nesterov=True, **options)
    optimizer = fs.SGD(momentum=0.5, nesterov=True)
    for name, value in {"momentum": 0.0, "dampening": 0.1}.items():
        with pytest.raises(ValueError, match=f"^{name} is {value}, but {message}"):
            setattr(optimizer, name, value)
    assert (optimizer.momentum, optimizer.dampening, optimizer.nesterov) == (0.5, 0.0, True)


def test_a_snapshot_loads_into_the_other_form() -> None:
    dampened, looking_ahead = (
        stepped(fs.SGD(momentum=0.5, **options)) for options in ({"dampening": 0.1}, {"nesterov": True})
    )
    saved = dampened.state_dict(), looking_ahead.state_dict()
    dampened.load_state_dict(saved[1])
    looking_ahead.load_state_dict(saved[0])
    assert (dampened.dampening, dampened.nesterov) == (0.0, True)
    assert (looking_ahead.dampening, looking_ahead.nesterov) == (0.1, False)


CHANGES: tuple[tuple[fs.Optimizer, str, Any], ...] = (
    (fs.SGD(), "momentum", 0.5),
    (fs.SGD(momentum=0.5), "momentum", 0.0),
    (fs.RMSProp(), "momentum", 0.5),
    (fs.RMSProp(), "centered", True),
    (fs.RMSProp(momentum=0.5), "lr_in_velocity", True),
    (fs.Adam(), "amsgrad", True),
    (fs.AdamW(amsgrad=True), "amsgrad", False),
)


@pytest.mark.parametrize(("optimizer", "name", "value"), CHANGES)
def test_what_the_state_was_made_with_can_not_change(optimizer: fs.Optimizer, name: str, value: Any) -> None:
    before = getattr(optimizer, name)
    setattr(optimizer, name, value)  # there is no state yet
    setattr(optimizer, name, before)
    stepped(optimizer)
    if not optimizer.state:
        return
    with pytest.raises(ValueError, match=f"^{name} is {value}, but .* clear state first$"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before
    optimizer.state.clear()
    setattr(optimizer, name, value)


def test_what_is_no_form_may_change() -> None:
    optimizer = stepped(fs.SGD(momentum=0.5))
    optimizer.momentum, optimizer.dampening = 0.9, 0.1
    optimizer.dampening, optimizer.nesterov = 0.0, True
    plain = stepped(fs.RMSProp())
    plain.lr_in_velocity = True  # there is no velocity


def test_a_threshold_of_radam_is_not_part_of_it() -> None:
    """optax and thinc take the root at a length of 5 too: the number below is their threshold."""
    beta2, t = 0.9, 6
    length = 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)
    assert length > 4
    steps = []
    for threshold in (length, math.nextafter(length, 0)):
        w, state = np.ones(1), [np.zeros(1), np.zeros(1)]
        fs.step("radam", w, np.full(1, 100.0), state, t=t, lr=0.1, beta2=beta2, threshold=threshold)
        steps.append(1 - w[0])
    assert steps[0] > 1 > steps[1]


def test_the_first_size_of_rprops_steps_is_that_of_the_schedule() -> None:
    optimizer = fs.Rprop(lr=lambda n: 0.5**n)
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    optimizer.update(params, {"a": ONES, "b": None})
    optimizer.update(params, {"a": ONES, "b": ONES})
    np.testing.assert_array_equal(params["a"], np.full(2, -1 - 1.2))
    np.testing.assert_array_equal(params["b"], [-0.5, -0.5])


def test_a_variance_that_rounding_makes_negative_counts_as_zero() -> None:
    optimizer = fs.RMSProp(0.1, centered=True)
    w, g = np.zeros(1000, np.float32), np.linspace(0.1, 10, 1000, dtype=np.float32)
    for _ in range(3000):  # of one gradient, whose variance goes to 0
        optimizer.update(w, g)
    h, mean = optimizer.state[0]["h"], optimizer.state[0]["mean"]
    assert (h < mean * mean).any()
    assert np.isfinite(w).all()
