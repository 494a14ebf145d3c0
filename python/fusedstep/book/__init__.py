"""The dialect of *Deep Learning from Scratch*: its names, signatures, attributes and numbers.

    from fusedstep.book import *

in place of the book's `from common.optimizer import *`, and of `BatchNormalization` and `Dropout` in its layers, gives
the same parameters to the bit in float64, with two exceptions. Batch normalisation sums in another order than NumPy and
agrees to rounding. And if a parameter is a Python float instead of an array, the book's Adam squares the gradient
with `**`, which for about one number in a thousand rounds the last bit otherwise. In float32, NumPy 2 does the last
line of the book's Adam in float64, and the other rules have the book's bits if the gradients are float32 too.
Parameters may be dicts, as in the first volume, or lists, as in the second.

Gradients of the second volume's embeddings are rows: those that a batch has touched, which code that isn't ours may use
as the book's array. SGD and AdaGrad step these rows only, and have the bits that they have with the array. So that the
other optimizers have the book's numbers, they are given the array, unless their attribute lazy is True: then rows that
a batch doesn't touch keep their values and their moments, as with `fusedstep.Rows`.

    python -m fusedstep.book [--lazy] SCRIPT [ARGS...]

runs a script of the book unchanged, with these classes in place of the book's. `install` does so in a notebook.
"""

import copy
from typing import Any, Self

import numpy as np

from fusedstep import _native, optimizers
from fusedstep._limits import checked, checked_count, checked_flag, shown
from fusedstep._types import Copies, Grads, Params
from fusedstep.book._embedding import Embedding, TimeEmbedding
from fusedstep.book._gradient import RowsGradient, replaced
from fusedstep.book._letters import letter_property
from fusedstep.book._negative_sampling import EmbeddingDot, NegativeSamplingLoss, UnigramSampler
from fusedstep.book._trainer import clip_grads, remove_duplicate

__all__ = ["SGD", "AdaGrad", "Adam", "BatchNormalization", "Dropout", "Momentum", "Nesterov", "RMSprop", "np"]
__all__ += ["Embedding", "EmbeddingDot", "NegativeSamplingLoss", "TimeEmbedding", "UnigramSampler"]
__all__ += ["clip_grads", "remove_duplicate"]

for _part in (
    Embedding,
    TimeEmbedding,
    EmbeddingDot,
    NegativeSamplingLoss,
    UnigramSampler,
    clip_grads,
    remove_duplicate,
):
    _part.__module__ = __name__

_EPS = 1e-7


def _floats(container: Any) -> dict[Any, float]:
    """The integers of a dict or list as floats, by key or index."""
    if not isinstance(container, dict | list):
        return {}
    pairs = container.items() if isinstance(container, dict) else enumerate(container)
    return {key: float(value) for key, value in pairs if type(value) is int and abs(value) < 1 << 1023}


class _Dialect(optimizers.Optimizer):
    """Takes integers as parameters, and subclasses without a call of __init__, as the book's optimizers do."""

    lazy: bool = False
    _letters_are_none = True  # v, h and m, as long as the state is empty

    def __new__(cls, *_: Any, **__: Any) -> Self:
        self = super().__new__(cls)
        ours: Any = next(base for base in cls.__mro__ if base.__module__ == __name__)
        if ours is not cls:
            ours.__init__(self)  # a reader's subclass may not call it
        return self

    def _checked(self, name: str, value: Any) -> Any:
        return checked_flag(name, value) if name == "lazy" else super()._checked(name, value)

    def _hyperparameters(self) -> dict[str, Any]:
        return super()._hyperparameters() | {"lazy": self.lazy}

    def _has_same_numbers_with_rows(self) -> bool:
        return self._rule in ("sgd", "adagrad") and self.weight_decay == 0 and not self._is_special

    def _taken(self, gradient: RowsGradient) -> Any:
        """What a step takes as the gradient of an embedding."""
        return gradient.rows() if self.lazy or self._has_same_numbers_with_rows() else gradient.array()

    def update(
        self,
        params: Params,
        grads: Grads,
        *,
        scale: float = 1.0,
        zero_grads: bool = False,
        copies: Copies = None,
        norm: float | None = None,
    ) -> None:
        """Makes one step, as `fusedstep.Optimizer.update`; integers count as floats too."""
        if zero_grads:
            grads = replaced(grads, RowsGradient.shared_array)
        else:
            grads = replaced(grads, self._taken if copies is None else RowsGradient.array)
        options: Any = {"scale": scale, "zero_grads": zero_grads, "copies": copies, "norm": norm}
        try:
            super().update(params, grads, **options)
        except TypeError:
            whole, whole_gradients = _floats(params), _floats(grads)
            if not whole and not whole_gradients:
                raise
            trial, trial_grads = copy.copy(params), copy.copy(grads)
            for container, floats in ((trial, whole), (trial_grads, whole_gradients)):
                for key, value in floats.items():
                    container[key] = value  # type: ignore[index]
            super().update(trial, trial_grads, **options)
            for key in trial if isinstance(trial, dict) else range(len(trial)):  # type: ignore[arg-type]
                if trial[key] is not params[key] and trial[key] is not whole.get(key):  # type: ignore[index]
                    params[key] = trial[key]  # type: ignore[index]


