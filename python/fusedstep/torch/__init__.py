"""Optimizers for PyTorch on the CPU: torch.optim's classes with our step, further rules, and offloading.

Change the import, or give the class to a library that takes one:

    from fusedstep.torch import Adam

The module needs PyTorch 2.6 or newer, which the rest of fusedstep doesn't.
"""

from fusedstep.torch._classes import (
    ASGD,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)
from fusedstep.torch._more import (
    ADOPT,
    FTRL,
    LAMB,
    LARS,
    AdaBelief,
    Adan,
    AdEMAMix,
    FurtherRule,
    LaProp,
    Lion,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    SignSGD,
    Signum,
    StableAdamW,
    Yogi,
)
from fusedstep.torch._offloaded import Offloaded
from fusedstep.torch._optimizer import Optimizer

__all__ = [
    "ADOPT",
    "ASGD",
    "FTRL",
    "LAMB",
    "LARS",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "FurtherRule",
    "LaProp",
    "Lion",
    "NAdam",
    "Offloaded",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SignSGD",
    "Signum",
    "StableAdamW",
    "Yogi",
]
