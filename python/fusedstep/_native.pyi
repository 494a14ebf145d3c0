from typing import Any

import numpy as np
from numpy.typing import NDArray

version: str
compiler: str

def update(
    rule: str,
    coefficients: tuple[float, ...],
    weight_decay: float,
    params: Any,
    grads: Any,
    attributes: dict[str, Any],
    letters: tuple[str, ...],
) -> None: ...
def batch_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    eps: float,
    channel_axis: int,
    out: NDArray[Any] | None,
    running_mean: NDArray[Any] | None,
    running_var: NDArray[Any] | None,
    decay: float,
    unbiased: bool,
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm_inference(
    x: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float, channel_axis: int, out: NDArray[Any] | None
) -> NDArray[Any]: ...
def batch_norm_backward(
    dout: Any, x: Any, gamma: Any, mean: Any, inv_std: Any, channel_axis: int, out: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
def isas() -> tuple[str, ...]: ...
def isa() -> str: ...
def use_isa(name: str) -> bool: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def parallel_regions() -> int: ...
def set_flush_subnormals(flag: bool) -> None: ...
def get_flush_subnormals() -> bool: ...
