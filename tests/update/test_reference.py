"""The reference itself: two steps of each rule worked by hand."""

import math
from typing import Any

import numpy as np
import pytest

from fusedstep import reference

# w = 1 with the gradients 2 and -1.5. Each step makes fewer than sixteen roundings.
TOLERANCE = 16 * np.finfo(np.float64).eps

WORKED: tuple[tuple[reference.Optimizer, list[float], dict[str, float]], ...] = (
    # 1 - .1 * 2;  .8 + .1 * 1.5
    (reference.SGD(0.1), [0.8, 0.95], {}),
    # g = 2 + .5 * 1 = 2.5: 1 - .25;  g = -1.5 + .375 = -1.125: .75 + .1125
    (reference.SGD(0.1, weight_decay=0.5), [0.75, 0.8625], {}),
    # the rate halves: 1 - .1 * 2;  .8 + .05 * 1.5
    (reference.SGD(lambda n: 0.1 / (n + 1)), [0.8, 0.875], {}),
    # v = -.2, w = 1 - .2;  v = .9 * -.2 + .15 = -.03, w = .8 - .03
    (reference.Momentum(0.1, 0.9), [0.8, 0.77], {"v": -0.03}),
    # v = 2, w = 1 - .2;  v = .9 * 2 - 1.5 = .3, w = .8 - .03
    (reference.Momentum(0.1, 0.9, lr_in_velocity=False), [0.8, 0.77], {"v": 0.3}),
    # w = 1 + 0 - 1.5 * .1 * 2 = .7, v = -.2;  w = .7 + .25 * -.2 + .15 * 1.5 = .875, v = .5 * -.2 + .15 = .05
    (reference.Nesterov(0.1, 0.5), [0.7, 0.875], {"v": 0.05}),
    # v = -.2, w = 1 + .25 * -.2 - .15 * 2 = .65;  v = .5 * -.2 + .15 = .05, w = .65 + .25 * .05 + .15 * 1.5 = .8875
    (reference.Nesterov(0.1, 0.5, legacy=True), [0.65, 0.8875], {"v": 0.05}),
    # h = 4, w = 1 - .2 / (2 + .5) = .92;  h = 6.25, w = .92 + .15 / (2.5 + .5)
    (reference.AdaGrad(0.1, 0.5), [0.92, 0.97], {"h": 6.25}),
    # 15.140625 + 4 = 4.375^2, w = 1 - .2 / 4.375 = 167/175;  15.140625 + 6.25 = 4.625^2, w = 167/175 + .15 / 4.625
    (reference.AdaGrad(0.1, 15.140625, eps_inside_root=True), [167 / 175, 167 / 175 + 6 / 185], {"h": 6.25}),
    # h = .25 * 4 = 1, w = 1 - .2 / (1 + 1);  h = .75 + .25 * 2.25 = 21/16, w = .9 + .15 / (sqrt(21/16) + 1)
    (reference.RMSProp(0.1, 0.75, 1.0), [0.9, 0.9 + 0.15 / (math.sqrt(21) / 4 + 1)], {"h": 21 / 16}),
    # .41015625 + 1 = 1.1875^2, w = 1 - .2 / 1.1875 = 79/95;  .41015625 + 21/16 = 1.3125^2, w = 79/95 + .15 / 1.3125
    (reference.RMSProp(0.1, 0.75, 0.41015625, eps_inside_root=True), [79 / 95, 79 / 95 + 4 / 35], {"h": 21 / 16}),
    # m = 1, v = 1, mhat = 1 / .5 = 2, vhat = 1 / .25 = 4, w = 1 - .1 * 2 / (2 + 2) = .95;  m = 1 + .5 * -2.5 = -.25,
    # v = 1 + .25 * 1.25 = 21/16, mhat = -.25 / .75 = -1/3, vhat = 21/16 / .4375 = 3, w = .95 + .1 / 3 / (sqrt(3) + 2)
    (reference.Adam(0.1, 0.5, 0.75, 2.0), [0.95, 0.95 + 0.1 / 3 / (math.sqrt(3) + 2)], {"m": -0.25, "v": 21 / 16}),
    # the same moments: w = 1 - .1 * 2 / sqrt(4 + 12);  w = .95 + .1 / 3 / sqrt(3 + 12)
    (
        reference.Adam(0.1, 0.5, 0.75, 12.0, eps_inside_root=True),
        [0.95, 0.95 + 0.1 / 3 / math.sqrt(15)],
        {"m": -0.25, "v": 21 / 16},
    ),
    # 1 * (1 - .1 * .5) = .95 before Adam's -.05;  .9 * .95 = .855 before Adam's step
    (
        reference.AdamW(0.1, 0.5, 0.75, 2.0, weight_decay=0.5),
        [0.9, 0.855 + 0.1 / 3 / (math.sqrt(3) + 2)],
        {"m": -0.25, "v": 21 / 16},
    ),
    # v = 2;  v = .5 * 2 + .5 * -1.5 = .25, w = .8 - .025
    (reference.SGD(0.1, 0.5, dampening=0.5), [0.8, 0.775], {"v": 0.25}),
    # v = 2, w = 1 - .1 * (2 + .5 * 2);  v = .5 * 2 - 1.5 = -.5, w = .7 - .1 * (-1.5 - .25)
    (reference.SGD(0.1, 0.5, nesterov=True), [0.7, 0.875], {"v": -0.5}),
    # 1 * .95 - .2;  eta = .1 / 1.05 = 2/21, .75 * (1 - 1/21) + 3/21 = 6/7
    (reference.ASGD(0.1, 0.5, 1.0, 0.0), [0.75, 6 / 7], {"mean": 6 / 7}),
    # the sign changes: half the size, and no step
    (reference.Rprop(0.1), [0.9, 0.9], {"prev": 0.0, "step_size": 0.05}),
    # g = 2 + 5 = 7;  g = -1.5 + 4.5 = 3
    (reference.Rprop(0.1, weight_decay=5.0), [0.9, 0.78], {"prev": 3.0, "step_size": 0.12}),
    # h = 6.25, w = 1 - .2 / 3;  h = 8.5
    (
        reference.AdaGrad(0.1, 0.5, initial_accumulator=2.25),
        [14 / 15, 14 / 15 + 0.15 / (math.sqrt(8.5) + 0.5)],
        {"h": 8.5},
    ),
    # h = 1, delta = .5 / sqrt(1.25) * 2 = sqrt(.8), d = .25 * .8 = .2;
    # h = 21/16, delta = sqrt(.45) / 1.25 * -1.5 = -sqrt(.648), d = .15 + .25 * .648 = .312
    (
        reference.Adadelta(1.0, 0.75, 0.25),
        [1 - math.sqrt(0.8), 1 - math.sqrt(0.8) + math.sqrt(0.648)],
        {"h": 21 / 16, "d": 0.312},
    ),
    # h = 1, mean = .5, variance .75;  h = 21/16, mean = .5 + .25 * -2 = 0
    (
        reference.RMSProp(0.1, 0.75, 1.0, centered=True),
        [1 - 0.2 / (math.sqrt(0.75) + 1), 1 - 0.2 / (math.sqrt(0.75) + 1) + 0.15 / (math.sqrt(21) / 4 + 1)],
        {"h": 21 / 16, "mean": 0.0},
    ),
    # v = 2 / (1 + 1) = 1;  v = .5 - 1.5 / (sqrt(21/16) + 1)
    (
        reference.RMSProp(0.1, 0.75, 1.0, momentum=0.5),
        [0.9, 0.85 + 0.15 / (math.sqrt(21) / 4 + 1)],
        {"h": 21 / 16, "v": 0.5 - 1.5 / (math.sqrt(21) / 4 + 1)},
    ),
    (
        reference.RMSProp(0.1, 0.75, 1.0, momentum=0.5, lr_in_velocity=True),
        [0.9, 0.85 + 0.15 / (math.sqrt(21) / 4 + 1)],
        {"h": 21 / 16, "v": 0.05 - 0.15 / (math.sqrt(21) / 4 + 1)},
    ),
    # root(.25) = .5: w = 1 - .1 * .5 / .5 * 1 / (1 + 2);  w + .1 * root(7/16) / .75 * .25 / (sqrt(21/16) + 2)
    (
        reference.Adam(0.1, 0.5, 0.75, 2.0, eps_corrected=False),
        [29 / 30, 29 / 30 + math.sqrt(7) / 120 / (math.sqrt(21) / 4 + 2)],
        {"m": -0.25, "v": 21 / 16},
    ),
    # v = 3, vhat = 3 / .75 = 4;  v = 3 + .75 * -.75 = 2.4375 < 3, vhat = 3 / .9375 = 3.2
    (
        reference.Adam(0.1, 0.5, 0.25, 2.0, amsgrad=True),
        [0.95, 0.95 + 0.1 / 3 / (math.sqrt(3.2) + 2)],
        {"m": -0.25, "v": 2.4375, "vmax": 3.0},
    ),
    # 2.4375 / .9375 < 4
    (
        reference.Adam(0.1, 0.5, 0.25, 2.0, amsgrad=True, max_corrected=True),
        [0.95, 0.95 + 1 / 120],
        {"m": -0.25, "v": 2.4375, "vmax": 4.0},
    ),
    # u = 2 + .5, w = 1 - .1 / .5 / 2.5;  u = max(1.25, 2), w = .92 + .1 / .75 * .25 / 2
    (reference.Adamax(0.1, 0.5, 0.5, 0.5), [0.92, 0.92 + 1 / 60], {"m": -0.25, "u": 2.0}),
    # u = 2, w = 1 - .1 / .5 / (2 + 1);  u = max(1, 1.5), w + .1 / .75 * .25 / (1.5 + 1)
    (
        reference.Adamax(0.1, 0.5, 0.5, 1.0, eps_inside_max=False),
        [1 - 1 / 15, 1 - 1 / 15 + 1 / 75],
        {"m": -0.25, "u": 1.5},
    ),
    # mhat = 2;  mhat = -1/3
    (reference.RAdam(0.1, 0.5, 0.75), [0.8, 0.8 + 0.1 / 3], {"m": -0.25, "v": 21 / 16}),
    # mu = .5: .5 / .5 * 2 + .5 / .75 * 1 = 8/3, w = 1 - .1 * 8/3 / (2 + 2);
    # .5 / .75 * -1.5 + .5 / .875 * -.25 = -8/7
    (
        reference.NAdam(0.1, 0.5, 0.75, 2.0, momentum_decay=1e9),
        [14 / 15, 14 / 15 + 0.8 / 7 / (math.sqrt(3) + 2)],
        {"m": -0.25, "v": 21 / 16, "mu_product": 0.25},
    ),
)


