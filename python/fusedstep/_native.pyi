from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")

version: str
compiler: str
c_api: object

# By name: the states' names, default and kind of limit of each hyper-parameter, whether the number of the step is used;
# what states that don't start with zeros are at first (a hyper-parameter, or "parameter"); scalars, and what they are
# at first; the shapes of states that aren't the parameter's; whether an element's step depends on no other element.
rules: dict[
    str,
    tuple[
        tuple[str, ...],
        dict[str, tuple[float | None, str]],
        bool,
        dict[str, str],
        dict[str, float],
        dict[str, str],
        bool,
    ],
]

# An optimizer without options, or a list of some with their parts: lr, None or the hyper-parameters that take the place
# of attributes and of scale, and (average,) or (average, masters, seed, stochastic, narrow_state). lr and average may
# be schedules. The result is the norm of the gradients, and whether the step was skipped. All of the last five are
# given, or none.
def update(
    optimizers: Any | list[tuple[Any, list[tuple[Any, dict[str, Any] | None, tuple[Any, ...]]]]],
    params: Any,
    grads: Any,
    scale: float,
    zero_grads: bool,
    copies: Any,
    assigned: dict[Any, int] | None = None,
    assign: Callable[[Any, Any], int] | None = None,
    norm: float | None = None,
    clip_norm: float | None = None,
    skip_nonfinite: bool = False,
) -> tuple[float | None, bool]: ...
def step(
    rule: str,
    params: Any,
    grads: Any,
    state: Any,
    t: Any,
    hyperparameters: dict[str, Any],
    zero_grads: bool,
    copies: Any,
    norm: float | None,
    clip_norm: float | None,
    skip_nonfinite: bool,
    seed: int | None,
) -> tuple[float | None, bool]: ...

# Groups are parts as fusedstep.torch has them. start(group, parameter, its state or None) gives what that lacks, and
# resolve(group, parameter, gradient) a gradient whose memory is what it says, or Rows. The result is as update's, or
# the number of a group with parameters on another device.
def step_tensors(
    state: dict[Any, Any],
    groups: list[Any],
    start: Callable[[int, Any, dict[str, Any] | None], dict[str, Any]],
    resolve: Callable[[int, Any, Any], Any],
    scale: float,
    clip_norm: float | None,
    norm: float | None,
) -> tuple[float | None, bool] | int: ...
def accumulate(sums: Any, grads: Any, scale: float) -> float: ...
def gradient_norm(grads: Any) -> float: ...

# The sum of squares of each tile of 1024 elements, and whether all elements are finite; and a norm made of such sums.
def gradient_squares(grads: Any) -> tuple[NDArray[np.float64], bool]: ...
def norm_of_squares(squares: NDArray[np.float64]) -> float: ...
def weighted_means(
    arrays: list[list[Any]], paths: list[tuple[Any, ...]], factors: list[float]
) -> list[NDArray[Any]]: ...
def add_rows(target: Any, rows: Any) -> None: ...
def exchange(params: Any, arrays: dict[Any, NDArray[Any]]) -> None: ...
def interpolate(
    optimizer: Any,
    training: bool,
    members: list[tuple[dict[Any, dict[str, NDArray[Any]]], float, bool, bool]],
    assigned: dict[Any, int] | None,
    assign: Callable[[Any, Any], int] | None,
    params: Any,
) -> None: ...
def exclusively(optimizer: Any, function: Callable[[], _T]) -> _T: ...
def copy_apart(array: NDArray[Any], state: int) -> NDArray[Any]: ...
def batch_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: float,
    channel_axis: int,
    out: Any,
    running_mean: Any,
    running_var: Any,
    decay: float,
    unbiased: bool,
) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm_inference(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float, channel_axis: int, out: Any, mean_rest: Any = None
) -> Any: ...

# Of a part of the data: mean, what it was rounded by, sum of squared deviations, elements of a channel; then sums of
# dout (x - mean) and of dout; dx with those of all parts, which together have `count` elements of a channel.
def batch_norm_moments(
    x: Any, eps: float, channel_axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]: ...
def batch_norm_sums(
    dout: Any, x: Any, mean: Any, channel_axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm_gradient(
    dout: Any,
    x: Any,
    gamma: Any,
    mean: Any,
    inv_std: Any,
    dgamma: Any,
    dbeta: Any,
    count: float,
    channel_axis: int,
    out: Any,
) -> Any: ...
def batch_norm_backward(
    dout: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, channel_axis: int, out: Any
) -> tuple[Any, NDArray[Any], NDArray[Any]]: ...
def dropout(x: Any, rate: float, seed: int, call: int, out: Any) -> Any: ...
def copy(x: Any, out: Any) -> Any: ...
def as_native(name: str, given: Any) -> NDArray[Any]: ...
def share_memory(a: NDArray[Any], b: NDArray[Any]) -> bool: ...
def isas() -> tuple[str, ...]: ...
def isa() -> str: ...
def use_isa(name: str) -> bool: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def parallel_regions() -> int: ...
def set_flush_subnormals(flag: bool) -> None: ...
def get_flush_subnormals() -> bool: ...
def set_buffer_cache(bytes: int) -> None: ...
def get_buffer_cache() -> int: ...
