"""Rules that divide by the root of a sum or mean of squared gradients."""

from typing import Unpack

from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan & Singer 2011, the diagonal form), h being 0 at first.

        h = h + g^2
        w = w - lr g / (sqrt(h) + eps)

    Arguments:
        lr: The learning rate, or a schedule.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        eps_inside_root: sqrt(h + eps) takes the place of sqrt(h) + eps, as in Keras.
        options: What all optimizers have; see `Options`.
    """

    _rule = "adagrad"

    def __init__(
        self,
        lr: LearningRate = 0.01,
        eps: float = 1e-7,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.eps = eps
        self.eps_inside_root = eps_inside_root


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
        options: What all optimizers have; see `Options`.
    """

    _rule = "rmsprop"

    def __init__(
        self,
        lr: LearningRate = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.decay_rate = decay_rate
        self.eps = eps
        self.eps_inside_root = eps_inside_root


RMSprop = RMSProp
