"""The optimizers, by family: hyper-parameters, state and documentation."""

from fusedstep.optimizers.adam import Adam, AdamW
from fusedstep.optimizers.adaptive import AdaGrad, RMSProp, RMSprop
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.factored import Adafactor
from fusedstep.optimizers.layerwise import LAMB, LARS, StableAdamW
from fusedstep.optimizers.momentum import SGD, Momentum, Nesterov
from fusedstep.optimizers.options import LearningRate as LearningRate
from fusedstep.optimizers.options import Options
from fusedstep.optimizers.split import Split
from fusedstep.optimizers.stateless import StepResult, accumulate, gradient_norm, rules, step

__all__ = [
    "LAMB",
    "LARS",
    "SGD",
    "AdaGrad",
    "Adafactor",
    "Adam",
    "AdamW",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "Options",
    "RMSProp",
    "RMSprop",
    "Split",
    "StableAdamW",
    "StepResult",
    "accumulate",
    "gradient_norm",
    "rules",
    "step",
]

# Saved state has the names by which users import the classes.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
