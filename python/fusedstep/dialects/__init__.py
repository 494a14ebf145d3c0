"""The optimizers of other libraries under their own names: each function gives one of fusedstep with their numbers.

A module for each library has functions with the library's arguments and defaults, without those that don't change
numbers there (foreach, name) and without the parameters, which update gets. The options of all optimizers may be
given too. docs/dialects.md has a table of how far the numbers agree, and of what can't be had.

    optimizer = fusedstep.dialects.torch.RMSprop(lr=0.01, momentum=0.9, centered=True)
    optimizer.update(params, grads)

The functions need nothing of the libraries.
"""

from fusedstep.dialects import keras, optax, sklearn, thinc, torch

__all__ = ["keras", "optax", "sklearn", "thinc", "torch"]
