"""Parameters that come late, and settings that are changed or given in an unusual order."""

import pickle
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import assert_same_state
from fusedstep import reference

FIRST_STEPS: dict[str, dict[str, Any]] = {
    "ASGD": {"t0": 0.0},
    "ADOPT": {},
    "Adan": {},
    "SGD": {"momentum": 0.9, "dampening": 0.5},
    "ScheduleFreeAdamW": {},
}


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_a_late_parameter_makes_its_first_step_whatever_counts(name: str, rng: np.random.Generator) -> None:
    options = {"lr": 0.1, "count_updates": True} | FIRST_STEPS[name]
    ours, theirs = getattr(fs, name)(**options), getattr(reference, name)(**options)
    params = [rng.standard_normal(9) for _ in range(2)]
    expected = [w.copy() for w in params]
    for n in range(6):
        grads = [rng.standard_normal(9), rng.standard_normal(9) if n > 2 else None]
        ours.update(params, grads)
        theirs.update(expected, grads)
        np.testing.assert_array_equal(params, expected)
    assert_same_state(ours, theirs)
    if name == "ASGD":  # a mean of what the weight has been
        np.testing.assert_allclose(ours.state[1]["mean"], params[1], atol=2.0)


@pytest.mark.parametrize(
    ("make", "overrides"),
    [
        (lambda **given: fs.SGD(0.1, 0.9, **given), {"momentum": 0.5}),
        (lambda **given: fs.RMSProp(0.1, momentum=0.9, **given), {"momentum": 0.5}),
        (lambda **given: fs.Adafactor(0.1, 0.9, **given), {"beta1": 0.5}),
        (lambda **given: fs.Adam(amsgrad=True, **given), {"max_corrected": True}),
        (lambda **given: fs.dialects.torch.SGD(momentum=0.9, **given), {"momentum": 0.5}),
    ],
)
def test_groups_of_the_chosen_rule_may_be_given_at_once(make: Any, overrides: dict[str, Any]) -> None:
    later, at_once = make(), make(groups=[("b", overrides)])
    later.groups = [("b", overrides)]
    assert repr(later) == repr(at_once)


def test_max_lr_is_above_zero() -> None:
    with pytest.raises(ValueError, match=r"^max_lr is 0\.0, expected a finite number > 0$"):
        fs.AdamW(max_lr=0.0)


@pytest.mark.parametrize("option", [{"cautious_decay": True}, {"max_lr": 0.2}, {"decay_after": True}], ids=str)
def test_special_decay_is_decoupled_by_itself(option: dict[str, Any], rng: np.random.Generator) -> None:
    g = rng.standard_normal(9)
    params = [rng.standard_normal(9)]
    others = [params[0].copy()]
    fs.Adam(0.1, weight_decay=0.3, **option).update(params, [g])
    fs.Adam(0.1, weight_decay=0.3, decoupled=True, **option).update(others, [g])
    np.testing.assert_array_equal(params, others)


def test_the_maximum_keeps_its_meaning() -> None:
    optimizer = fs.Adam(amsgrad=True)
    optimizer.update([np.ones(3)], [np.ones(3)])
    with pytest.raises(ValueError, match=r"^max_corrected is True, but the maximum was made with False: clear state"):
        optimizer.max_corrected = True
    optimizer.max_corrected = False


def test_steps_stay_where_nothing_changes() -> None:
    optimizer, params = fs.Adam(), [np.ones(2), np.ones(2)]
    optimizer.update(params, [np.ones(2), None])
    optimizer.update(params, [np.ones(2), np.ones(2)])
    optimizer.count_updates = False
    assert optimizer.steps == {0: 2, 1: 1}
    optimizer.count_updates = True
    assert optimizer.steps == {}


def test_a_snapshot_without_an_option_has_its_default() -> None:
    optimizer, snapshot = fs.Adam(cautious_decay=True), fs.Adam().state_dict()
    del snapshot["fusedstep.optimizers.Adam"]["cautious_decay"]
    optimizer.load_state_dict(snapshot)
    assert optimizer.cautious_decay is False


def test_lr_decay_can_be_pickled() -> None:
    lr: Any = pickle.loads(pickle.dumps(fs.dialects.torch.Adagrad(0.1, lr_decay=0.5))).lr
    assert lr(2) == 0.05
    lr = fs.dialects.torch.Adagrad(fs.schedules.Cosine(0.1, 10), lr_decay=1.0).lr
    assert lr(0) == 0.1


def test_a_mode_is_that_of_all_parameters() -> None:
    optimizer, params = fs.ScheduleFreeSGD(0.1), [np.ones(2), np.full(2, 9.0)]
    optimizer.update(params, [np.ones(2), np.ones(2)])
    before = [w.copy() for w in params]
    for wrong, message in (
        ([params[1]], r"params has length 1, but the state is that of 2"),
        ({"x": params[0]}, r"^params lacks 0, which has state$"),
        ({0: params[0]}, r"^params lacks 1, which has state$"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.eval(wrong)
    np.testing.assert_equal(params, before)
    assert optimizer.training
