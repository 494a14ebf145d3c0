"""Fused optimizer steps and batch normalisation for NumPy arrays; optimizers have the bits of the plain formulas."""

import sys
from typing import TYPE_CHECKING

from fusedstep import dialects, initializers, reference, schedules
from fusedstep._native import version as __version__
from fusedstep._rows import Rows, add_rows
from fusedstep.batch_norm import BatchNorm, batch_norm, batch_norm_backward, batch_norm_inference
from fusedstep.checkpoints import load, save
from fusedstep.config import (
    get_include,
    get_num_threads,
    isa,
    isas,
    set_buffer_cache,
    set_flush_subnormals,
    set_num_threads,
    show_config,
    use_isa,
)
from fusedstep.dropout import Dropout, dropout
from fusedstep.optimizers import (
    ADOPT,
    ASGD,
    FTRL,
    LAMB,
    LARS,
    SGD,
    AdaBelief,
    Adadelta,
    Adafactor,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AdEMAMix,
    LaProp,
    Lion,
    Momentum,
    Muon,
    NAdam,
    Nesterov,
    Optimizer,
    Options,
    RAdam,
    RMSProp,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    SignSGD,
    Signum,
    Split,
    StableAdamW,
    StepResult,
    Yogi,
    accumulate,
    gradient_norm,
    rules,
    step,
    weighted_mean,
)
from fusedstep.state_files import load_state, save_state

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
    "Rows",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SignSGD",
    "Signum",
    "Split",
    "StableAdamW",
    "StepResult",
    "Yogi",
    "__version__",
    "accumulate",
    "add_rows",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "dialects",
    "dropout",
    "get_include",
    "get_num_threads",
    "gradient_norm",
    "initializers",
    "isa",
    "isas",
    "load",
    "load_state",
    "reference",
    "rules",
    "save",
    "save_state",
    "schedules",
    "set_buffer_cache",
    "set_flush_subnormals",
    "set_num_threads",
    "show_config",
    "step",
    "use_isa",
    "weighted_mean",
]

if not TYPE_CHECKING:

    def __getattr__(name):
        """An AttributeError that says which names are modules of their own."""
        has_module = name in ("book", "dezero", "distributed", "flower", "keras", "sklearn", "thinc", "torch")
        advice = f": import fusedstep.{name} first" if has_module else ""
        message = f"module 'fusedstep' has no attribute {name!r}{advice}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
