"""The optimizers: hyper-parameters, state and documentation. The arithmetic is in the extension module."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._limits import LIMITS, checked, checked_count
from fusedstep._types import Grads, Params

LearningRate: TypeAlias = float | Callable[[int], float]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))


class Optimizer:
    """What all optimizers share; see the subclasses for the rules.

    Attributes:
        lr: The learning rate: a float, or a schedule, which is a callable that gets the number of updates made so far
            (0 at the first) and returns a float.
        weight_decay: L2 weight decay: `g + weight_decay * w` takes the place of `g`. `AdamW` has its own kind.
        iterations: The number of updates made.
        state: The state arrays of each parameter by key, and in it by the paper's letters: `state["W1"]["m"]`. In a
            list or tuple the key is the index; a single array has key 0. SGD's state is empty.

    The hyper-parameters may be changed between updates. A value out of range raises ValueError where it is set.
    """

    _rule: str
    _letters: ClassVar[tuple[str, ...]] = ()

    lr: LearningRate
    weight_decay: float

    def __init__(self, lr: LearningRate, *, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.iterations = 0
        self.state: dict[Any, dict[str, NDArray[Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "iterations":
            value = checked_count("iterations", value)
        elif name in LIMITS and not (name == "lr" and callable(value)):
            value = checked(name, value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._arguments(type(self)))
        return f"{type(self).__name__}({values})"

    def update(self, params: Params, grads: Grads) -> None:
        """Makes one step: updates every parameter in place.

        Arguments:
            params: A dict, list or tuple of float32 or float64 arrays of any shape, or one such array. A float in a
                dict or list is replaced by its new value. An array that is not contiguous works too, more slowly.
            grads: The gradients, with the same keys and shapes; keys that params lacks are ignored, and a parameter
                whose gradient is None is left alone. They may be strided, read-only or of another floating-point type,
                from which they are rounded to the parameter's; they are never written.

        An array may be any object that shares memory of the CPU: a NumPy array, a PyTorch tensor, or one with the
        buffer protocol (memoryview, array.array, ctypes), __array_interface__ or DLPack. Its memory is updated, and
        the object stays where it is; `state` has NumPy arrays. What could only be copied (a list, an object with
        nothing but __array__) is refused, as parameter and as gradient. A tensor may require a gradient; autograd
        doesn't see the update, so it belongs after the backward pass, and as after Tensor.numpy() the tensor can't be
        resized. By DLPack a parameter needs NumPy 2.2.5 and an exporter that takes copy=False, else it is read-only.

        If two parameters share memory, they are updated one after the other. A gradient that shares memory with its
        parameter is copied first. The GIL is released.

        Raises:
            KeyError: grads lacks a key.
            ValueError: A shape differs between a gradient and its parameter or between a parameter and its state, or a
                parameter is read-only, or the schedule returned a number out of range.
            TypeError: Something is not of a floating-point type, or doesn't share memory of the CPU.

        All arguments are checked before anything is written, so after an error nothing has changed.
        """
        lr = self.lr
        if callable(lr):
            lr = checked("lr", lr(self.iterations), f"lr({self.iterations})")
        _native.update(self._rule, self._coefficients(lr), self._l2(), params, grads, self.__dict__, self._letters)

    def state_dict(self) -> dict[str, Any]:
        """A snapshot as a plain dict of arrays (copies) and numbers.

        The hyper-parameters are in it under the full name of the class; a learning-rate schedule is left out.
        """
        return {
            "iterations": self.iterations,
            self._full_name(): {k: v for k, v in self._hyperparameters().items() if not callable(v)},
            "state": {key: {k: a.copy() for k, a in arrays.items()} for key, arrays in self.state.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a snapshot made by `state_dict`, with copies of its arrays.

        The next update is then the one that the other optimizer would have made. A learning-rate schedule on either
        side stays as it is.

        Raises:
            ValueError: The snapshot is of another class, or is damaged. Nothing has changed.
        """
        name = self._full_name()
        if missing := {"iterations", name, "state"} - set(state_dict):
            raise ValueError(f"the state dict has {_listed(state_dict)}, but lacks {_listed(missing)}")
        given = state_dict[name]
        own = self._hyperparameters()
        if set(given) | {"lr"} != set(own):
            raise ValueError(f"{name} has {_listed(given)}, expected {_listed(own)}")
        values = own | {k: checked(k, v) if k in LIMITS else v for k, v in given.items()}
        if callable(self.lr):
            values["lr"] = self.lr
        iterations = checked_count("iterations", state_dict["iterations"])
        state = {key: self._copied_state(key, arrays) for key, arrays in state_dict["state"].items()}
        self.__dict__.update(values, iterations=iterations, state=state)

    def _copied_state(self, key: Any, arrays: dict[str, Any]) -> dict[str, NDArray[Any]]:
        if set(arrays) != set(self._letters):
            expected = _listed(self._letters) or "nothing"
            raise ValueError(f"state[{key!r}] has {_listed(arrays) or 'nothing'}, expected {expected}")
        copies = {letter: np.array(array) for letter, array in arrays.items()}
        for letter, array in copies.items():
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(f"state[{key!r}][{letter!r}] has dtype {array.dtype}, expected float32 or float64")
        return copies

    def _full_name(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def _arguments(self, cls: type) -> list[str]:
        return [name for name in inspect.signature(cls).parameters if hasattr(self, name)]

    def _hyperparameters(self) -> dict[str, Any]:
        # Those of the bases too: the book's classes have no argument eps, but it may be set.
        bases = (cls for cls in type(self).__mro__ if issubclass(cls, Optimizer))
        names = {name for cls in bases for name in self._arguments(cls)}
        return {name: getattr(self, name) for name in sorted(names)}

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        """What the rule's struct in stages.hpp holds, in its order."""
        raise NotImplementedError

    def _l2(self) -> float:
        return self.weight_decay


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins & Monro 1951).

        w = w - lr g

    Arguments:
        lr: The learning rate, or a schedule.
        weight_decay: L2 weight decay.
    """

    _rule = "sgd"

    def __init__(self, lr: LearningRate = 0.01, *, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        return (lr,)


class Momentum(Optimizer):
    """Gradient descent with momentum (Polyak 1964, the heavy ball), v being 0 at first.

    With the learning rate in the velocity, as in the book and in Keras:

        v = a v - lr g
        w = w + v

    Without, as on the slides and in PyTorch (dampening 0):

        v = a v + g
        w = w - lr v

    The two differ only where lr changes: the first lets an old step decay at the lr that it was made with.

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: a, from 0 to 1.
        lr_in_velocity: Which of the two.
        weight_decay: L2 weight decay.
    """

    _letters = ("v",)

    def __init__(
        self, lr: LearningRate = 0.01, momentum: float = 0.9, lr_in_velocity: bool = True, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self.momentum = momentum
        self.lr_in_velocity = lr_in_velocity

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "momentum" if self.lr_in_velocity else "momentum_plain_velocity"

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        return (lr, self.momentum)


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient in the form of Bengio et al. 2013 (arXiv:1212.0901), v being 0 at first.

        w = w + a^2 v
        w = w - (1 + a) lr g
        v = a v - lr g

    w is the point looked ahead to, at which the gradient is taken, so no second evaluation is needed. This is the form
    of the book's first volume and, at a constant lr, of PyTorch's `SGD(nesterov=True)`.

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: a, from 0 to 1.
        weight_decay: L2 weight decay.
    """

    _rule = "nesterov"
    _letters = ("v",)

    def __init__(self, lr: LearningRate = 0.01, momentum: float = 0.9, *, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self.momentum = momentum

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        a = self.momentum
        return (lr, a, a * a, (1 + a) * lr)


class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan & Singer 2011, the diagonal form), h being 0 at first.

        h = h + g^2
        w = w - lr g / (sqrt(h) + eps)

    Arguments:
        lr: The learning rate, or a schedule.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        eps_inside_root: sqrt(h + eps) takes the place of sqrt(h) + eps, as in Keras.
    """

    _rule = "adagrad"
    _letters = ("h",)

    def __init__(
        self, lr: LearningRate = 0.01, eps: float = 1e-7, *, weight_decay: float = 0.0, eps_inside_root: bool = False
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        return (lr, self.eps, 0.0) if self.eps_inside_root else (lr, 0.0, self.eps)


class RMSProp(Optimizer):
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5 of their course), h being 0 at first.

        h = decay_rate h + (1 - decay_rate) g^2
        w = w - lr g / (sqrt(h) + eps)

    Arguments:
        lr: The learning rate, or a schedule.
        decay_rate: The weight of the old mean square, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        eps_inside_root: sqrt(h + eps) takes the place of sqrt(h) + eps, as in Keras.
    """

    _rule = "rmsprop"
    _letters = ("h",)

    def __init__(
        self,
        lr: LearningRate = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self.decay_rate = decay_rate
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        inside, outside = (self.eps, 0.0) if self.eps_inside_root else (0.0, self.eps)
        return (lr, self.decay_rate, 1 - self.decay_rate, inside, outside)


RMSprop = RMSProp


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), m and v being 0 at first, t counting updates from 1.

        m = m + (1 - beta1) (g - m)
        v = v + (1 - beta2) (g^2 - v)
        mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t)
        w = w - lr mhat / (sqrt(vhat) + eps)

    computed with the bias corrections folded into the step and eps. The book, Keras and scikit-learn leave the
    correction of eps out; `fusedstep.book.Adam` does as they do.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay, which goes through the moments. For the decoupled kind use `AdamW`.
        eps_inside_root: sqrt(vhat + eps) takes the place of sqrt(vhat) + eps.
    """

    _rule = "adam"
    _letters = ("m", "v")

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        t = self.iterations + 1
        correction = 1 - self.beta2**t
        root = math.sqrt(correction)
        step = lr * root / (1 - self.beta1**t)
        inside, outside = (self.eps * correction, 0.0) if self.eps_inside_root else (0.0, self.eps * root)
        return (step, 1 - self.beta1, 1 - self.beta2, inside, outside)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, with lr as the decay's factor).

        w = w (1 - lr weight_decay)
        then the step of Adam

    as in PyTorch, where the decay comes first and is scaled by lr.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: The part of w that is taken off in an update is lr times this.
        eps_inside_root: sqrt(vhat + eps) takes the place of sqrt(vhat) + eps.
    """

    _rule = "adamw"

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        eps_inside_root: bool = False,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, weight_decay=weight_decay, eps_inside_root=eps_inside_root)

    def _coefficients(self, lr: float) -> tuple[float, ...]:
        return (*super()._coefficients(lr), 1 - lr * self.weight_decay)

    def _l2(self) -> float:
        return 0.0
