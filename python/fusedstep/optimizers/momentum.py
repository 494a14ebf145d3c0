"""Gradient descent: plain, with momentum, averaged, and by the signs of the gradient."""

from types import MappingProxyType
from typing import Any, Unpack

from fusedstep._limits import checked, checked_flag
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class SGD(Optimizer):
    """Stochastic gradient descent (Robbins & Monro 1951), with momentum in PyTorch's form.

        w = w - lr g

    With momentum:

        v = g                                    at the first step of the parameter
        v = momentum v + (1 - dampening) g       at the others
        w = w - lr v
        w = w - lr (g + momentum v)              in place of it, if nesterov

    That is PyTorch's SGD with all its options. `Momentum` and `Nesterov` are the forms with the learning rate in the
    velocity, which Keras has. Take this one for a run that is to have PyTorch's numbers.

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: From 0, for none and no state, to 1. Can't change between 0 and another number while there is state.
        dampening: From 0 to 1.
        nesterov: The step looks ahead (Sutskever et al. 2013). Needs momentum, without dampening.
        weight_decay: L2 weight decay.
        options: What all optimizers have; see `Options`.

    Raises:
        ValueError: nesterov without momentum, or with dampening; also when one of the three is set later.
    """

    _choose_rule = MappingProxyType({"momentum": checked, "dampening": checked, "nesterov": checked_flag})

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def __init__(
        self,
        lr: LearningRate = 0.01,
        momentum: float = 0.0,
        *,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        self.momentum = momentum  # first: the rule follows from it, and checks groups
        self.dampening = dampening
        self.nesterov = nesterov
        super().__init__(lr, weight_decay=weight_decay, **options)

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "sgd_momentum" if self.momentum != 0 else "sgd"

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name in self._choose_rule:
            other: Any = self._with({name: value})
            if other.nesterov and (other.momentum == 0 or other.dampening != 0):
                raise ValueError(f"{name} is {value}, but nesterov is expected to have momentum and no dampening")
        return value


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


class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak & Juditsky 1992), as in PyTorch, t being the number of the step.

        w = w (1 - lambd eta)
        w = w - eta g
        mean = w                                        up to step t0 + 2
        mean = mean + (w - mean) / (t - 1 - t0)         after it
        eta = lr / (1 + lambd lr t)^alpha               for the next step; it is lr in the first

    The mean is in `state[key]["mean"]`, the number eta in `state[key]["eta"]`. The option average keeps an exponential
    mean, of any rule. Take this one for convex losses.

    Arguments:
        lr: The learning rate, or a schedule.
        lambd: The decay of the weights, and of the rate.
        alpha: The power with which the rate decays.
        t0: The number of steps before the mean starts.
        weight_decay: L2 weight decay.
        options: What all optimizers have; see `Options`.
    """

    _rule = "asgd"

    def __init__(
        self,
        lr: LearningRate = 0.01,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.lambd = lambd
        self.alpha = alpha
        self.t0 = t0


class Rprop(Optimizer):
    """Resilient backpropagation (Riedmiller & Braun 1993) without a step back, as in PyTorch.

        factor = eta_plus if g prev > 0, eta_minus if g prev < 0, else 1
        step_size = min(max(step_size factor, step_min), step_max)
        g = 0 if g prev < 0
        w = w - sign(g) step_size
        prev = g

    step_size is lr and prev is 0 at first. A gradient of NaN makes all three NaN; in PyTorch it moves nothing. optax
    makes the step of the update before. For gradients of all examples at once, whose signs mean something: of batches
    they change by chance.

    Arguments:
        lr: The first size of a step. Of a schedule, the value at the parameter's first update.
        eta_minus: The factor after a change of sign, from 0 to below 1.
        eta_plus: The factor after two equal signs.
        step_min: The smallest size.
        step_max: The largest size.
        weight_decay: L2 weight decay, which PyTorch's has not.
        options: What all optimizers have; see `Options`.
    """

    _rule = "rprop"

    def __init__(
        self,
        lr: LearningRate = 0.01,
        eta_minus: float = 0.5,
        eta_plus: float = 1.2,
        step_min: float = 1e-6,
        step_max: float = 50.0,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.eta_minus = eta_minus
        self.eta_plus = eta_plus
        self.step_min = step_min
        self.step_max = step_max
