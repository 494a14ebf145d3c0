"""The letters v, h and m of the book's optimizers, as views of the state of ours."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusedstep._limits import shown


class Letter(dict[Any, Any]):
    """The arrays of one letter in an optimizer's state, by the parameter's key: a view that behaves as a plain dict."""

    def __init__(self, optimizer: Any, letter: str) -> None:
        self._optimizer, self._letter = optimizer, letter

    def __getitem__(self, key: Any) -> Any:
        arrays = self._optimizer.state.get(key, {})
        if self._letter not in arrays:
            raise KeyError(key)
        return arrays[self._letter]

    def __setitem__(self, key: Any, value: Any) -> None:
        array = _copied(value)
        if array.ndim == 0 and key in self:  # a number for an array, which would be broadcast
            array = np.full_like(self[key], array)
        self._optimizer.state.setdefault(key, {})[self._letter] = array

    def __delitem__(self, key: Any) -> None:
        self[key]
        state = self._optimizer.state
        del state[key][self._letter]
        if not state[key]:
            del state[key]
        self._optimizer._letters_are_none = False

    def __iter__(self) -> Iterator[Any]:
        return (key for key, arrays in self._optimizer.state.items() if self._letter in arrays)

    def __reversed__(self) -> Any:
        return reversed(list(self))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)

    def copy(self) -> dict[Any, Any]:
        return {key: self[key] for key in self}

    def popitem(self) -> tuple[Any, Any]:
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError("popitem(): dictionary is empty")

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    __ne__ = object.__ne__


# The others follow from these; dict's own would look into the view instead of the state.
for _name in ("__contains__", "__eq__", "get", "keys", "values", "items", "pop", "clear", "update", "setdefault"):
    setattr(Letter, _name, getattr(MutableMapping, _name))


def _copied(value: Any) -> NDArray[Any]:
    array = np.array(value)
    return array.astype(np.float64) if array.dtype.kind in "iub" else array


def letter_property(letter: str) -> Any:
    def arrays(self: Any) -> Letter | None:
        return None if not self.state and self._letters_are_none else Letter(self, letter)

    def replace(self: Any, value: Any) -> None:
        if value is None:
            self.state.clear()
        elif isinstance(value, Mapping | list):
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            copies = {key: _copied(array) for key, array in pairs}
            view = Letter(self, letter)
            view.clear()
            view.update(copies)
        else:
            raise TypeError(f"{letter} is {shown(value)}, expected a dict or list of arrays, or None")
        self._letters_are_none = value is None

    doc = f"The arrays {letter} by the parameter's key; None before the first update. None forgets the state."
    return property(arrays, replace, doc=doc)
