"""The numbers of inputs and outputs of weights, by their shape."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fusedstep._limits import checked_integer, shown


class Fans(NamedTuple):
    """The number of inputs of each output, and of outputs of each input."""

    fan_in: int
    fan_out: int


def fans(shape: Sequence[int], in_axis: int | None = None, out_axis: int | None = None) -> Fans:
    """The fans of weights of this shape: the inputs' or outputs' axis times the product of the kernel's axes.

    Two axes are (inputs, outputs), as in `x @ W`. Three and more are (outputs, inputs, *kernel), the layout of the
    book's and of PyTorch's convolutions. For other layouts give both axes:

        PyTorch's Linear, (outputs, inputs):            in_axis=1, out_axis=0
        Keras' convolutions, (*kernel, inputs, outputs): in_axis=-2, out_axis=-1

    Arguments:
        shape: The lengths of two or more axes.
        in_axis: The axis of the inputs; may be negative.
        out_axis: The axis of the outputs; may be negative.

    Returns:
        The named tuple (fan_in, fan_out).

    Raises:
        ValueError: There are fewer than two axes, a length is negative or a fan 0; or of in_axis and out_axis only one
            is given, one is out of range, or both are the same.
        TypeError: A length or an axis is not an integer.
    """
    lengths = _checked_shape(shape)
    inputs, outputs = _checked_axes(lengths, in_axis, out_axis)
    kernel = math.prod(length for axis, length in enumerate(lengths) if axis not in (inputs, outputs))
    found = Fans(lengths[inputs] * kernel, lengths[outputs] * kernel)
    for name, fan in found._asdict().items():
        if fan == 0:
            raise ValueError(f"shape is {lengths}, which makes {name} 0, expected 1 or more")
    return found


def _checked_shape(shape: Any) -> tuple[int, ...]:
    expected = "a sequence of integers"
    try:
        given = tuple(shape)
    except Exception as error:
        raise TypeError(f"shape is {shown(shape)}, expected {expected}") from error
    lengths = tuple(checked_integer("shape", length, expected, shape) for length in given)
    if len(lengths) < 2:
        raise ValueError(f"shape is {lengths}, expected two axes or more")
    if min(lengths) < 0:
        raise ValueError(f"shape is {shown(lengths)}, expected lengths >= 0")
    return lengths


def _checked_axes(shape: tuple[int, ...], in_axis: Any, out_axis: Any) -> tuple[int, int]:
    if in_axis is None and out_axis is None:
        return (0, 1) if len(shape) == 2 else (1, 0)
    if in_axis is None or out_axis is None:
        raise ValueError(f"in_axis is {shown(in_axis)} and out_axis is {shown(out_axis)}, expected both or neither")
    inputs, outputs = _checked_axis("in_axis", in_axis, shape), _checked_axis("out_axis", out_axis, shape)
    if inputs == outputs:
        raise ValueError(
            f"in_axis is {in_axis} and out_axis is {out_axis}, expected two different axes of shape {shape}"
        )
    return inputs, outputs


def _checked_axis(name: str, value: Any, shape: tuple[int, ...]) -> int:
    axis = checked_integer(name, value)
    count = len(shape)
    if not -count <= axis < count:
        raise ValueError(f"{name} is {shown(axis)}, expected {-count} to {count - 1} for shape {shape}")
    return axis % count
