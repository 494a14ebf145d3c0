"""The solvers of scikit-learn's MLPClassifier and MLPRegressor (1.9), which count the optimizer's updates.

Their alpha is L2 decay divided by the size of the batch, of weights and not of biases:
`weight_decay=alpha / batch_size`, and a group without.
"""

from typing import Unpack

from fusedstep import optimizers
from fusedstep.dialects._options import with_defaults
from fusedstep.optimizers.options import LearningRate, Options


def SGDOptimizer(
    learning_rate_init: LearningRate = 0.1,
    momentum: float = 0.9,
    nesterov: bool = True,
    **options: Unpack[Options],
) -> optimizers.Nesterov | optimizers.Momentum:
    """The solver "sgd"; its schedules are functions of fusedstep.schedules, or set lr."""
    rule = optimizers.Nesterov if nesterov else optimizers.Momentum
    return rule(learning_rate_init, momentum, **options)


def AdamOptimizer(
    learning_rate_init: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """The solver "adam"."""
    return optimizers.Adam(
        learning_rate_init, beta_1, beta_2, epsilon, eps_corrected=False, **with_defaults(options, count_updates=True)
    )
