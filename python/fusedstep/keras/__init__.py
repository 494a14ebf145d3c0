"""Optimizers for Keras 3 on the backends torch and numpy: the classes of keras.optimizers with our step.

Change the import:

    from fusedstep.keras import Adam

The module needs Keras, which the rest of fusedstep doesn't; 3.15 is the version that it was tried with.
"""

from fusedstep.keras._classes import (
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lamb,
    Lion,
    Nadam,
    RMSprop,
    ScheduleFreeAdamW,
)
from fusedstep.keras._muon import Muon

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Muon",
    "Nadam",
    "RMSprop",
    "ScheduleFreeAdamW",
]
