"""Batch normalisation: the layer and its functions. The arithmetic is in the extension module."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fusedstep import _native
from fusedstep._elsewhere import Elsewhere
from fusedstep._layer import Layer
from fusedstep._limits import checked, checked_axis, checked_count, checked_dtype, checked_flag
from fusedstep._types import DType, F, SharesMemory
from fusedstep.optimizers.snapshots import require_names

# F is the type of a layer's parameters, G the type of the data if it may be another.
G = TypeVar("G", bound=np.float32 | np.float64)
Float64Array: TypeAlias = NDArray[np.float64]
PerChannel: TypeAlias = ArrayLike | SharesMemory


@overload
def batch_norm(
    x: NDArray[F],
    gamma: PerChannel,
    beta: PerChannel,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: NDArray[F] | None = None,
) -> tuple[NDArray[F], Float64Array, Float64Array]: ...
@overload
def batch_norm(
    x: SharesMemory,
    gamma: PerChannel,
    beta: PerChannel,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: SharesMemory | None = None,
) -> tuple[Any, Float64Array, Float64Array]: ...
def batch_norm(
    x: SharesMemory,
    gamma: PerChannel,
    beta: PerChannel,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: SharesMemory | None = None,
) -> tuple[Any, Float64Array, Float64Array]:
    """Normalises each channel of x with its own mean and (biased) variance (Ioffe & Szegedy 2015, arXiv:1502.03167).

        y = gamma (x - mean) / sqrt(var + eps) + beta

    Arguments:
        x: float32 or float64, of any shape that has the channel axis: (N, D), (N, C, H, W), channels last ... Any order
            in memory; only an array with gaps is copied.
        gamma: One factor for each channel.
        beta: One summand for each channel.
        eps: Added to the variance.
        channel_axis: The axis of the channels; may be negative.
        out: The array for y, of the shape and type of x. May be x.

    As in `Optimizer.update`, x and out may be other objects that share memory of the CPU, such as PyTorch tensors, but
    not one that requires a gradient, as autograd doesn't see the call. y is the object given as out, else a
    NumPy array.

    Returns:
        y, of the type of x; and mean and inv_std = 1 / sqrt(var + eps) of each channel, which the backward pass
        needs. They are float64 for both types: the gradient would lose digits to a mean that is rounded to float32 and
        large compared with the deviation.

    Raises:
        ValueError: A shape or the type of out doesn't fit that of x, x is empty, or elements of out share memory.
        TypeError: x or out is not a float32 or float64 array, or doesn't share memory of the CPU.
    """
    return _native.batch_norm(x, gamma, beta, eps, channel_axis, out, None, None, 0.0, False)


@overload
def batch_norm_inference(
    x: NDArray[F],
    gamma: PerChannel,
    beta: PerChannel,
    mean: PerChannel,
    var: PerChannel,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: NDArray[F] | None = None,
) -> NDArray[F]: ...
@overload
def batch_norm_inference(
    x: SharesMemory,
    gamma: PerChannel,
    beta: PerChannel,
    mean: PerChannel,
    var: PerChannel,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: SharesMemory | None = None,
) -> Any: ...
def batch_norm_inference(
    x: SharesMemory,
    gamma: PerChannel,
    beta: PerChannel,
    mean: PerChannel,
    var: PerChannel,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: SharesMemory | None = None,
) -> Any:
    """Normalises each channel of x with a mean and a variance that are given, usually running averages.

        y = gamma (x - mean) / sqrt(var + eps) + beta

    Arguments, result and errors are those of `batch_norm`; x may be empty.
    """
    return _native.batch_norm_inference(x, gamma, beta, mean, var, eps, channel_axis, out)


@overload
def batch_norm_backward(
    dout: SharesMemory,
    x: NDArray[F],
    gamma: PerChannel,
    mean: PerChannel,
    inv_std: PerChannel,
    channel_axis: int = 1,
    out: NDArray[F] | None = None,
) -> tuple[NDArray[F], NDArray[F], NDArray[F]]: ...
@overload
def batch_norm_backward(
    dout: SharesMemory,
    x: SharesMemory,
    gamma: PerChannel,
    mean: PerChannel,
    inv_std: PerChannel,
    channel_axis: int = 1,
    out: SharesMemory | None = None,
) -> tuple[Any, NDArray[Any], NDArray[Any]]: ...
def batch_norm_backward(
    dout: SharesMemory,
    x: SharesMemory,
    gamma: PerChannel,
    mean: PerChannel,
    inv_std: PerChannel,
    channel_axis: int = 1,
    out: SharesMemory | None = None,
) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """The gradient of `batch_norm`.

        xhat = (x - mean) inv_std
        dbeta = sum(dout),  dgamma = sum(dout xhat)
        dx = gamma inv_std (dout - dbeta / n - xhat dgamma / n)

    with the sums over the n elements of a channel.

    Arguments:
        dout: The gradient with respect to y, of the shape of x.
        x: The argument of `batch_norm`.
        gamma: The argument of `batch_norm`.
        mean: The result of `batch_norm`.
        inv_std: The result of `batch_norm`.
        channel_axis: The axis of the channels; may be negative.
        out: The array for dx, of the shape and type of x. May be dout or x.

    dout, x and out may be objects that share memory, as in `batch_norm`.

    Returns:
        dx, dgamma and dbeta, of the type of x.

    Raises:
        ValueError: A shape or the type of out doesn't fit that of x, x is empty, or elements of out share memory.
        TypeError: x, dout or out is not a float32 or float64 array, or doesn't share memory of the CPU.
    """
    return _native.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis, out)


class BatchNorm(Layer, Generic[F]):
    """A batch-normalisation layer with running averages.

    In training it normalises with the statistics of the batch (see `batch_norm`) and updates the running averages:

        running = decay running + (1 - decay) batch

    Otherwise it normalises with the running averages. decay is the weight of the old value, as in the book
    and Keras, and 1 minus PyTorch's momentum.

    Arguments:
        num_features: The number of channels.
        eps: Added to the variance.
        decay: From 0 to 1.
        channel_axis: The axis of the channels; may be negative.
        dtype: float32 or float64, the type of the parameters and running averages. Results have the type of x.
        unbiased_running_var: The running variance is of the variance with n - 1 in the denominator, as in PyTorch,
            instead of n, as in the book and Keras.

    Attributes:
        gamma: The factors, (num_features,), which may be updated in place. 1 at first.
        beta: The summands, (num_features,), which may be updated in place. 0 at first.
        dgamma: The gradient of gamma after `backward`, None before.
        dbeta: The gradient of beta after `backward`, None before.
        running_mean: The running mean, (num_features,), updated in place. 0 at first.
        running_var: The running variance, (num_features,), updated in place. 1 at first.

    Settings may be changed between calls. Another name is an AttributeError, but subclasses may have any.
    """

    __slots__ = (
        "_saved",
        "beta",
        "channel_axis",
        "dbeta",
        "decay",
        "dgamma",
        "eps",
        "gamma",
        "num_features",
        "running_mean",
        "running_var",
        "unbiased_running_var",
    )
    if not TYPE_CHECKING:
        momentum = Elsewhere("decay is the weight of the old averages, 1 - momentum in PyTorch")
        epsilon, weight, bias = (Elsewhere(f"{name} takes its place") for name in ("eps", "gamma", "beta"))

    @overload
    def __init__(
        self: "BatchNorm[np.float32]",
        num_features: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        channel_axis: int = 1,
        *,
        unbiased_running_var: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        channel_axis: int = 1,
        dtype: DType[F] = ...,
        *,
        unbiased_running_var: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: "BatchNorm[Any]",
        num_features: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        channel_axis: int = 1,
        dtype: DTypeLike = ...,
        *,
        unbiased_running_var: bool = False,
    ) -> None: ...
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        channel_axis: int = 1,
        dtype: DTypeLike = np.float32,
        *,
        unbiased_running_var: bool = False,
    ) -> None:
        dtype = checked_dtype(dtype)
        self.num_features: int = checked_count("num_features", num_features)
        self.eps: float = checked("eps", eps)
        self.decay: float = checked("decay", decay)
        self.channel_axis: int = checked_axis(channel_axis)
        self.unbiased_running_var: bool = checked_flag("unbiased_running_var", unbiased_running_var)
        self.gamma: NDArray[F] = np.ones(self.num_features, dtype)
        self.beta: NDArray[F] = np.zeros(self.num_features, dtype)
        self.dgamma: NDArray[Any] | None = None
        self.dbeta: NDArray[Any] | None = None
        self.running_mean: NDArray[F] = np.zeros(self.num_features, dtype)
        self.running_var: NDArray[F] = np.ones(self.num_features, dtype)
        self._saved: tuple[SharesMemory, Float64Array, Float64Array] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_saved": None}  # copies and pickles leave the last batch out

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in ("num_features", "eps", "decay", "channel_axis")}
        shown["dtype"] = self.running_mean.dtype.name
        if self.unbiased_running_var:
            shown["unbiased_running_var"] = True
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @overload
    def forward(self, x: NDArray[G], training: bool = True, out: NDArray[G] | None = None) -> NDArray[G]: ...
    @overload
    def forward(self, x: SharesMemory, training: bool = True, out: SharesMemory | None = None) -> Any: ...
    def forward(self, x: SharesMemory, training: bool = True, out: SharesMemory | None = None) -> Any:
        """Normalises x. In training x must not change before `backward`, so out may be x only outside training.

        Raises:
            ValueError: A running average shares memory with another array of the call, or its elements do.
            ValueError, TypeError: As for `batch_norm`; the running averages then haven't changed.
        """
        if not training:
            return batch_norm_inference(
                x, self.gamma, self.beta, self.running_mean, self.running_var, self.eps, self.channel_axis, out
            )
        # Asked for their memory once: not every object can be asked again.
        x, target = _native.as_native("x", x), None if out is None else _native.as_native("out", out)
        if target is not None and target.shape == x.shape and _native.share_memory(x, target):
            raise ValueError("out shares memory with x, which the backward pass needs")
        y, mean, inv_std = _native.batch_norm(
            x,
            self.gamma,
            self.beta,
            self.eps,
            self.channel_axis,
            target,
            self.running_mean,
            self.running_var,
            checked("decay", self.decay),
            checked_flag("unbiased_running_var", self.unbiased_running_var),
        )
        self._saved = x, mean, inv_std
        return y if out is None else out

    @overload
    def backward(self, dout: NDArray[G], out: NDArray[G] | None = None) -> NDArray[G]: ...
    @overload
    def backward(self, dout: SharesMemory, out: SharesMemory | None = None) -> Any: ...
    def backward(self, dout: SharesMemory, out: SharesMemory | None = None) -> Any:
        """The gradient with respect to the x of the last forward pass in training; sets dgamma and dbeta.

        Raises:
            RuntimeError: There was no forward pass in training.
            ValueError, TypeError: As for `batch_norm_backward`.
        """
        if self._saved is None:
            raise RuntimeError("backward needs a forward pass in training before it")
        x, mean, inv_std = self._saved
        dx, self.dgamma, self.dbeta = batch_norm_backward(dout, x, self.gamma, mean, inv_std, self.channel_axis, out)
        return dx

    def state_dict(self) -> dict[str, Any]:
        """A snapshot as a plain dict: eps, decay, unbiased_running_var, and copies of the parameters and averages.

        channel_axis is left out, because it belongs to the data.
        """
        settings = {name: check(name, getattr(self, name)) for name, check in _SETTINGS.items()}
        return settings | {name: np.array(getattr(self, name)) for name in _ARRAYS}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a snapshot made by `state_dict`, into the arrays that the layer has.

        The next forward pass is then the same as the next one of the other layer.

        Raises:
            ValueError: The snapshot has other names, or an array has another shape or type than the layer's.
            TypeError: Something in it is of another type. After any error nothing has changed.
        """
        self._loader(state_dict)()

    def _loader(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """What loads a snapshot, in which nothing is wrong."""
        require_names(state_dict, {*_ARRAYS, *_SETTINGS})
        settings = {name: check(name, state_dict[name]) for name, check in _SETTINGS.items()}
        pairs = [(name, getattr(self, name), np.asarray(state_dict[name])) for name in _ARRAYS]
        for name, own, given in pairs:
            if not isinstance(own, np.ndarray):
                raise TypeError(f"{name} is a {type(own).__name__}, expected an array to load into")
            if not own.flags.writeable:
                raise ValueError(f"{name} is read-only")
            if own.shape != given.shape or own.dtype != given.dtype:
                raise ValueError(
                    f"{name} has shape {own.shape} and dtype {own.dtype}, that of the state dict has {given.shape} and "
                    f"{given.dtype}"
                )

        def load() -> None:
            for _, own, given in pairs:
                own[...] = given
            for name, value in settings.items():
                setattr(self, name, value)

        return load


# Of a snapshot.
_ARRAYS = ("gamma", "beta", "running_mean", "running_var")
_SETTINGS: dict[str, Callable[[str, Any], Any]] = {
    "eps": checked,
    "decay": checked,
    "unbiased_running_var": checked_flag,
}
