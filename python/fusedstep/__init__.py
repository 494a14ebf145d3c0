"""Fused optimizer steps and batch normalisation for NumPy arrays; optimizers have the bits of the plain formulas."""

from fusedstep import initializers, optimizers, reference, schedules
from fusedstep._native import version as __version__
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
from fusedstep.optimizers import *  # noqa: F403
from fusedstep.state_files import load_state, save_state

__all__ = [
    "BatchNorm",
    "Dropout",
    "__version__",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "dropout",
    "get_include",
    "get_num_threads",
    "initializers",
    "isa",
    "isas",
    "load_state",
    "reference",
    "save_state",
    "schedules",
    "set_buffer_cache",
    "set_flush_subnormals",
    "set_num_threads",
    "show_config",
    "use_isa",
]
__all__ += optimizers.__all__
