"""The optimizers, by family: hyper-parameters, state and documentation."""

from fusedstep.optimizers import adam, adaptive, momentum
from fusedstep.optimizers.adam import *
from fusedstep.optimizers.adaptive import *
from fusedstep.optimizers.base import LearningRate, Optimizer
from fusedstep.optimizers.momentum import *
from fusedstep.optimizers.stateless import rules, step

__all__ = ["LearningRate", "Optimizer", "rules", "step"]
__all__ += adam.__all__
__all__ += adaptive.__all__
__all__ += momentum.__all__

# Saved state names classes by where users find them.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
