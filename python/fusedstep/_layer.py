"""The base of the layers."""

import contextlib
from typing import TYPE_CHECKING, Any

from fusedstep._elsewhere import Elsewhere


class Layer:
    """Attributes are slots, so that another name is an error, at no cost; those of subclasses may have any."""

    __slots__ = ("__weakref__",)

    if not TYPE_CHECKING:
        training, train, eval = (Elsewhere("forward(x, training=False) is for evaluation") for _ in range(3))

    def __getstate__(self) -> dict[str, Any]:
        slots = [name for cls in type(self).__mro__ for name in getattr(cls, "__slots__", ()) if name != "__weakref__"]
        return {name: getattr(self, name) for name in slots} | getattr(self, "__dict__", {})

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            with contextlib.suppress(AttributeError):  # of an older version, which had any
                setattr(self, name, value)
