"""Rules that divide by the root of a sum or mean of squared gradients."""

from types import MappingProxyType
from typing import Any, Unpack

from fusedstep._limits import checked, checked_flag
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan & Singer 2011, the diagonal form), h being initial_accumulator at first.

        h = h + g^2
        w = w - lr g / (sqrt(h) + eps)

    Arguments:
        lr: The learning rate, or a schedule.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        eps_inside_root: sqrt(h + eps) takes the place of sqrt(h) + eps, as in Keras.
        initial_accumulator: The first h: 0 in PyTorch, 0.1 in Keras and optax.
        options: What all optimizers have; see `Options`.
    """

    _rule = "adagrad"

    initial_accumulator: float = 0.0

    def __init__(
        self,
        lr: LearningRate = 0.01,
        eps: float = 1e-7,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
        initial_accumulator: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.eps = eps
        self.eps_inside_root = eps_inside_root
        self.initial_accumulator = initial_accumulator


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, arXiv:1212.5701), h and d being 0 at first.

        h = rho h + (1 - rho) g^2
        delta = sqrt(d + eps) / sqrt(h + eps) g
        d = rho d + (1 - rho) delta^2
        w = w - lr delta

    With lr 1 it is the paper's, and PyTorch's; Keras and optax scale it by a smaller lr, Keras with rho 0.95 and eps
    1e-7. DeZero's has one_root: sqrt((d + eps) / (h + eps)), which differs by rounding. Take it where no learning rate
    is known: eps sets the first steps.

    Arguments:
        lr: The learning rate, or a schedule.
        rho: The decay of both means, from 0 to below 1.
        eps: Keeps the quotient finite, and the first steps above 0.
        one_root: Whether to take the root of the quotient in place of the quotient of roots.
        weight_decay: L2 weight decay.
        options: What all optimizers have; see `Options`.
    """

    _rule = "adadelta"

    def __init__(
        self,
        lr: LearningRate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        *,
        one_root: bool = False,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.rho = rho
        self.eps = eps
        self.one_root = one_root


class RMSProp(Optimizer):
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5 of their course), h being initial_accumulator at first.

        h = decay_rate h + (1 - decay_rate) g^2
        w = w - lr g / (sqrt(h) + eps)

    If centered (Graves 2013, arXiv:1308.0850), the variance takes the place of h in the second line:

        mean = mean + (1 - decay_rate) (g - mean)
        max(h - mean^2, 0)

    With momentum, v being 0 at first, with the learning rate outside of the velocity as in PyTorch, or in it as in
    Keras, TensorFlow and BNNS:

        v = momentum v + g / (sqrt(h) + eps),     w = w - lr v
        v = momentum v + lr g / (sqrt(h) + eps),  w = w - v

    A variance that is negative by rounding is NaN under the root in PyTorch, Keras and optax. Take centered where
    gradients have a mean that is far from 0.

    Arguments:
        lr: The learning rate, or a schedule.
        decay_rate: The weight of the old mean square, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        momentum: From 0, for none, to 1. Can't change between 0 and another number while there is state.
        centered: Divides by the deviation. Can't be changed while there is state.
        lr_in_velocity: True for the second form of momentum. Can't be changed while there is a velocity.
        eps_inside_root: sqrt(h + eps) takes the place of sqrt(h) + eps, as in Keras and TensorFlow.
        initial_accumulator: The first h: 1 in TensorFlow 1.
        options: What all optimizers have; see `Options`.
    """

    _choose_rule = MappingProxyType({"momentum": checked, "centered": checked_flag, "lr_in_velocity": checked_flag})

    momentum: float = 0.0
    centered: bool = False
    lr_in_velocity: bool = False
    initial_accumulator: float = 0.0

    def __init__(
        self,
        lr: LearningRate = 0.01,
        decay_rate: float = 0.99,
        eps: float = 1e-7,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        lr_in_velocity: bool = False,
        eps_inside_root: bool = False,
        initial_accumulator: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        self.momentum = momentum  # first: the rule follows from it, and checks groups
        self.centered = centered
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.decay_rate = decay_rate
        self.eps = eps
        self.lr_in_velocity = lr_in_velocity
        self.eps_inside_root = eps_inside_root
        self.initial_accumulator = initial_accumulator

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return f"rmsprop{'_centered' if self.centered else ''}{'_momentum' if self.momentum != 0 else ''}"

    def _refuse_other_rule(self, name: str, value: Any) -> None:
        super()._refuse_other_rule(name, value)
        if name == "lr_in_velocity" and self.momentum != 0 and value != self.lr_in_velocity:
            raise ValueError(f"{name} is {value}, but the velocity was made with {not value}: clear state first")


RMSprop = RMSProp
