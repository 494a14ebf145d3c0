"""The optimizers, by family: hyper-parameters, state and documentation."""

from fusedstep.optimizers.adam import Adam, Adamax, AdamW, NAdam, RAdam
from fusedstep.optimizers.adam_variants import ADOPT, AdaBelief, Adan, AdEMAMix, LaProp, Yogi
from fusedstep.optimizers.adaptive import Adadelta, AdaGrad, RMSProp, RMSprop
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.factored import Adafactor
from fusedstep.optimizers.ftrl import FTRL
from fusedstep.optimizers.layerwise import LAMB, LARS, StableAdamW
from fusedstep.optimizers.momentum import ASGD, SGD, Momentum, Nesterov, Rprop
from fusedstep.optimizers.muon import Muon
from fusedstep.optimizers.options import LearningRate as LearningRate
from fusedstep.optimizers.options import Options
from fusedstep.optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from fusedstep.optimizers.signs import Lion, SignSGD, Signum
from fusedstep.optimizers.split import Split
from fusedstep.optimizers.stateless import StepResult, accumulate, gradient_norm, rules, step, weighted_mean

__all__ = [
    "ADOPT",
    "ASGD",
    "FTRL",
    "LAMB",
    "LARS",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "AdaGrad",
    "Adadelta",
    "Adafactor",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "LaProp",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "Optimizer",
    "Options",
    "RAdam",
    "RMSProp",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SignSGD",
    "Signum",
    "Split",
    "StableAdamW",
    "StepResult",
    "Yogi",
    "accumulate",
    "gradient_norm",
    "rules",
    "step",
    "weighted_mean",
]

# Saved state has the names by which users import the classes.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
