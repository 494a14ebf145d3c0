"""The small fully connected network that the examples train, in NumPy but for batch normalisation and dropout."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fusedstep
from fusedstep.initializers import he_normal

Array: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.integer[Any]]
Params: TypeAlias = dict[str, Array]


class Layer(Protocol):
    """What a hidden layer does."""

    def forward(self, x: Array, training: bool) -> Array:
        """The layer's result for a batch x of shape (batch, features)."""

    def backward(self, dout: Array) -> Array:
        """The loss's gradient with respect to the last x, dout being that with respect to the result."""


class Norm(Layer, Protocol):
    """A batch-normalisation layer: `fusedstep.BatchNorm` or `fusedstep.reference.BatchNorm`."""

    @property
    def gamma(self) -> Array: ...
    @property
    def beta(self) -> Array: ...
    @property
    def dgamma(self) -> Array | None: ...
    @property
    def dbeta(self) -> Array | None: ...


class MakeNorm(Protocol):
    """The class of such a layer, or a function that makes one."""

    def __call__(self, num_features: int, *, dtype: DTypeLike) -> Norm: ...


class Initial(Protocol):
    """Where weights begin: a function of `fusedstep.initializers`, or `normal(std)`."""

    def __call__(self, shape: tuple[int, int], /, *, dtype: DTypeLike, rng: np.random.Generator) -> Array: ...


def normal(std: float) -> Initial:
    """Weights from a normal distribution of this standard deviation, whatever their number."""

    def draw(shape: tuple[int, int], /, *, dtype: DTypeLike, rng: np.random.Generator) -> Array:
        w: Array = (rng.standard_normal(shape) * std).astype(dtype)
        return w

    return draw


class Affine:
    """y = x w + b."""

    def __init__(self, w: Array) -> None:
        self.w = w
        self.b: Array = np.zeros(w.shape[1], w.dtype)

    def forward(self, x: Array, training: bool) -> Array:
        self._x = x
        y: Array = x @ self.w
        y += self.b
        return y

    def backward(self, dout: Array) -> Array:
        self.dw: Array = self._x.T @ dout
        self.db: Array = dout.sum(axis=0)
        dx: Array = dout @ self.w.T
        return dx


class ReLU:
    """y = max(x, 0)."""

    def forward(self, x: Array, training: bool) -> Array:
        self._positive = x > 0
        return np.maximum(x, 0)

    def backward(self, dout: Array) -> Array:
        return dout * self._positive


class Sigmoid:
    """y = 1 / (1 + exp(-x))."""

    def forward(self, x: Array, training: bool) -> Array:
        # By tanh, because exp(-x) overflows where x is far below zero.
        self._y: Array = np.tanh(x / 2) / 2 + 0.5
        return self._y

    def backward(self, dout: Array) -> Array:
        return dout * self._y * (1 - self._y)


class Tanh:
    """y = tanh(x)."""

    def forward(self, x: Array, training: bool) -> Array:
        self._y: Array = np.tanh(x)
        return self._y

    def backward(self, dout: Array) -> Array:
        return dout * (1 - self._y * self._y)


ACTIVATIONS: dict[str, type[Layer]] = {"sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU}


def softmax_cross_entropy(scores: Array, labels: Labels) -> tuple[float, Array]:
    """The mean cross-entropy of softmax(scores), shape (batch, classes), and its gradient with respect to scores."""
    rows = np.arange(len(labels))
    shifted = scores - scores.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1)
    # From the logarithm of the sum, not of the probability, which may have rounded to 0.
    loss = float(np.mean(np.log(sums) - shifted[rows, labels]))
    gradient: Array = exps / sums[:, np.newaxis]
    gradient[rows, labels] -= 1
    gradient /= len(labels)
    return loss, gradient


class Network:
    """Affine, batch normalisation, activation and dropout for each hidden layer, then an affine layer.

    Arguments:
        sizes: The numbers of inputs, of units of each hidden layer, and of classes.
        rng: Where the weights come from: equal generators give equal networks.
        dtype: float32 or float64.
        norm: The batch-normalisation layer's class, or None to do without.
        activation: "sigmoid", "tanh" or "relu".
        initial: Where the weights begin.
        dropout: The part of each hidden layer's results that is dropped in training; 0 to do without.

    Attributes:
        params: The parameters by name: W1, b1, gamma1, beta1, W2 ... They are the layers' own arrays, so an optimizer
            has to update them in place.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: np.random.Generator,
        dtype: DTypeLike = np.float64,
        norm: MakeNorm | None = None,
        *,
        activation: str = "relu",
        initial: Initial = he_normal,
        dropout: float = 0.0,
    ) -> None:
        self._layers: list[Layer] = []
        self._affines: list[Affine] = []
        self._norms: list[Norm] = []
        self.params: Params = {}
        for i in range(1, len(sizes)):
            affine = Affine(initial((sizes[i - 1], sizes[i]), dtype=dtype, rng=rng))
            self._layers.append(affine)
            self._affines.append(affine)
            self.params |= {f"W{i}": affine.w, f"b{i}": affine.b}
            if i == len(sizes) - 1:
                break
            if norm is not None:
                layer = norm(sizes[i], dtype=dtype)
                self._layers.append(layer)
                self._norms.append(layer)
                self.params |= {f"gamma{i}": layer.gamma, f"beta{i}": layer.beta}
            self._layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                self._layers.append(fusedstep.Dropout(dropout, seed=int(rng.integers(2**63))))

    def activations(self, x: Array) -> list[Array]:
        """What each activation layer gives for a batch x."""
        found = []
        for layer in self._layers:
            x = layer.forward(x, False)
            if type(layer) in ACTIVATIONS.values():
                found.append(x)
        return found

    def scores(self, x: Array, training: bool = False) -> Array:
        """The input of the softmax, shape (batch, classes)."""
        for layer in self._layers:
            x = layer.forward(x, training)
        return x

    def loss(self, x: Array, labels: Labels, training: bool = False) -> float:
        """The mean cross-entropy; batch normalisation takes the batch's own statistics if `training`."""
        return softmax_cross_entropy(self.scores(x, training), labels)[0]

    def accuracy(self, x: Array, labels: Labels) -> float:
        """The part of the images, from 0 to 1, whose highest score is that of the label."""
        return float(np.mean(self.scores(x).argmax(axis=1) == labels))

    def gradient(self, x: Array, labels: Labels) -> tuple[float, Params]:
        """The loss of a training batch and its gradients, under the names of the parameters."""
        loss, dout = softmax_cross_entropy(self.scores(x, training=True), labels)
        for layer in reversed(self._layers):
            dout = layer.backward(dout)
        grads: Params = {}
        for i, affine in enumerate(self._affines, 1):
            grads |= {f"W{i}": affine.dw, f"b{i}": affine.db}
        for i, norm in enumerate(self._norms, 1):
            assert norm.dgamma is not None
            assert norm.dbeta is not None
            grads |= {f"gamma{i}": norm.dgamma, f"beta{i}": norm.dbeta}
        return loss, grads
