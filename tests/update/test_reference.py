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
    # v = -.2, w = 1 + .5 * -.2 - .2 = .7;  v = .5 * -.2 + .15 = .05, w = .7 + .5 * .05 + .15
    (reference.SklearnNesterov(0.1, 0.5), [0.7, 0.875], {"v": 0.05}),
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
    (reference.ASGD(0.1, 0.5, 1.0, 0.0), [0.75, 6 / 7], {"mean": 6 / 7, "eta": 1 / 11}),
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
    # the same moments without any correction
    (
        reference.SklearnAdam(0.1, 0.5, 0.75, 2.0),
        [29 / 30, 29 / 30 + 0.025 / (math.sqrt(21) / 4 + 2)],
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
    # Adam's moments, decay in the update: u = 2 / (2 + 2) + .5, |w| / |u| = 1;  u = -1/3 / (sqrt(3) + 2) + .45, and the
    # ratio makes it as long as w
    (reference.LAMB(0.1, 0.5, 0.75, 2.0, weight_decay=0.5), [0.9, 0.81], {"m": -0.25, "v": 21 / 16}),
    # the ratio is 1 at most
    (
        reference.LAMB(0.1, 0.5, 0.75, 2.0, weight_decay=0.5, trust_clip=True),
        [0.9, 0.9 - 0.1 * (0.45 - 1 / 3 / (math.sqrt(3) + 2))],
        {"m": -0.25, "v": 21 / 16},
    ),
    # 1 * .95 - .1 * .95;  .855 * .95 + .1 * .855 * .95
    (
        reference.LAMB(0.1, 0.5, 0.75, 2.0, weight_decay=0.5, decay_in_update=False),
        [0.855, 0.893475],
        {"m": -0.25, "v": 21 / 16},
    ),
    # ratio = .25 / (2 + .5 + 1) = 1/14, v = .5/14 * 2.5 = 5/56;  ratio = .25 * 51/56 / (1.5 + .5 * 51/56 + 1) = 51/662,
    # v = .5 * 5/56 + .5 * 51/662 * (-1.5 + .5 * 51/56)
    (
        reference.LARS(0.5, 0.5, 0.25, 1.0, weight_decay=0.5),
        [51 / 56, 51 / 56 - 5 / 112 + 51 / 1324 * 117 / 112],
        {"v": 5 / 112 - 51 / 1324 * 117 / 112},
    ),
    # g = 2.5, v = .5 * .25 / 2.5 * 2.5 = .125;  g = -1.5 + .4375 < 0, v = .0625 - .125 * .875
    (reference.LARS(0.5, 0.5, 0.25, 0.0, weight_decay=0.5, decoupled=False), [0.875, 0.921875], {"v": -0.046875}),
    # v = .125, w = 1 - .0625 - .125 = .8125;  v = .0625 - .125 * .8125 = -.0390625, w = .8125 + .01953125 + .1015625
    (reference.LARS(0.5, 0.5, 0.25, 0.0, nesterov=True), [0.8125, 0.93359375], {"v": -0.0390625}),
    # ratio = .25 / 2 > lr, v = .2;  ratio = .25 * .8 / 1.5 > lr, v = .1 - .15
    (reference.LARS(0.1, 0.5, 0.25, 0.0, trust_clip=True), [0.8, 0.85], {"v": -0.05}),
    # ratio = .25 / 2 < lr, v = .25;  ratio = .25 * .75 / 1.5, v = .125 - .1875
    (reference.LARS(0.2, 0.5, 0.25, 0.0, trust_clip=True), [0.75, 0.8125], {"v": -0.0625}),
    # one row: column = 4, u = 1, w = 1 - .1;  column = 4 + (2.25 - 4) / 2, w = .9 + .1 * .9 * 1.5 / sqrt(3.125)
    (
        reference.Adafactor(0.1, beta2_decay=1.0, eps1=0.0),
        [0.9, 0.9 + 0.135 / math.sqrt(3.125)],
        {"row": 0.0, "column": 3.125},
    ),
    # g^2 + 12 = 16, u = 2 / 4, m = .5 * .1 * .5, w = .95 - .025;  column = 16 + (14.25 - 16) / 2 = 15.125,
    # step u = -.1 * 1.5 / sqrt(15.125)
    (
        reference.Adafactor(0.1, 0.5, 1.0, 12.0, weight_decay=0.5, scale_parameter=False),
        [0.925, 0.925 * 0.95 - 0.5 * (0.025 - 0.15 / math.sqrt(15.125))],
        {"row": 0.0, "column": 15.125, "m": 0.5 * (0.025 - 0.15 / math.sqrt(15.125))},
    ),
    # a floor of 4 under the root: u = 2 / 4, twice clip_threshold, and the step at most 1 / sqrt(t): w = 1 - .25;
    # u = -1.5 / 4, w = .75 + .25 / sqrt(2)
    (
        reference.Adafactor(9.0, 0.0, 1.0, 4.0, clip_threshold=0.25, scale_parameter=False, eps1_as_floor=True),
        [0.75, 0.75 + 0.25 / math.sqrt(2)],
        {"row": 0.0, "column": 3.125},
    ),
    # m = 2, v = 4, mean 4 / 4 = 1, w = .95 - .2 / (2 + 2);  m = 2 + 2/3 * -3.5 = -1/3, v = 4 + 4/7 * -1.75 = 3
    (
        reference.StableAdamW(0.1, 0.5, 0.75, 2.0, weight_decay=0.5),
        [0.9, 0.855 + 0.1 / 3 / (math.sqrt(3) + 2)],
        {"m": -1 / 3, "v": 3.0},
    ),
    # m = 1, s = .25 * 1 + 1.5 = 1.75, mhat = 2, s / .25 = 7, w = 1 - .2 / (sqrt(7) + 1);  m = -.25,
    # s = .75 * 1.75 + .25 * 1.5625 + 1.5 = 3.203125, mhat = -1/3, s / .4375 = 205/28
    (
        reference.AdaBelief(0.1, 0.5, 0.75, 1.0, 1.5),
        [1 - 0.2 / (math.sqrt(7) + 1), 1 - 0.2 / (math.sqrt(7) + 1) + 0.1 / 3 / (math.sqrt(205 / 28) + 1)],
        {"m": -0.25, "s": 3.203125},
    ),
    # v = 5 - .25 * 4 = 4, m = .5 * 1 + .5 * 2 = 1.5, mhat = 3, vhat = 16, w = 1 - .3 / (4 + 1);  v = 4 - .25 * 2.25,
    # m = .75 - .75 = 0
    (reference.Yogi(0.1, 0.5, 0.75, 1.0, 5.0, 1.0), [0.94, 0.94], {"m": 0.0, "v": 3.4375}),
    # v = .25 * 4 = 1, m = 1, mhat = 2, vhat = 4, w = 1 - .2 / 3;  v = 1 + .25 * 2.25, mhat = -1/3, vhat = v / .4375
    (
        reference.Yogi(0.1, 0.5, 0.75, 1.0, 0.0),
        [1 - 0.2 / 3, 1 - 0.2 / 3 + 0.1 / 3 / (math.sqrt(25 / 7) + 1)],
        {"m": -0.25, "v": 1.5625},
    ),
    # the same moments without corrections
    (reference.FlowerYogi(0.1, 0.5, 0.75, 1.0), [0.95, 0.95 + 0.1 / 9], {"m": -0.25, "v": 1.5625}),
    # v = 1, vhat = 4, 2 / (2 + 2) = .5, m = .25, mhat = .5;  v = 21/16, vhat = 3, -1.5 / (sqrt(3) + 2)
    (
        reference.LaProp(0.1, 0.5, 0.75, 2.0),
        [0.95, 0.95 - 0.1 * (0.125 - 0.75 / (math.sqrt(3) + 2)) / 0.75],
        {"m": 0.125 - 0.75 / (math.sqrt(3) + 2), "v": 21 / 16},
    ),
    # v = 4;  -1.5 / 2 = -.75, m = -.375, v = .75 * 4 + .25 * 2.25
    (reference.ADOPT(0.1, 0.5, 0.75), [1.0, 1.0375], {"m": -0.375, "v": 3.5625}),
    # eps is above sqrt(v): -1.5 / 4 = -.375, m = -.1875
    (reference.ADOPT(0.1, 0.5, 0.75, 4.0), [1.0, 1.01875], {"m": -0.1875, "v": 3.5625}),
    # decay begins in the second step: 1 * .95 + .0375
    (
        reference.ADOPT(0.1, 0.5, 0.75, clip_exponent=None, weight_decay=0.5, decoupled=True),
        [1.0, 0.9875],
        {"m": -0.375, "v": 3.5625},
    ),
    # m1 = 1, m2 = .5, v = 1, mhat = 2, vhat = 4, w = 1 - .1 (2 + 3 * .5) / (2 + 2) = .9125;  m1 = -.25,
    # m2 = .375 - .375 = 0, v = 21/16, mhat = -1/3, vhat = 3
    (
        reference.AdEMAMix(0.1, 0.5, 0.75, 0.75, 3.0, 2.0),
        [0.9125, 0.9125 + 0.1 / 3 / (math.sqrt(3) + 2)],
        {"m1": -0.25, "m2": 0.0, "v": 21 / 16},
    ),
    # alpha is 1, then 3; half-lives of 1/2 and 1 give 3/4 at half the way, so beta3 is .5^(4/3), then .5
    (
        reference.AdEMAMix(0.1, 0.25, 0.75, 0.5, 2.0, 2.0, t_alpha=2.0, t_beta3=2.0),
        [
            1 - 0.1 * (2 + 2 * (1 - 0.5 ** (4 / 3))) / 4,
            1
            - 0.1 * (2 + 2 * (1 - 0.5 ** (4 / 3))) / 4
            - 0.1 * (-0.75 / 0.9375 + 2 * ((1 - 0.5 ** (4 / 3)) - 0.75)) / (math.sqrt(3) + 2),
        ],
        {"m1": -0.75, "m2": (1 - 0.5 ** (4 / 3)) - 0.75, "v": 21 / 16},
    ),
    # d = 0: m = 1, n = 1, mhat = 2, nhat = 4, w = (1 - .2 / (2 + 2)) / 1.05;  d = -3.5, m = -.25, v = .5 * -3.5,
    # n = 1 + .25 (3.25^2 - 1) = 3.390625, mhat = -1/3, vhat = -1.75 / .75 = -7/3, nhat = n / .4375 = 7.75
    (
        reference.Adan(0.1, 0.5, 0.5, 0.75, 2.0, weight_decay=0.5),
        [0.95 / 1.05, (0.95 / 1.05 + 0.1 * (1 / 3 + 7 / 6) / (math.sqrt(7.75) + 2)) / 1.05],
        {"m": -0.25, "v": -1.75, "n": 3.390625, "g_prev": -1.5},
    ),
    # nhat + 5 = 9: w = .95 - .2 / (3 + 1);  7.75 + 5 = 12.75
    (
        reference.Adan(0.1, 0.5, 0.5, 0.75, 1.0, 5.0, weight_decay=0.5, no_prox=True),
        [0.9, 0.855 + 0.15 / (math.sqrt(12.75) + 1)],
        {"m": -0.25, "v": -1.75, "n": 3.390625, "g_prev": -1.5},
    ),
    # c = 1: w = 1 + .1 (.5 * 0 - 1) * 2, z = .8;  c = .5: w = .8 + .5 * 0 + .1 (.25 - 1) * -1.5, z = .8 + .15
    (reference.ScheduleFreeSGD(0.1, 0.5), [0.8, 0.9125], {"z": 0.95, "weight_sum": 0.02, "lr_max": 0.1}),
    # lr = .05, then .1 with decay: c = 1, g = 2.5, w = z = .875;  c = .01 / .0125 = .8, g = -1.5 + .4375 = -1.0625,
    # w = .875 + .1 (.5 * .2 - 1) * -1.0625, z = .875 + .10625
    (
        reference.ScheduleFreeSGD(0.1, 0.5, 2.0, weight_decay=0.5),
        [0.875, 0.970625],
        {"z": 0.98125, "weight_sum": 0.0125, "lr_max": 0.1},
    ),
    # r = 1, power 0: c = 2 / 3: w = .8 + .1 (.5 / 3 - 1) * -1.5
    (
        reference.ScheduleFreeSGD(0.1, 0.5, r=1.0, weight_lr_power=0.0),
        [0.8, 0.925],
        {"z": 0.95, "weight_sum": 3.0, "lr_max": 0.1},
    ),
    # v = 1, vhat = 4, d = 2 / 4 + .5 = 1, c = 1, w = z = .9;  v = 21/16, vhat = 3, d = -1.5 / (sqrt(3) + 2) + .45,
    # c = .5, w = .9 - .075 d, z = .9 - .1 d
    (
        reference.ScheduleFreeAdamW(0.1, 0.5, 0.75, 2.0, weight_decay=0.5),
        [0.9, 0.86625 + 0.1125 / (math.sqrt(3) + 2)],
        {
            "z": 0.855 + 0.15 / (math.sqrt(3) + 2),
            "v": 21 / 16,
            "weight_sum": 0.02,
            "lr_max": 0.1,
        },
    ),
    # n: 2.25, 6.25, 8.5; z = (2 + .5) - 1 / 2 = 2, w = (1.5 - 2) / ((2.5 + 1.5) / 2 + .5) = -.2;  z = 2 - 1.5 - .1
    # + .1 (sqrt(8.5) - 2.5) is within 1.5
    (
        reference.FTRL(2.0, initial_accumulator=2.25, l1=1.5, l2=0.25, l2_shrinkage=0.25, beta=1.5),
        [-0.2, 0.0],
        {"n": 8.5, "z": 0.4 + 0.1 * (math.sqrt(8.5) - 2.5)},
    ),
    # the gradients have the signs + and -
    (reference.SignSGD(0.1), [0.9, 1.0], {}),
    # m = .5;  m = .75 * .5 - .25 * 1.5 = 0, of which the sign is 0
    (reference.Signum(0.1, 0.75), [0.9, 0.9], {"m": 0.0}),
    # sign(.5 * 2), m = .25 * 2 = .5;  sign(.5 * .5 - .5 * 1.5) = -1, m = .75 * .5 - .25 * 1.5 = 0
    (reference.Lion(0.1, 0.5, 0.75), [0.9, 1.0], {"m": 0.0}),
    # 1 * (1 - .1 * .5) - .1;  .85 * .95 + .1
    (reference.Lion(0.1, 0.5, 0.75, weight_decay=0.5), [0.85, 0.9075], {"m": 0.0}),
)


