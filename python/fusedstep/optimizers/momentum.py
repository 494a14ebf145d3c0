"""Gradient descent, with and without momentum."""

from types import MappingProxyType
from typing import Unpack

from fusedstep._limits import checked_flag
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins & Monro 1951).

        w = w - lr g

    Arguments:
        lr: The learning rate, or a schedule.
        weight_decay: L2 weight decay.
        options: What all optimizers have; see `Options`.
    """

    _rule = "sgd"

    def __init__(self, lr: LearningRate = 0.01, *, weight_decay: float = 0.0, **options: Unpack[Options]) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)


class Momentum(Optimizer):
    """Gradient descent with momentum (Polyak 1964, the heavy ball), v being 0 at first.

    With the learning rate in the velocity, as in the book and in Keras:

        v = a v - lr g
        w = w + v

    Without, as on the slides and in PyTorch (dampening 0):

        v = a v + g
        w = w - lr v

    The two differ only when lr changes: in the first form, old steps keep the lr that they were made with.

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: a, from 0 to 1.
        lr_in_velocity: True for the first form, False for the second. Can't be changed while there is a velocity,
            whose sign and scale would be wrong: ValueError.
        weight_decay: L2 weight decay.
        options: What all optimizers have; see `Options`.
    """

    _choose_rule = MappingProxyType({"lr_in_velocity": checked_flag})

    lr_in_velocity: bool = True

    def __init__(
        self,
        lr: LearningRate = 0.01,
        momentum: float = 0.9,
        lr_in_velocity: bool = True,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = momentum
        self.lr_in_velocity = lr_in_velocity

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "momentum" if self.lr_in_velocity else "momentum_plain_velocity"


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient in the form of Bengio et al. 2013 (arXiv:1212.0901), v being 0 at first.

        w = w + a^2 v
        w = w - (1 + a) lr g
        v = a v - lr g

    w is the point ahead, at which the gradient is taken, so no second evaluation is needed. This is the form of the
    book's first volume and, at a constant lr, of PyTorch's `SGD(nesterov=True)`.

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: a, from 0 to 1.
        weight_decay: L2 weight decay.
        options: What all optimizers have; see `Options`.
    """

    _rule = "nesterov"

    def __init__(
        self, lr: LearningRate = 0.01, momentum: float = 0.9, *, weight_decay: float = 0.0, **options: Unpack[Options]
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = momentum
