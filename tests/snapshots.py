"""Everything in which trainings can differ, and files of them in memory."""

import io
from typing import Any

import numpy as np

import fusedstep as fs


def leaves(value: Any) -> list[Any]:
    """Copies of everything that can differ."""
    if isinstance(value, dict):
        return [(key, leaves(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [leaves(item) for item in value]
    if isinstance(value, np.ndarray):
        return [value.dtype, value.copy()]
    return leaves(value.state_dict()) if hasattr(value, "state_dict") else [value]


def saved(objects: Any) -> bytes:
    file = io.BytesIO()
    fs.save(file, objects)
    return file.getvalue()