def test_norms_of_an_array_by_hand() -> None:
    # Norm 5 and gradients of norm 1: LAMB's u is (1, -1) of norm sqrt(2), LARS's ratio is .25 * 5.
    for optimizer, moved in (
        (reference.LAMB(0.1, eps=0.0), [0.5 / math.sqrt(2), -0.5 / math.sqrt(2)]),
        (reference.LARS(0.1, trust_coefficient=0.25, eps=0.0), [0.125 * 0.6, -0.125 * 0.8]),
    ):
        w = np.array([3.0, 4.0])
        optimizer.update(w, np.array([0.6, -0.8]))
        np.testing.assert_allclose(w, [3 - moved[0], 4 - moved[1]], rtol=TOLERANCE)
    # v = 1, then 1 + 4/7 * 15 = 67/7, and g^2 / v = 112/67 > 1; m = 1, then 1 + 2/3 * 3 = 3.
    stable, w = reference.StableAdamW(0.1, 0.5, 0.75, 0.0, weight_decay=0.5), np.ones(1)
    stable.update(w, np.array([1.0]))
    np.testing.assert_allclose(w, 0.95 - 0.1, rtol=TOLERANCE)
    stable.update(w, np.array([4.0]))
    step = 0.1 / math.sqrt(112 / 67)
    np.testing.assert_allclose(w, 0.85 * (1 - 0.5 * step) - step * 3 / math.sqrt(67 / 7), rtol=TOLERANCE)


