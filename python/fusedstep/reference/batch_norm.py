"""Batch normalisation."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


def _channels(values: Any, x: Array, axis: int) -> Any:
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.asarray(values, dtype=x.dtype).reshape(shape)


def _other_axes(x: Array, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != axis % x.ndim)


def _normalized(x: Array, gamma: Any, beta: Any, eps: float, axis: int) -> tuple[Array, Array, Array, Array]:
    axes = _other_axes(x, axis)
    mean = x.mean(axis=axes)
    centred = x - _channels(mean, x, axis)
    var = (centred * centred).mean(axis=axes)
    inv_std = 1 / np.sqrt(var + x.dtype.type(eps))
    xhat = centred * _channels(inv_std, x, axis)
    return _channels(gamma, x, axis) * xhat + _channels(beta, x, axis), mean, var, inv_std


def batch_norm(x: Array, gamma: Any, beta: Any, eps: float = 1e-5, channel_axis: int = 1) -> tuple[Array, Array, Array]:
    """See fusedstep.batch_norm. The results agree to rounding, not to the bit: NumPy sums in another order."""
    y, mean, _, inv_std = _normalized(x, gamma, beta, eps, channel_axis)
    return y, mean, inv_std


def batch_norm_inference(
    x: Array, gamma: Any, beta: Any, mean: Any, var: Any, eps: float = 1e-5, channel_axis: int = 1
) -> Array:
    """See fusedstep.batch_norm_inference."""
    inv_std = 1 / np.sqrt(np.asarray(var) + eps)
    xhat = (x - _channels(mean, x, channel_axis)) * _channels(inv_std, x, channel_axis)
    y: Array = _channels(gamma, x, channel_axis) * xhat + _channels(beta, x, channel_axis)
    return y


def batch_norm_backward(
    dout: Array, x: Array, gamma: Any, mean: Any, inv_std: Any, channel_axis: int = 1
) -> tuple[Array, Array, Array]:
    """See fusedstep.batch_norm_backward."""
    axes = _other_axes(x, channel_axis)
    count = x.size // x.shape[channel_axis]
    xhat = (x - _channels(mean, x, channel_axis)) * _channels(inv_std, x, channel_axis)
    dbeta = dout.sum(axis=axes)
    dgamma = (dout * xhat).sum(axis=axes)
    scale = _channels(gamma, x, channel_axis) * _channels(inv_std, x, channel_axis)
    mean_dout = _channels(dbeta / count, x, channel_axis)
    mean_dot = _channels(dgamma / count, x, channel_axis)
    return scale * (dout - mean_dout - xhat * mean_dot), dgamma, dbeta


class BatchNorm:
    """See fusedstep.BatchNorm."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        decay: float = 0.9,
        channel_axis: int = 1,
        dtype: Any = np.float32,
        *,
        unbiased_running_var: bool = False,
    ) -> None:
        self.eps = eps
        self.decay = decay
        self.channel_axis = channel_axis
        self.unbiased_running_var = unbiased_running_var
        self.gamma: Array = np.ones(num_features, dtype)
        self.beta: Array = np.zeros(num_features, dtype)
        self.dgamma: Array
        self.dbeta: Array
        self.running_mean: Array = np.zeros(num_features, dtype)
        self.running_var: Array = np.ones(num_features, dtype)
        self.saved: tuple[Array, Array, Array]

    def forward(self, x: Array, training: bool = True) -> Array:
        """Normalises x with its own statistics in training, else with the running ones."""
        if not training:
            return batch_norm_inference(
                x, self.gamma, self.beta, self.running_mean, self.running_var, self.eps, self.channel_axis
            )
        y, mean, var, inv_std = _normalized(x, self.gamma, self.beta, self.eps, self.channel_axis)
        self.saved = x, mean, inv_std
        count = x.size // len(mean)
        if self.unbiased_running_var and count > 1:
            var = var * (count / (count - 1))
        self.running_mean = self.decay * self.running_mean + (1 - self.decay) * mean
        self.running_var = self.decay * self.running_var + (1 - self.decay) * var
        return y

    def backward(self, dout: Array) -> Array:
        """The gradient of the last forward pass in training."""
        x, mean, inv_std = self.saved
        dx, self.dgamma, self.dbeta = batch_norm_backward(dout, x, self.gamma, mean, inv_std, self.channel_axis)
        return dx