@pytest.mark.parametrize(("optimizer", "steps", "state"), WORKED, ids=lambda value: type(value).__name__)
def test_two_steps_by_hand(optimizer: reference.Optimizer, steps: list[float], state: dict[str, float]) -> None:
    w = np.array([1.0])
    for gradient, expected in zip((2.0, -1.5), steps, strict=True):
        optimizer.update(w, np.array([gradient]))
        np.testing.assert_allclose(w, expected, rtol=TOLERANCE)
    assert optimizer.state.get(0, {}).keys() == state.keys()
    for letter, value in state.items():
        np.testing.assert_allclose(optimizer.state[0][letter], value, rtol=TOLERANCE, atol=TOLERANCE)


def test_it_stays_in_the_parameters_type(dtype: Any) -> None:
    w = np.ones(3, dtype)
    optimizer = reference.AdamW(weight_decay=0.1)
    optimizer.update(w, np.ones(3, np.float64))
    assert w.dtype == dtype
    assert {a.dtype for a in optimizer.state[0].values()} == {np.dtype(dtype)}


def test_batch_norm_by_hand() -> None:
    # mean 2, variance (1 + 0 + 1) / 3 = 2/3; with eps = 1/3 the deviation is 1. y = 2 (x - 2) + 5
    x = np.array([[1.0], [2.0], [3.0]])
    y, mean, inv_std = reference.batch_norm(x, [2.0], [5.0], eps=1 / 3)
    np.testing.assert_allclose(y, [[3.0], [5.0], [7.0]], rtol=TOLERANCE)
    np.testing.assert_allclose([mean, inv_std], [[2.0], [1.0]], rtol=TOLERANCE)
    np.testing.assert_allclose(reference.batch_norm_inference(x, [2.0], [5.0], mean, [2 / 3], eps=1 / 3), y)
    # dout (1, 0, 2): dbeta = 3, dgamma = -1 + 2 = 1; dx = 2 (dout - 1 - xhat / 3) = 2 (1/3, -1, 2/3)
    dx, dgamma, dbeta = reference.batch_norm_backward(np.array([[1.0], [0.0], [2.0]]), x, [2.0], mean, inv_std)
    np.testing.assert_allclose(dx, [[2 / 3], [-2.0], [4 / 3]], rtol=TOLERANCE)
    np.testing.assert_allclose([dgamma, dbeta], [[1.0], [3.0]], rtol=TOLERANCE)
