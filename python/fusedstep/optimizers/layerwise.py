"""Rules whose step is scaled by norms of the array itself. Of `Rows`, the norms are those of the rows."""

from typing import Unpack

from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class LAMB(Optimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962, version 5, with bias correction), m and v being 0 at first.

        m = m + (1 - beta1) (g - m)
        v = v + (1 - beta2) (g^2 - v)
        mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t)
        u = mhat / (sqrt(vhat) + eps) + weight_decay w
        w = w - lr norm(w) / norm(u) u

    The norms are those of the whole array, and their ratio is 1 if either is 0: Adam with a step that is proportional
    to the weights of each layer, for batches of thousands. t counts the updates of the parameter from 1, and the bias
    corrections are folded into a factor and eps as in `Adam`. A step reads its arrays twice.

    optax's lamb is the same. Keras's decays the weights before the rule (decay_in_update=False) and has eps 1e-7.
    timm and apex clip the norm of all gradients to 1 (clip_norm=1).

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: As above if decoupled is True, as it is unless given; else L2.
        trust_clip: The ratio is at most 1.
        decay_in_update: False for w = w (1 - lr weight_decay) before the rule, in place of the summand of u.
        options: What all optimizers have; see `Options`.
    """

    _rule = "lamb"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-6,
        *,
        weight_decay: float = 0.0,
        trust_clip: bool = False,
        decay_in_update: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.trust_clip = trust_clip
        self.decay_in_update = decay_in_update


class LARS(Optimizer):
    """LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888, algorithm 1), v being 0 at first.

        ratio = trust_coefficient norm(w) / (norm(g) + weight_decay norm(w) + eps)
        v = momentum v + lr ratio (g + weight_decay w)
        w = w - v

    The norms are those of the whole array, and the ratio is 1 if either is 0: gradient descent with momentum
    for convolutional networks and large batches. A step reads w and g twice.

    With decoupled=False, g + weight_decay w takes the place of g first, also in the norm, as in optax's lars, which
    has eps 0. With trust_clip, as in apex's LARC, min(lr, ratio) takes the place of lr ratio.

    Arguments:
        lr: The learning rate, or a schedule.
        momentum: The decay of the velocity, from 0 to 1.
        trust_coefficient: The factor of the ratio.
        eps: Keeps the quotient finite.
        weight_decay: As above if decoupled is True, as it is unless given.
        nesterov: w = w - (momentum v + lr ratio (g + weight_decay w)) with the new v.
        trust_clip: No step is longer than that of plain gradient descent.
        options: What all optimizers have; see `Options`.
    """

    _rule = "lars"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 0.1,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        trust_clip: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.eps = eps
        self.nesterov = nesterov
        self.trust_clip = trust_clip


class StableAdamW(Optimizer):
    """StableAdamW (Wortsman et al. 2023, arXiv:2304.13013, algorithm 2), m and v being 0 at first.

        c1 = (1 - beta1) / (1 - beta1^t),  c2 = (1 - beta2) / (1 - beta2^t)
        m = m + c1 (g - m)
        v = v + c2 (g^2 - v)
        step = lr / max(1, sqrt(mean(g^2 / max(v, eps^2))))
        w = (1 - step weight_decay) w - step m / (sqrt(v) + eps)

    AdamW with Adafactor's clipping of updates, so that a gradient that v has not seen the like of does no harm: in
    place of clipping the norm of the gradients, in narrow types above all. The mean is over the whole array. c1 and c2
    correct the biases, with t counting the updates of the parameter from 1. A step reads g and v twice.

    optimi's `StableAdamW` is the same.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotients finite.
        weight_decay: As above if decoupled is True, as it is unless given; else L2.
        options: What all optimizers have; see `Options`.
    """

    _rule = "stable_adamw"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
