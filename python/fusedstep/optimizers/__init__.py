"""The optimizers, by family: hyper-parameters, state and documentation."""

from fusedstep.optimizers.adam import Adam, AdamW
from fusedstep.optimizers.adaptive import AdaGrad, RMSProp, RMSprop
from fusedstep.optimizers.base import LearningRate as LearningRate
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.momentum import SGD, Momentum, Nesterov
from fusedstep.optimizers.stateless import rules, step

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "RMSProp",
    "RMSprop",
    "rules",
    "step",
]

# Saved state has the names by which users import the classes.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
