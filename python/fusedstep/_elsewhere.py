"""Attributes that other libraries have."""

from typing import Any, NoReturn


class Elsewhere:
    """A name of other libraries: an AttributeError says what takes its place, until a subclass gives it a value."""

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        try:
            return instance.__dict__[self._name]
        except (AttributeError, KeyError):
            self._refuse(owner)

    def __set__(self, instance: Any, value: Any) -> None:
        try:
            instance.__dict__[self._name] = value
        except AttributeError:
            self._refuse(type(instance))

    def _refuse(self, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__} has no attribute {self._name!r}: {self._advice}") from None
