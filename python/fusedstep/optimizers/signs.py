"""Rules whose step has the same size for every weight: signSGD, Signum and Lion."""

from typing import Unpack

from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class SignSGD(Optimizer):
    """signSGD (Bernstein et al. 2018, arXiv:1802.04434).

        w = w - lr sign(g)

    The sign of 0 and of -0 is 0, that of a NaN is NaN, here and in the rules below. The same as optax' sign_sgd. For
    gradients of which only the sign can be trusted, or was sent.

    Arguments:
        lr: The learning rate, or a schedule: the size of every step.
        weight_decay: L2 weight decay, which enters the sign.
        options: What all optimizers have; see `Options`.
    """

    _rule = "sign_sgd"

    def __init__(self, lr: LearningRate = 1e-3, *, weight_decay: float = 0.0, **options: Unpack[Options]) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)


class Signum(Optimizer):
    """signSGD with momentum (Bernstein et al. 2018, arXiv:1802.04434, algorithm 2), m being 0 at first.

        m = momentum m + (1 - momentum) g
        w = w - lr sign(m)

    The same as optax' signum. A momentum of 0 gives the numbers of `SignSGD`, which keeps no m. For gradients with
    much noise in their size and less in their sign.

    Arguments:
        lr: The learning rate, or a schedule: the size of every step.
        momentum: The decay of the mean gradient, from 0 to 1.
        weight_decay: L2 weight decay, which enters m.
        options: What all optimizers have; see `Options`.
    """

    _rule = "signum"

    def __init__(
        self, lr: LearningRate = 1e-3, momentum: float = 0.9, *, weight_decay: float = 0.0, **options: Unpack[Options]
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = momentum


class Lion(Optimizer):
    """Lion (Chen et al. 2023, arXiv:2302.06675, program 1), m being 0 at first.

        w = w (1 - lr weight_decay)
        w = w - lr sign(beta1 m + (1 - beta1) g)
        m = beta2 m + (1 - beta2) g

    As in the authors' code and in Keras; optax takes its decay off together with the step, which is the same up to
    rounding, and has a weight_decay of 1e-3 by default. One state in place of Adam's two: for large models, with an lr
    3 to 10 times smaller and a decay as much larger than AdamW's.

    Arguments:
        lr: The learning rate, or a schedule: the size of every step.
        beta1: The share of the mean gradient in the step, from 0 to below 1.
        beta2: The decay of the mean gradient, from 0 to below 1.
        weight_decay: An update takes off lr weight_decay w.
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.
    """

    _rule = "lion"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
