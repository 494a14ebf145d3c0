"""The optimizers, by family: hyper-parameters, state and documentation."""

from fusedstep.optimizers.adam import Adam, AdamW
from fusedstep.optimizers.adaptive import AdaGrad, RMSprop, RMSProp
from fusedstep.optimizers.base import LearningRate, Optimizer
from fusedstep.optimizers.momentum import SGD, Momentum, Nesterov
from fusedstep.optimizers.stateless import rules, step

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "LearningRate",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSProp",
    "RMSprop",
    "rules",
    "step",
]

# Saved state has the names by which users import the classes.
for _cls in (Optimizer, SGD, Momentum, Nesterov, AdaGrad, RMSProp, Adam, AdamW):
    _cls.__module__ = __name__
