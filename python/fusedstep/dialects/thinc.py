"""The optimizers of thinc 9, spaCy's, which count the updates of each parameter.

They clip the gradient of each array by its own norm, and decay after the step; both are out of these functions, whose
results have `grad_clip=0` and `L2=0`, or `L2_is_weight_decay=False`.
"""

from typing import Unpack

from fusedstep import optimizers
from fusedstep.optimizers.options import LearningRate, Options


def Adam(
    learn_rate: LearningRate = 1e-3,
    *,
    L2: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """thinc.optimizers.Adam with L2_is_weight_decay=False and grad_clip=0.

    Averages of the weights are the option average: thinc's begin with zeros, these with the weights.
    """
    return optimizers.Adam(learn_rate, beta1, beta2, eps, eps_corrected=False, weight_decay=L2, **options)


def SGD(learn_rate: LearningRate, *, L2: float = 0.0, **options: Unpack[Options]) -> optimizers.SGD:
    """thinc.optimizers.SGD with L2_is_weight_decay=False and grad_clip=0."""
    return optimizers.SGD(learn_rate, weight_decay=L2, **options)
