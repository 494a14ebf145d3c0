"""The formulas of fusedstep in plain NumPy: its specification, and the oracle of its tests.

An optimizer of this module and the one of the same name in `fusedstep` give the same bits: the coefficients are the
same doubles, rounded once to the type that is computed in, and the operations are the same in the same order. The
module uses nothing of the rest of the package.
"""

from fusedstep.reference.adam import Adam, Adamax, AdamW, NAdam, RAdam
from fusedstep.reference.adam_variants import ADOPT, AdaBelief, Adan, AdEMAMix, FlowerYogi, LaProp, Yogi
from fusedstep.reference.adaptive import Adadelta, AdaGrad, RMSProp
from fusedstep.reference.base import Optimizer, Rows, Split, accumulate, gradient_norm
from fusedstep.reference.batch_norm import BatchNorm, batch_norm, batch_norm_backward, batch_norm_inference
from fusedstep.reference.dropout import Dropout, dropout, dropout_mask, threefry4x32
from fusedstep.reference.factored import Adafactor
from fusedstep.reference.ftrl import FTRL
from fusedstep.reference.layerwise import LAMB, LARS, StableAdamW
from fusedstep.reference.momentum import ASGD, SGD, Momentum, Nesterov, Rprop
from fusedstep.reference.muon import Muon
from fusedstep.reference.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from fusedstep.reference.signs import Lion, SignSGD, Signum
from fusedstep.reference.sklearn import SklearnAdam, SklearnNesterov
from fusedstep.reference.storage import bfloat16_to_float32, float32_to_bfloat16, stored_randomly, sum_of_squares

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
    "BatchNorm",
    "Dropout",
    "FlowerYogi",
    "LaProp",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "Optimizer",
    "RAdam",
    "RMSProp",
    "Rows",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SignSGD",
    "Signum",
    "SklearnAdam",
    "SklearnNesterov",
    "Split",
    "StableAdamW",
    "Yogi",
    "accumulate",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "bfloat16_to_float32",
    "dropout",
    "dropout_mask",
    "float32_to_bfloat16",
    "gradient_norm",
    "stored_randomly",
    "sum_of_squares",
    "threefry4x32",
]
