"""The optimizers of thinc 9, spaCy's, which count the updates of each parameter.

thinc clips the gradient of each array by its own norm. That is out of these functions, whose results have
`grad_clip=0`; `fusedstep.thinc` has it.
"""

from typing import Any, Unpack

import numpy as np

from fusedstep import optimizers
from fusedstep.optimizers.options import LearningRate, Options


def Adam(
    learn_rate: LearningRate = 1e-3,
    *,
    L2: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    L2_is_weight_decay: bool = True,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """thinc.optimizers.Adam with grad_clip=0, whose betas are rounded to float32.

    Averages of the weights are the option average: thinc's begin with zeros, these with the weights.
    """
    given: Any = _decay(L2_is_weight_decay) | options
    betas = float(np.float32(beta1)), float(np.float32(beta2))
    return optimizers.Adam(learn_rate, *betas, eps, eps_corrected=False, weight_decay=L2, **given)


def SGD(
    learn_rate: LearningRate, *, L2: float = 0.0, L2_is_weight_decay: bool = True, **options: Unpack[Options]
) -> optimizers.SGD:
    """thinc.optimizers.SGD with grad_clip=0."""
    given: Any = _decay(L2_is_weight_decay) | options
    return optimizers.SGD(learn_rate, weight_decay=L2, **given)


def _decay(after: bool) -> dict[str, Any]:
    return {"decay_after": True} if after else {}
