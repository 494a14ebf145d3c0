"""Adafactor, whose second moments are those of rows and columns."""

from types import MappingProxyType
from typing import Unpack

from fusedstep._limits import checked
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import LearningRate, Options


class Adafactor(Optimizer):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235, algorithms 4 and 5), the moments being 0 at first.

        row = row + t^-beta2_decay (mean of g^2 over the row + eps1 - row)
        column = column + t^-beta2_decay (mean of g^2 over the column + eps1 - column)
        u = g / sqrt(row / mean(row) column)
        rho = min(lr, 1 / sqrt(t)) max(eps2, rms(w))
        step = rho / max(1, rms(u) / clip_threshold)
        m = m + (1 - beta1) (step u - m)               if beta1 is not 0; then m takes the place of step u
        w = (1 - lr weight_decay) w - step u

    rms is the root of the mean of squares, over the whole array. A matrix of n rows and k columns has n + k numbers of
    state in place of Adam's 2 n k: for models whose moments don't fit the memory. The last two axes are those of
    matrices, and further axes count them. An array with fewer axes is one row, so that its column is a second moment
    for each element, and its row is empty. t counts the updates of the parameter from 1. A step reads the gradients
    three times and the weights twice. `Rows` are refused.

    PyTorch's `Adafactor` has lr 0.01 too, and no eps1 in the means, but a floor: with eps1_as_floor,

        u = g / max(sqrt(row / max(mean(row), eps1) column), eps1)

    and eps1=None, which is the machine epsilon of the type that is computed in. Keras's is this one with lr 0.001 and
    decay_first. Transformers' has relative_step and scale_parameter too, with other schedules. optax's
    has relative_step=False, factors the two longest axes, and scales the decay otherwise.

    Arguments:
        lr: The learning rate, or a schedule.
        beta1: The decay of the mean of updates, from 0 to below 1; 0 for none, without a state m. Can't be changed from
            or to 0 while there is state: ValueError.
        beta2_decay: The decay of the second moments is 1 - t^-beta2_decay; PyTorch gives it with a minus.
        eps1: Keeps the quotients finite. None for the machine epsilon.
        eps2: The least scale of a step.
        clip_threshold: The largest root mean square of u; None for no limit.
        weight_decay: As above if decoupled is True, as it is unless given; else L2.
        relative_step: False for lr in place of min(lr, 1 / sqrt(t)).
        scale_parameter: False for 1 in place of max(eps2, rms(w)).
        eps1_as_floor: True for PyTorch's form.
        decay_first: True for a decay that comes before rms(w), as in Keras.
        options: What all optimizers have; see `Options`.
    """

    _choose_rule = MappingProxyType({"beta1": checked})

    beta1: float = 0.0
    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 0.01,
        beta1: float = 0.0,
        beta2_decay: float = 0.8,
        eps1: float | None = 1e-30,
        eps2: float = 1e-3,
        clip_threshold: float | None = 1.0,
        *,
        weight_decay: float = 0.0,
        relative_step: bool = True,
        scale_parameter: bool = True,
        eps1_as_floor: bool = False,
        decay_first: bool = False,
        **options: Unpack[Options],
    ) -> None:
        self.beta1 = beta1  # first: the rule follows from it, and checks groups
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.beta2_decay = beta2_decay
        self.eps1 = eps1
        self.eps2 = eps2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step
        self.scale_parameter = scale_parameter
        self.eps1_as_floor = eps1_as_floor
        self.decay_first = decay_first

    @property
    def _rule(self) -> str:  # type: ignore[override]
        return "adafactor" if self.beta1 == 0 else "adafactor_momentum"
