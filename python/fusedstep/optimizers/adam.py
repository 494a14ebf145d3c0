"""Adam and AdamW."""

from typing import ClassVar, Unpack

from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), m and v being 0 at first.

        m = m + (1 - beta1) (g - m)
        v = v + (1 - beta2) (g^2 - v)
        mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t)
        w = w - lr mhat / (sqrt(vhat) + eps)

    t counts the updates of the parameter from 1. The bias corrections are folded into the step and eps. The book, Keras
    and scikit-learn leave the correction of eps out; `fusedstep.book.Adam` does as they do.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay, which enters the moments. For the decoupled kind use `AdamW`.
        eps_inside_root: sqrt(vhat + eps) takes the place of sqrt(vhat) + eps.
        options: What all optimizers have; see `Options`.
    """

    _rule = "adam"

    eps_corrected: ClassVar[bool] = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root


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
        weight_decay: An update takes off lr weight_decay w.
        eps_inside_root: sqrt(vhat + eps) takes the place of sqrt(vhat) + eps.
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.
    """

    _rule = "adamw"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        eps_inside_root: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, weight_decay=weight_decay, eps_inside_root=eps_inside_root, **options)