@pytest.mark.parametrize(("optimizer", "steps", "state"), WORKED, ids=lambda value: type(value).__name__)
def test_two_steps_by_hand(optimizer: reference.Optimizer, steps: list[float], state: dict[str, float]) -> None:
    w = np.array([1.0])
    for gradient, expected in zip((2.0, -1.5), steps, strict=True):
        optimizer.update(w, np.array([gradient]))
        np.testing.assert_allclose(w, expected, rtol=TOLERANCE)
    assert optimizer.state.get(0, {}).keys() == state.keys()
    for letter, value in state.items():
        np.testing.assert_allclose(optimizer.state[0][letter], value, rtol=TOLERANCE, atol=TOLERANCE)


def test_adopt_clips_by_hand() -> None:
    # v = 1;  3 is clipped to 1^.5 = 1, m = .5, v = .75 + 2.25 = 3;  -9 / sqrt(3) is clipped to -sqrt(2)
    w, optimizer = np.array([1.0]), reference.ADOPT(0.1, 0.5, 0.75, clip_exponent=0.5)
    for gradient, expected in zip((1.0, 3.0, -9.0), (1.0, 0.95, 0.95 - 0.1 * (0.25 - math.sqrt(0.5))), strict=True):
        optimizer.update(w, np.array([gradient]))
        np.testing.assert_allclose(w, expected, rtol=TOLERANCE)


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
