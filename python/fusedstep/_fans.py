"""The numbers of inputs and outputs of weights, by their shape."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from fusedstep._limits import checked_integer, shown


class Fans(NamedTuple):
    """The number of inputs of each output, and of outputs of each input."""

    fan_in: int
    fan_out: int


Groups: TypeAlias = int | Literal["depthwise"]


def fans(shape: Sequence[int], in_axis: int | None = None, out_axis: int | None = None, groups: Groups = 1) -> Fans:
    """The fans of weights of this shape: the inputs' or outputs' axis times the product of the kernel's axes.

    Two axes are (inputs, outputs), as in `x @ W`. Three and more are (outputs, inputs, *kernel), the layout of the
    book's and of PyTorch's convolutions. For other layouts give both axes:

        PyTorch's Linear, (outputs, inputs):            in_axis=1, out_axis=0
        Keras' convolutions, (*kernel, inputs, outputs): in_axis=-2, out_axis=-1

    In a convolution of several groups, an output sees only the inputs of its group, and an input reaches only the
    outputs of it:

        PyTorch, (outputs, inputs / groups, *kernel):              groups=...
        Keras, (*kernel, inputs / groups, outputs):                in_axis=-2, out_axis=-1, groups=...
        Keras' DepthwiseConv, (*kernel, inputs, multiplier):       in_axis=-2, out_axis=-1, groups="depthwise"

    (PyTorch's own initializers don't know the groups: their fan_in is the same, and their fan_out counts the outputs of
    all groups. Keras' count a depthwise kernel as if it had one group.)

    Arguments:
        shape: The lengths of two or more axes.
        in_axis: The axis of the inputs of a group; may be negative.
        out_axis: The axis of the outputs of all groups; may be negative.
        groups: Their number, by which the length of the axis of the outputs can be divided; or "depthwise", if the axis
            of the inputs has those of all groups, one each, and the axis of the outputs those of one.

    Returns:
        The named tuple (fan_in, fan_out).

    Raises:
        ValueError: There are fewer than two axes, a length is negative or a fan 0; or of in_axis and out_axis only one
            is given, one is out of range, or both are the same; or groups doesn't divide the outputs.
        TypeError: A length, an axis or groups is not an integer.
    """
    lengths = checked_shape(shape)
    inputs, outputs = _checked_axes(lengths, in_axis, out_axis)
    kernel = math.prod(length for axis, length in enumerate(lengths) if axis not in (inputs, outputs))
    if isinstance(groups, str) and groups == "depthwise":
        found = Fans(kernel * min(1, lengths[inputs]), kernel * lengths[outputs])
    else:
        count = checked_integer("groups", groups, "an integer or 'depthwise'")
        if count < 1 or lengths[outputs] % count:
            raise ValueError(
                f"groups is {shown(groups)}, expected a divisor of {lengths[outputs]}, the outputs of shape {lengths}"
            )
        found = Fans(kernel * lengths[inputs], kernel * lengths[outputs] // count)
    for name, fan in found._asdict().items():
        if fan == 0:
            raise ValueError(f"shape is {lengths}, which makes {name} 0, expected 1 or more")
    return found


def checked_shape(shape: Any) -> tuple[int, ...]:
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
