"""The formulas of fusedstep in plain NumPy: its specification, the oracle of its tests, what it is measured against.

An optimizer here and the one of the same name in `fusedstep` give the same bits: the coefficients are the same Python
floats, rounded once to the parameter's type, and the operations are the same in the same order.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
Rounded = Callable[[float], Any]


class Optimizer:
    """What the rules share: a pass over the parameters, state that belongs to the key, L2 weight decay."""

    letters: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False  # weight decay is the rule's own affair

    def __init__(self, lr: Any, *, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.iterations: int = 0
        self.state: dict[Any, dict[str, Array]] = {}

    def update(self, params: Any, grads: Any) -> None:
        """Updates the arrays in place; a number in a dict or list is replaced."""
        lr = float(self.lr(self.iterations) if callable(self.lr) else self.lr)
        self.iterations += 1
        if isinstance(params, np.ndarray):
            params, grads = (params,), (grads,)
        for key in params if isinstance(params, dict) else range(len(params)):
            if grads[key] is None:
                continue
            w = params[key] if isinstance(params[key], np.ndarray) else np.array(params[key])
            g = np.asarray(grads[key], dtype=w.dtype)
            if np.may_share_memory(w, g):
                g = g.copy()
            if self.weight_decay != 0 and not self.decoupled:
                g = g + w.dtype.type(self.weight_decay) * w
            if self.letters and key not in self.state:
                self.state[key] = {letter: np.zeros_like(w) for letter in self.letters}
            self.step(w.dtype.type, lr, w, g, **self.state.get(key, {}))
            if w is not params[key]:
                params[key] = type(params[key])(w[()])

    def step(self, t: Rounded, lr: float, w: Array, g: Array, **state: Array) -> None:
        """Updates one parameter w in place; t rounds a coefficient to its type."""
        raise NotImplementedError


class SGD(Optimizer):
    """See fusedstep.SGD."""

    def __init__(self, lr: Any = 0.01, **options: Any) -> None:
        super().__init__(lr, **options)

    def step(self, t: Rounded, lr: float, w: Array, g: Array) -> None:  # type: ignore[override]
        w -= t(lr) * g


class Momentum(Optimizer):
    """See fusedstep.Momentum."""

    letters: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self, lr: Any = 0.01, momentum: float = 0.9, lr_in_velocity: bool = True, **options: Any) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum
        self.lr_in_velocity = lr_in_velocity

    def step(self, t: Rounded, lr: float, w: Array, g: Array, v: Array) -> None:  # type: ignore[override]
        a = self.momentum
        if self.lr_in_velocity:
            v[...] = t(a) * v - t(lr) * g
            w += v
        else:
            v[...] = t(a) * v + g
            w -= t(lr) * v


class Nesterov(Optimizer):
    """See fusedstep.Nesterov, and for legacy fusedstep.book.Nesterov."""

    letters: ClassVar[tuple[str, ...]] = ("v",)

    def __init__(self, lr: Any = 0.01, momentum: float = 0.9, legacy: bool = False, **options: Any) -> None:
        super().__init__(lr, **options)
        self.momentum = momentum
        self.legacy = legacy

    def step(self, t: Rounded, lr: float, w: Array, g: Array, v: Array) -> None:  # type: ignore[override]
        a = self.momentum
        new = t(a) * v - t(lr) * g
        w += t(a * a) * (new if self.legacy else v)
        w -= t((1 + a) * lr) * g
        v[...] = new


class AdaGrad(Optimizer):
    """See fusedstep.AdaGrad."""

    letters: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, lr: Any = 0.01, eps: float = 1e-7, *, eps_inside_root: bool = False, **options: Any) -> None:
        super().__init__(lr, **options)
        self.eps_inside: float = eps if eps_inside_root else 0.0
        self.eps_outside: float = 0.0 if eps_inside_root else eps

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h += g * g
        w -= t(lr) * g / (np.sqrt(h + t(self.eps_inside)) + t(self.eps_outside))


class RMSProp(Optimizer):
    """See fusedstep.RMSProp."""

    letters: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(
        self,
        lr: Any = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        eps_inside_root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.decay_rate = decay_rate
        self.eps_inside: float = eps if eps_inside_root else 0.0
        self.eps_outside: float = 0.0 if eps_inside_root else eps

    def step(self, t: Rounded, lr: float, w: Array, g: Array, h: Array) -> None:  # type: ignore[override]
        h *= t(self.decay_rate)
        h += t(1 - self.decay_rate) * g * g
        w -= t(lr) * g / (np.sqrt(h + t(self.eps_inside)) + t(self.eps_outside))


class Adam(Optimizer):
    """See fusedstep.Adam."""

    letters: ClassVar[tuple[str, ...]] = ("m", "v")

    def __init__(
        self,
        lr: Any = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        eps_inside_root: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(lr, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def step(self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array) -> None:  # type: ignore[override]
        correction = 1 - self.beta2**self.iterations
        step = lr * math.sqrt(correction) / (1 - self.beta1**self.iterations)
        inside = self.eps * correction if self.eps_inside_root else 0.0
        outside = 0.0 if self.eps_inside_root else self.eps * math.sqrt(correction)
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        w -= t(step) * m / (np.sqrt(v + t(inside)) + t(outside))


class AdamW(Adam):
    """See fusedstep.AdamW."""

    decoupled: ClassVar[bool] = True

    def __init__(self, *args: Any, weight_decay: float = 0.01, **options: Any) -> None:
        super().__init__(*args, weight_decay=weight_decay, **options)

    def step(self, t: Rounded, lr: float, w: Array, g: Array, m: Array, v: Array) -> None:  # type: ignore[override]
        w *= t(1 - lr * self.weight_decay)
        super().step(t, lr, w, g, m, v)


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


_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry4x32(counter: Any, key: Any, rounds: int = 13) -> Any:
    """Threefry-4x32 (Salmon et al. 2011): four random uint32 for each counter.

    Arguments:
        counter: uint32 of shape (4, n).
        key: Four uint32.
        rounds: The published default is 20; 13 mix well enough for dropout.

    Returns:
        uint32 of shape (4, n).
    """
    keys = np.zeros((5, 1), np.uint32)
    keys[:4, 0] = key
    keys[4] = np.bitwise_xor.reduce(keys[:4, 0]) ^ np.uint32(0x1BD11BDA)
    words = np.array(counter, np.uint32) + keys[:4]
    for r in range(rounds):
        # The two pairs that are mixed: words 0 and 1, 2 and 3 in one round, 0 and 3, 2 and 1 in the next.
        for x, y, by in zip((0, 2), (1, 3) if r % 2 == 0 else (3, 1), _ROTATIONS[r % 8], strict=True):
            words[x] += words[y]
            words[y] = words[y] << by | words[y] >> (32 - by)
            words[y] ^= words[x]
        if r % 4 == 3:
            k = r // 4 + 1
            words += keys[[(k + i) % 5 for i in range(4)]]
            words[3] += np.uint32(k)
    return words


def dropout_mask(shape: Any, rate: float, seed: int, call: int = 0) -> Any:
    """Which elements fusedstep.dropout keeps, as an array of bool.

    Elements come in groups of 64, from 8 counters each: first the lower halves of the counters' first words, of their
    second words ..., then the upper halves. The counters' third word is 0 for the upper 16 bits of an element's 32
    random bits, and 1 for the lower 16.
    """
    size = math.prod(shape)
    groups = -(-size // 64)
    numbers = np.arange(8 * groups, dtype=np.uint64)
    bits = np.zeros(64 * groups, np.uint32)
    for part in (0, 1):
        counter = np.zeros((4, len(numbers)), np.uint32)
        counter[0], counter[1], counter[2] = numbers & 0xFFFFFFFF, numbers >> 32, part
        key = [half for number in (seed, call) for half in (number & 0xFFFFFFFF, number >> 32)]
        words = threefry4x32(counter, key).reshape(4, groups, 8).swapaxes(0, 1)
        halves = np.stack([words & 0xFFFF, words >> 16], axis=1)
        bits = bits << 16 | halves.ravel()
    return (bits[:size] >= min(round(rate * 2**32), 2**32 - 1)).reshape(shape)


def dropout(x: Array, rate: float = 0.5, *, seed: int, call: int = 0) -> Array:
    """See fusedstep.dropout."""
    t = x.dtype.type
    y: Array = x * np.where(dropout_mask(x.shape, rate, seed, call), t(1 / (1 - rate)), t(0))
    return y


class Dropout:
    """See fusedstep.Dropout."""

    def __init__(self, rate: float = 0.5, seed: int = 0) -> None:
        self.rate = rate
        self.seed = seed
        self.calls: int = 0

    def forward(self, x: Array, training: bool = True) -> Array:
        """Drops a part of x in training."""
        if not training:
            return x
        self.saved: dict[str, Any] = {"rate": self.rate, "seed": self.seed, "call": self.calls}
        self.calls += 1
        return dropout(x, **self.saved)

    def backward(self, dout: Array) -> Array:
        """The gradient of the last forward pass in training."""
        return dropout(dout, **self.saved)
