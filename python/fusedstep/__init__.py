"""Fused optimizer steps and batch normalisation for NumPy arrays; optimizers have the bits of the plain formulas."""

from fusedstep import initializers, reference, schedules
from fusedstep._native import version as __version__
from fusedstep._rows import Rows
from fusedstep.batch_norm import BatchNorm, batch_norm, batch_norm_backward, batch_norm_inference
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
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    Options,
    RMSProp,
    RMSprop,
    Split,
    StepResult,
    accumulate,
    gradient_norm,
    rules,
    step,
)
from fusedstep.state_files import load_state, save_state

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "Dropout",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "Options",
    "RMSProp",
    "RMSprop",
    "Rows",
    "Split",
    "StepResult",
    "__version__",
    "accumulate",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "dropout",
    "get_include",
    "get_num_threads",
    "gradient_norm",
    "initializers",
    "isa",
    "isas",
    "load_state",
    "reference",
    "rules",
    "save_state",
    "schedules",
    "set_buffer_cache",
    "set_flush_subnormals",
    "set_num_threads",
    "show_config",
    "step",
    "use_isa",
]
