"""Layouts: functions that make an array of a shape (r, c) and a type, with gaps or turns, from numbers they draw."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def transposed(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(c, r).astype(t).T


def stepped(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(2 * r, 3 * c).astype(t)[::2, ::3]


def reversed_(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(r, c).astype(t)[::-1, ::-1]


def shifted(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(r * c + 1).astype(t)[1:].reshape(r, c)


def misaligned(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    size = np.dtype(t).itemsize
    array: Array = np.empty(r * c * size + 1, np.uint8)[1:].view(t).reshape(r, c)
    array[...] = draw(r, c)
    return array


def inner_axes(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    """As the gradient of a convolution's weights: neither row- nor column-major."""
    return draw(c, r).astype(t).transpose(1, 0)[:, ::-1]


def broadcast(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return np.broadcast_to(draw(c).astype(t), (r, c))


def constant(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return np.broadcast_to(draw(1).astype(t), (r, c))


def read_only(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    array = draw(r, c).astype(t)
    array.flags.writeable = False
    return array


def other_type(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(r, c).astype(np.float64 if t is np.float32 else np.float32)


def other_type_transposed(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return other_type(draw, c, r, t).T


def half(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(r, c).astype(np.float16)


def long_double(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(r, c).astype(np.longdouble)


def swapped(draw: Callable[..., Array], r: int, c: int, t: Any) -> Array:
    return draw(r, c).astype(np.dtype(t).newbyteorder())


LAYOUTS = (shifted, transposed, stepped, reversed_, misaligned, inner_axes)
GRADIENT_LAYOUTS = (broadcast, constant, read_only, other_type, other_type_transposed, half, long_double, swapped)
