"""Adam and its relatives."""

from types import MappingProxyType
from typing import Any, Unpack

from fusedstep._limits import checked_flag
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), m and v being 0 at first.

        m = m + (1 - beta1) (g - m)
        v = v + (1 - beta2) (g^2 - v)
        mhat = m / (1 - beta1^t),  vhat = v / (1 - beta2^t)
        w = w - lr mhat / (sqrt(vhat) + eps)

    t counts the updates of the parameter from 1. The bias corrections are folded into the step and eps. The book, Keras
    and scikit-learn leave the correction of eps out (eps_corrected False); `fusedstep.book.Adam` does as they do.

    With amsgrad (Reddi et al. 2018, arXiv:1904.09237), vmax being 0 at first:

        vmax = max(vmax, v),     vhat = vmax / (1 - beta2^t)
        vmax = max(vmax, vhat),  vhat = vmax             if max_corrected

    The first is PyTorch's and, with eps_corrected False, Keras' and TensorFlow's; the second is optax'. A NaN goes
    through the maximum. Take it where Adam's steps grow again late in training.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay, which enters the moments. For the decoupled kind use `AdamW`.
        eps_inside_root: sqrt(vhat + eps) takes the place of sqrt(vhat) + eps.
        eps_corrected: False for sqrt(v) + eps in place of sqrt(v) + eps sqrt(1 - beta2^t), the rest being the same;
            without effect with max_corrected.
        amsgrad: Divides by the largest v so far. Can't be changed while there is state.
        max_corrected: The maximum is that of the corrected v.
        options: What all optimizers have; see `Options`.
    """

    _choose_rule = MappingProxyType({"amsgrad": checked_flag, "max_corrected": checked_flag})

    eps_corrected: bool = True
    amsgrad: bool = False
    max_corrected: bool = False

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
        eps_corrected: bool = True,
        amsgrad: bool = False,
        max_corrected: bool = False,
        **options: Unpack[Options],
    ) -> None:
        self.amsgrad = amsgrad  # first: the rule follows from it, and checks groups
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root
        self.eps_corrected = eps_corrected
        self.max_corrected = max_corrected

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "amsgrad" if self.amsgrad else "adam"

    def _refuse_other_rule(self, name: str, value: Any) -> None:
        super()._refuse_other_rule(name, value)
        if name == "max_corrected" and self.amsgrad and value != self.max_corrected:
            raise ValueError(f"{name} is {value}, but the maximum was made with {not value}: clear state first")


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
        eps_corrected: As in `Adam`.
        amsgrad: Likewise.
        max_corrected: Likewise.
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.
    """

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
        eps_corrected: bool = True,
        amsgrad: bool = False,
        max_corrected: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            lr,
            beta1,
            beta2,
            eps,
            weight_decay=weight_decay,
            eps_inside_root=eps_inside_root,
            eps_corrected=eps_corrected,
            amsgrad=amsgrad,
            max_corrected=max_corrected,
            **options,
        )

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "amsgrad" if self.amsgrad else "adamw"


class Adamax(Optimizer):
    """Adamax (Kingma & Ba 2015, arXiv:1412.6980, section 7.1), m and u being 0 at first.

        m = m + (1 - beta1) (g - m)
        u = max(beta2 u, abs(g) + eps)
        w = w - lr / (1 - beta1^t) m / u

    t counts the updates of the parameter from 1. The paper has no eps; here it is where PyTorch and optax have it.
    A NaN goes through the maximum. Take it for sparse gradients: u forgets a large one slowly, and a 0 not at all.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the norm, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        eps_inside_max: False for m / (u + eps), without eps in the maximum, as in Keras and TensorFlow.
        options: What all optimizers have; see `Options`.
    """

    _rule = "adamax"

    def __init__(
        self,
        lr: LearningRate = 2e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        eps_inside_max: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_max = eps_inside_max


class RAdam(Optimizer):
    """Rectified Adam (Liu et al. 2020, arXiv:1908.03265), with m, v, mhat and t as those of `Adam`.

        most = 2 / (1 - beta2) - 1
        length = most - 2 t beta2^t / (1 - beta2^t)
        r = sqrt((length - 4) (length - 2) most / ((most - 4) (most - 2) length))
        w = w - lr r mhat sqrt(1 - beta2^t) / (sqrt(v) + eps)      if length > threshold
        w = w - lr mhat                                            else

    PyTorch's form; its decoupled_weight_decay is the option decoupled. optax corrects eps (eps_corrected) and has
    length >= threshold, as thinc has: a threshold of 5 - 1e-15 is that. The paper's threshold is 4, below which r does
    not exist; a smaller one counts as 4. Take it in place of a warm-up of the learning rate.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        eps_inside_root: sqrt(v + eps) takes the place of sqrt(v) + eps.
        eps_corrected: True for eps sqrt(1 - beta2^t) in place of eps.
        threshold: The length of the mean of squares from which it is used.
        options: What all optimizers have; see `Options`.
    """

    _rule = "radam"

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        eps_inside_root: bool = False,
        eps_corrected: bool = False,
        threshold: float = 5.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_inside_root = eps_inside_root
        self.eps_corrected = eps_corrected
        self.threshold = threshold


class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016), with m, v, vhat and t as those of `Adam`, mu_product being 1 at first.

        mu = beta1 (1 - 0.96^(t momentum_decay) / 2),  next = beta1 (1 - 0.96^((t + 1) momentum_decay) / 2)
        mu_product = mu_product mu
        mhat = (1 - mu) / (1 - mu_product) g + next / (1 - mu_product next) m
        w = w - lr mhat / (sqrt(vhat) + eps)

    PyTorch's form; its decoupled_weight_decay is the option decoupled. Keras has momentum_decay 1. optax has no
    schedule of mu: momentum_decay 1e9 is that, for which 0.96^... is 0. `state[key]["mu_product"]` is an array without
    axes. Take it where Adam does well and its momentum is to act one step earlier.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the first moment, from 0 to below 1.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        weight_decay: L2 weight decay.
        momentum_decay: How fast mu grows from beta1 / 2 to beta1.
        eps_inside_root: sqrt(vhat + eps) takes the place of sqrt(vhat) + eps.
        eps_corrected: As in `Adam`.
        options: What all optimizers have; see `Options`.
    """

    _rule = "nadam"

    def __init__(
        self,
        lr: LearningRate = 2e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        eps_inside_root: bool = False,
        eps_corrected: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.momentum_decay = momentum_decay
        self.eps_inside_root = eps_inside_root
        self.eps_corrected = eps_corrected
