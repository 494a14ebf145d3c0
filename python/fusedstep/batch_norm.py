"""Batch normalisation: the layer and its functions. The arithmetic is in the extension module."""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fusedstep import _native
from fusedstep._limits import checked

Array = NDArray[Any]


def batch_norm(
    x: Array, gamma: ArrayLike, beta: ArrayLike, eps: float = 1e-5, channel_axis: int = 1, out: Array | None = None
) -> tuple[Array, NDArray[np.float64], NDArray[np.float64]]:
    """Normalises each channel of x with its own mean and (biased) variance (Ioffe & Szegedy 2015, arXiv:1502.03167).

        y = gamma (x - mean) / sqrt(var + eps) + beta

    Arguments:
        x: float32 or float64, of any shape that has the channel axis: (N, D), (N, C, H, W), channels last ... Any order
            in memory; only an array with gaps is copied.
        gamma: One factor for each channel.
        beta: One summand for each channel.
        eps: Added to the variance.
        channel_axis: Where the channels are; may be negative.
        out: Where to put y: an array of the shape and type of x. May be x.

    As in `Optimizer.update`, x and out may be other objects that share memory of the CPU, such as PyTorch tensors,
    whose autograd sees nothing of it. y is out as it was given, else a NumPy array.

    Returns:
        y, of the type of x; and mean and inv_std = 1 / sqrt(var + eps) of each channel, which the backward pass
        needs. They are float64 for both types: a mean rounded to float32 would cost the gradient digits where it is
        large beside the deviation.

    Raises:
        ValueError: A shape or the type of out doesn't fit that of x, or x has no elements.
        TypeError: x or out is not a float32 or float64 array, or doesn't share memory of the CPU.
    """
    return _native.batch_norm(x, gamma, beta, checked("eps", eps), channel_axis, out, None, None, 0.0, False)


def batch_norm_inference(
    x: Array,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    eps: float = 1e-5,
    channel_axis: int = 1,
    out: Array | None = None,
) -> Array:
    """Normalises each channel of x with a mean and a variance that are given, usually running averages.

        y = gamma (x - mean) / sqrt(var + eps) + beta

    Arguments, result and errors are those of `batch_norm`; x may be empty.
    """
    return _native.batch_norm_inference(x, gamma, beta, mean, var, checked("eps", eps), channel_axis, out)


def batch_norm_backward(
    dout: Array,
    x: Array,
    gamma: ArrayLike,
    mean: ArrayLike,
    inv_std: ArrayLike,
    channel_axis: int = 1,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """The gradient of `batch_norm`.

        xhat = (x - mean) inv_std
        dbeta = sum(dout),  dgamma = sum(dout xhat)
        dx = gamma inv_std (dout - dbeta / n - xhat dgamma / n)

    with the sums over the n elements of a channel.

    Arguments:
        dout: The gradient with respect to y, of the shape of x.
        x: What `batch_norm` was given.
        gamma: What `batch_norm` was given.
        mean: What `batch_norm` returned.
        inv_std: What `batch_norm` returned.
        channel_axis: Where the channels are; may be negative.
        out: Where to put dx: an array of the shape and type of x. May be dout or x.

    dout, x and out may be objects that share memory, as in `batch_norm`.

    Returns:
        dx, dgamma and dbeta, of the type of x.

    Raises:
        ValueError: A shape or the type of out doesn't fit that of x, or x has no elements.
        TypeError: x, dout or out is not a float32 or float64 array, or doesn't share memory of the CPU.
    """
    return _native.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis, out)


class BatchNorm:
    """A batch-normalisation layer with running averages.

    In training it normalises with the statistics of the batch (see `batch_norm`) and moves the running averages:

        running = decay running + (1 - decay) batch

    Otherwise it normalises with the running averages. decay weighs the old value, as in the book and Keras; it is
    1 minus PyTorch's momentum.

    Arguments:
        num_features: The number of channels.
        eps: Added to the variance.
        decay: From 0 to 1.
        channel_axis: Where the channels are; may be negative.
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
    """

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
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise TypeError(f"dtype is {np.dtype(dtype)}, expected float32 or float64")
        self.num_features = operator.index(num_features)
        self.eps = checked("eps", eps)
        self.decay = checked("decay", decay)
        self.channel_axis = channel_axis
        self.unbiased_running_var = unbiased_running_var
        self.gamma: Array = np.ones(num_features, dtype)
        self.beta: Array = np.zeros(num_features, dtype)
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None
        self.running_mean: Array = np.zeros(num_features, dtype)
        self.running_var: Array = np.ones(num_features, dtype)
        self._saved: tuple[Array, Array, Array] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_saved": None}  # a copy or pickle does without the last batch

    def forward(self, x: Array, training: bool = True, out: Array | None = None) -> Array:
        """Normalises x. In training x must stay as it is until `backward`, so out may be x only otherwise.

        Raises:
            ValueError, TypeError: As for `batch_norm`; the running averages are then as they were.
        """
        if not training:
            return batch_norm_inference(
                x, self.gamma, self.beta, self.running_mean, self.running_var, self.eps, self.channel_axis, out
            )
        if out is not None and np.shares_memory(_native.as_native("x", x), _native.as_native("out", out)):
            raise ValueError("out shares memory with x, which the backward pass needs")
        y, mean, inv_std = _native.batch_norm(
            x,
            self.gamma,
            self.beta,
            checked("eps", self.eps),
            self.channel_axis,
            out,
            self.running_mean,
            self.running_var,
            checked("decay", self.decay),
            self.unbiased_running_var,
        )
        self._saved = x, mean, inv_std
        return y

    def backward(self, dout: Array, out: Array | None = None) -> Array:
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
