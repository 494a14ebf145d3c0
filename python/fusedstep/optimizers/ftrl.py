"""Follow the regularized leader."""

from types import MappingProxyType
from typing import Any, Unpack

from fusedstep._limits import shown
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


def _checked_power(name: str, value: Any) -> float:
    if not (isinstance(value, float) and value == -0.5):
        raise ValueError(f"{name} is {shown(value)}, expected -0.5: a root is the only power of an element")
    return -0.5


class FTRL(Optimizer):
    """FTRL-Proximal (McMahan et al. 2013, "Ad click prediction: a view from the trenches"), z being 0 at first.

        n' = n + g^2
        z = z + (g + 2 l2_shrinkage w) - (sqrt(n') - sqrt(n)) / lr w
        w = (min(max(z, -l1), l1) - z) / ((sqrt(n') + beta) / lr + 2 l2)
        n = n'

    so w is 0 where abs(z) <= l1. For linear models over many sparse features, of which l1 keeps few. The form is that
    of Keras' and TensorFlow's Ftrl, with their defaults; the paper has n = 0 at first, beta = 1 and l2 without the 2.

    A first gradient of 0 gives NaN if initial_accumulator, beta and l2 are all 0, and any does if lr is 0.

    Arguments:
        lr: The learning rate, or a schedule.
        learning_rate_power: -0.5, Keras' and TensorFlow's default and the paper's; no other is offered.
        initial_accumulator: n at first.
        l1: The strength of the L1 penalty.
        l2: The strength of the L2 penalty that the leader has.
        l2_shrinkage: The strength of an L2 penalty that is part of the gradient in z, but not in n.
        beta: Added to sqrt(n'), as in the paper.
        weight_decay: L2 weight decay, in z and in n.
        options: What all optimizers have; see `Options`.
    """

    _rule = "ftrl"
    _choose_rule = MappingProxyType({"learning_rate_power": _checked_power})

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        learning_rate_power: float = -0.5,
        initial_accumulator: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        l2_shrinkage: float = 0.0,
        beta: float = 0.0,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator = initial_accumulator
        self.l1 = l1
        self.l2 = l2
        self.l2_shrinkage = l2_shrinkage
        self.beta = beta
