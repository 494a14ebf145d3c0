"""Rules that change Adam's moments, or what is made of them: AdaBelief, Yogi, ADOPT, AdEMAMix and Adan."""

from typing import Unpack

from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class AdaBelief(Optimizer):
    """AdaBelief (Zhuang et al. 2020, arXiv:2010.07468, algorithm 2), m and s being 0 at first.

        m = m + (1 - beta1) (g - m)
        s = s + (1 - beta2) ((g - m)^2 - s) + eps_root
        w = w - lr m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)

    Long steps where gradients are as expected, short ones where they are a surprise. t counts the updates of the
    parameter from 1. The corrections are folded into the step and eps. The epsilons are those of the authors' code and
    of optax; the paper has 1e-8 for both. In float32, eps_root is lost unless s is below 1e-9. There is neither the
    authors' AMSGrad and rectification nor optax' nesterov.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the mean gradient, from 0 to below 1.
        beta2: The decay of the mean surprise, from 0 to below 1.
        eps: Keeps the quotient finite.
        eps_root: Added to s in each update.
        weight_decay: An update takes off lr weight_decay w.
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.
    """

    _rule = "adabelief"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-16,
        eps_root: float = 1e-16,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_root = eps_root


class Yogi(Optimizer):
    """Yogi (Zaheer et al. 2018, "Adaptive methods for nonconvex optimization"), with Adam's bias correction.

        m = m + (1 - beta1) (g - m)
        v = v - (1 - beta2) sign(v - g^2) g^2
        mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t)
        w = w - lr mhat / (sqrt(vhat) + eps)

    v shrinks no faster than small gradients let it, so steps don't grow at once where gradients vanish for a while. t
    counts the updates of the parameter from 1. The corrections are folded into the step and eps. optax' yogi gives the
    initial accumulator to m too: initial_m=1e-6.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: 1 minus the share of g^2 by which v moves, from 0 to below 1.
        eps: Keeps the quotient finite.
        initial_accumulator: v at first.
        initial_m: m at first.
        weight_decay: L2 weight decay, which enters the moments.
        options: What all optimizers have; see `Options`.
    """

    _rule = "yogi"

    def __init__(
        self,
        lr: LearningRate = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        initial_m: float = 0.0,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.initial_accumulator = initial_accumulator
        self.initial_m = initial_m


class LaProp(Optimizer):
    """LaProp (Ziyin, Wang & Ueda 2020, arXiv:2002.04839), m and v being 0 at first.

        v = v + (1 - beta2) (g^2 - v)
        m = m + (1 - beta1) (g / (sqrt(v / (1 - beta2^t)) + eps) - m)
        w = w - lr m / (1 - beta1^t)

    Adam divides a mean of gradients, this takes the mean of divided ones, so beta1 may be larger than the root of
    beta2. t counts the updates of the parameter from 1. The correction of v is folded into a factor of g and into eps.
    For training that is unstable with Adam where gradients grow suddenly.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the mean, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite. Beside a root above 1.7e-8 the default is lost in float32.
        weight_decay: L2 weight decay, which enters v.
        options: What all optimizers have; see `Options`.
    """

    _rule = "laprop"

    def __init__(
        self,
        lr: LearningRate = 4e-4,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-15,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps


class ADOPT(Optimizer):
    """ADOPT (Taniguchi et al. 2024, arXiv:2411.02853, algorithm 2, with the clipping of the authors' code).

        first:  v = g^2, and nothing else
        then:   u = g / max(sqrt(v), eps)
                u = min(max(u, -(t - 1)^clip_exponent), (t - 1)^clip_exponent)
                m = m + (1 - beta1) (u - m)
                w = w - lr m
                v = v + (1 - beta2) (g^2 - v)

    Adam that converges with any beta2, because a gradient is divided by what was known before it. m is 0 at first, t
    counts the updates of the parameter from 1. The first update changes no parameter, by decoupled decay neither
    (cautious decay aside). The same as the authors' code and optax' adopt without nesterov; timm's exponent is 1/3.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: The least that gradients are divided by.
        clip_exponent: How fast the bound of u grows; None for no bound.
        weight_decay: L2 weight decay, which enters the moments.
        options: What all optimizers have; see `Options`.
    """

    _rule = "adopt"

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.9999,
        eps: float = 1e-6,
        clip_exponent: float | None = 0.25,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.clip_exponent = clip_exponent


class AdEMAMix(Optimizer):
    """AdEMAMix (Pagliardini et al. 2024, arXiv:2409.03137, algorithm 1), m1, m2 and v being 0 at first.

        m1 = m1 + (1 - beta1) (g - m1)
        m2 = m2 + (1 - beta3) (g - m2)
        v = v + (1 - beta2) (g^2 - v)
        mhat = m1 / (1 - beta1^t),  vhat = v / (1 - beta2^t)
        w = w - lr (mhat + alpha m2) / (sqrt(vhat) + eps)

    AdamW with a second mean, of tens of thousands of gradients, for long runs. t counts the updates of the parameter
    from 1. In the first t_alpha updates alpha grows linearly from 0, and in the first t_beta3 the half-life of m2 does
    from that of m1: beta3 = 0.5^(1 / h), with h = (1 - t / t_beta3) h(beta1) + t / t_beta3 h(beta3) and
    h(beta) = ln 0.5 / ln beta. This is the paper's schedule; the authors' code adds 1e-8 to each beta in it. optax'
    ademamix takes functions in place of the two numbers, which it calls with t - 1.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the fast mean, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        beta3: The decay of the slow mean, from 0 to below 1.
        alpha: The weight of the slow mean in the step.
        eps: Keeps the quotient finite.
        t_alpha: After how many updates alpha has its value; None for at once. The paper takes the whole run.
        t_beta3: After how many updates beta3 has its value; None for at once. The paper takes the whole run.
        weight_decay: An update takes off lr weight_decay w.
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.
    """

    _rule = "ademamix"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        beta3: float = 0.9999,
        alpha: float = 5.0,
        eps: float = 1e-8,
        t_alpha: float | None = None,
        t_beta3: float | None = None,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.beta3 = beta3
        self.alpha = alpha
        self.eps = eps
        self.t_alpha = t_alpha
        self.t_beta3 = t_beta3


class Adan(Optimizer):
    """Adan (Xie et al. 2022, arXiv:2208.06677, algorithm 1), the states being 0 at first.

        d = g - g_prev,  0 in the first update
        m = m + (1 - beta1) (g - m)
        v = v + (1 - beta2) (d - v)
        n = n + (1 - beta3) ((g + a d)^2 - n)
        mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t),  nhat = n / (1 - beta3^t)
        w = w - lr (mhat + a vhat) / (sqrt(nhat + eps_root) + eps)
        w = w / (1 + lr weight_decay)
        g_prev = g

    Adam with Nesterov's look ahead, made of differences of gradients. t counts the updates of the parameter from 1.
    The betas are decays, as in the authors' code; those of the paper are 1 minus these. The corrections are folded
    into the steps and epsilons, and the last quotient is a product. a, the difference_weight, is beta2 in the paper and
    in the authors' code. optax' adan is difference_weight=1 - beta2, eps_root=1e-8, no_prox=True.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the mean gradient, from 0 to below 1.
        beta2: The decay of the mean difference, from 0 to below 1.
        beta3: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        eps_root: The same under the root.
        difference_weight: How much the difference counts; None for beta2.
        weight_decay: The strength of the decay above; where decoupled is False, L2 weight decay.
        no_prox: Decay comes first, as AdamW's: w = w (1 - lr weight_decay).
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.
    """

    _rule = "adan"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.98,
        beta2: float = 0.92,
        beta3: float = 0.99,
        eps: float = 1e-8,
        eps_root: float = 0.0,
        difference_weight: float | None = None,
        *,
        weight_decay: float = 0.0,
        no_prox: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.beta3 = beta3
        self.eps = eps
        self.eps_root = eps_root
        self.difference_weight = difference_weight
        self.no_prox = no_prox