class SGD(_Dialect, optimizers.SGD):
    """Stochastic gradient descent: w = w - lr g."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)


class Momentum(_Dialect, optimizers.Momentum):
    """Momentum: v = momentum v - lr g, w = w + v."""

    v: Any = letter_property("v")

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr, momentum)


class Nesterov(_Dialect, optimizers.Nesterov):
    """Nesterov's accelerated gradient, v being 0 at first.

    The order of the first volume's current edition and of Bengio et al. 2013, as in `fusedstep.Nesterov`:

        w = w + momentum^2 v
        w = w - (1 + momentum) lr g
        v = momentum v - lr g

    The order of its older editions, its Korean one, and the second volume, which puts the new velocity into w:

        v = momentum v - lr g
        w = w + momentum^2 v
        w = w - (1 + momentum) lr g

    Arguments:
        lr: The learning rate.
        momentum: From 0 to 1.
        legacy: True for the second order.
    """

    v: Any = letter_property("v")
    legacy: bool = False

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, legacy: bool = False) -> None:
        super().__init__(lr, momentum)
        self.legacy = checked_flag("legacy", legacy)

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "nesterov_new_velocity" if self.legacy else "nesterov"


class AdaGrad(_Dialect, optimizers.AdaGrad):
    """AdaGrad: h = h + g^2, w = w - lr g / (sqrt(h) + 1e-7)."""

    h: Any = letter_property("h")

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr, _EPS)


class RMSprop(_Dialect, optimizers.RMSProp):
    """RMSprop: h = decay_rate h + (1 - decay_rate) g^2, w = w - lr g / (sqrt(h) + 1e-7)."""

    h: Any = letter_property("h")

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        super().__init__(lr, decay_rate, _EPS)


class Adam(_Dialect, optimizers.Adam):
    """Adam with an epsilon of 1e-7 that the bias correction leaves alone; see `fusedstep.Adam` for the paper's.

        lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t)
        w = w - lr_t m / (sqrt(v) + 1e-7)

    m and v are those of `fusedstep.Adam`, and t counts the optimizer's updates, whichever parameters they had.
    """

    eps_corrected: bool = False
    count_updates: bool = True

    m: Any = letter_property("m")
    v: Any = letter_property("v")

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        super().__init__(lr, beta1, beta2, _EPS, eps_corrected=False)

    @property
    def iter(self) -> int:
        """The number of updates made."""
        return self.iterations

    @iter.setter
    def iter(self, value: int) -> None:
        self.iterations: int = checked_count("iter", value)


def _numbers(name: str, values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values
    try:
        array = np.asarray(values)
    except ValueError:  # of sequences of several lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} is {shown(values)}, expected an array of numbers")
    return array


def _per_position(name: str, values: Any, width: int) -> Any:
    if values.shape == (width,):
        return values  # broadcasting takes longer than normalising a small batch
    if values.size not in (1, width):
        raise ValueError(f"{name} has shape {values.shape}, expected {width} numbers or one")
    return np.broadcast_to(values.ravel(), (width,))


class BatchNormalization:
    """Batch normalisation over the first axis, with a mean and variance for every other position.

    A 4-D input is normalised for each (C, H, W) position; for one mean a channel use `fusedstep.BatchNorm`. epsilon is
    1e-6; the running averages start at 0 and hold the biased variance; momentum is the weight of the old value. A batch
    of one is allowed. The input of forward must not change before backward.

    Arguments:
        gamma: The factors, one for each position.
        beta: The summands, one for each position.
        momentum: The weight of the old value in the running averages.
        running_mean: The initial running mean; None for zeros.
        running_var: The initial running variance.
    """

    def __init__(
        self, gamma: Any, beta: Any, momentum: float = 0.9, running_mean: Any = None, running_var: Any = None
    ) -> None:
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.input_shape: tuple[int, ...] | None = None
        self.running_mean: Any = running_mean
        self.running_var: Any = running_var
        self.batch_size: int | None = None
        self.dgamma: Any = None
        self.dbeta: Any = None
        self._saved: Any = None

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        """Normalises x, with the batch's statistics in training and the running ones otherwise."""
        if not getattr(x, "ndim", 0):
            raise TypeError(f"x is {shown(x)}, expected an array of one axis or more")
        self.input_shape = x.shape
        gamma, beta = _numbers("gamma", self.gamma), _numbers("beta", self.beta)
        # A number of Python's doesn't decide the type.
        typed = (array for array, given in ((gamma, self.gamma), (beta, self.beta)) if not isinstance(given, float))
        x = np.asarray(x, dtype=np.result_type(_numbers("x", x), *typed)).reshape(len(x), -1)
        width = x.shape[1]
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(width), np.zeros(width)
        gamma, beta = _per_position("gamma", gamma, width), _per_position("beta", beta, width)
        mean, var = (
            _per_position(name, _numbers(name, getattr(self, name)), width) for name in ("running_mean", "running_var")
        )
        if train_flg:
            mean, var = mean.astype(np.float64), var.astype(np.float64)  # copies, so that the given arrays don't change
            momentum = checked("momentum", self.momentum)
            y, *statistics = _native.batch_norm(x, gamma, beta, 1e-6, 1, None, mean, var, momentum, False)
            self.running_mean, self.running_var = mean, var
            self.batch_size = len(x)
            self._saved = x, *statistics
        else:
            y = _native.batch_norm_inference(x, gamma, beta, mean, var, 1e-6, 1, None)
        return y.reshape(self.input_shape)

    def backward(self, dout: Any) -> Any:
        """The gradient of the last forward pass in training; sets dgamma and dbeta."""
        if self._saved is None:
            raise RuntimeError("backward needs a forward pass in training before it")
        x, mean, inv_std = self._saved
        gamma = _per_position("gamma", _numbers("gamma", self.gamma), x.shape[1])
        dout = np.asarray(dout, dtype=x.dtype).reshape(len(dout), -1)
        dx, self.dgamma, self.dbeta = _native.batch_norm_backward(dout, x, gamma, mean, inv_std, 1, None)
        return dx.reshape(self.input_shape)


class Dropout:
    """Dropout in the form of Hinton et al. 2012 (arXiv:1207.0580), which scales outside training.

    In training y = x mask with mask = np.random.rand(*x.shape) > dropout_ratio: the numbers come from NumPy's global
    generator, as in the book. Otherwise y = x (1 - dropout_ratio). `fusedstep.Dropout` scales in training instead, and
    has random numbers of its own.

    Arguments:
        dropout_ratio: The share that is dropped, from 0 to 1.
    """

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        checked("dropout_ratio", dropout_ratio)
        self.dropout_ratio = dropout_ratio
        self.mask: Any = None
        self.params: list[Any] = []
        self.grads: list[Any] = []

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        """Drops a part of x, newly drawn, in training, and scales x otherwise."""
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio  # noqa: NPY002, a seeded script must draw the same
        return x * self.mask

    def backward(self, dout: Any) -> Any:
        """The gradient of the last forward pass in training: dout mask."""
        if self.mask is None:
            raise RuntimeError("backward needs a forward pass in training before it")
        return dout * self.mask


from fusedstep.book._substitution import install as install  # noqa: E402, which needs all of the above

install.__module__ = __name__
