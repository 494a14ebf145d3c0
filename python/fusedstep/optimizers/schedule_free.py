"""Schedule-Free SGD and AdamW, whose parameters are in one of two modes."""

from typing import Any, ClassVar, Unpack

from fusedstep import _native
from fusedstep._limits import checked_flag
from fusedstep._types import Grads, Params
from fusedstep.optimizers.base import Optimizer, Part
from fusedstep.optimizers.options import LearningRate, Options


class _ScheduleFree(Optimizer):
    training: bool = True

    _beta: ClassVar[str]  # the name of the share of x in y

    def __init__(
        self,
        lr: LearningRate,
        warmup_steps: float,
        r: float,
        weight_lr_power: float,
        *,
        weight_decay: float,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, **options)
        self.warmup_steps = warmup_steps
        self.r = r
        self.weight_lr_power = weight_lr_power

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            raise AttributeError("training follows from the calls of train(params) and eval(params)")
        super().__setattr__(name, value)

    def eval(self, params: Params) -> None:
        """Gives parameters that have state their averages x, in place, for evaluation and for saving them.

        In one call in one parallel region, as an update: x = y + (1 - 1 / beta) (z - y), beta being momentum or beta1,
        rounded to nearest. In eval mode this changes nothing. Updates are errors until `train`, which should get the
        same parameters. With a beta of 0 x can't be had from y, and y stays. Masters become averages too.

        Arguments:
            params: As in `Optimizer.update`.

        Raises:
            ValueError: A parameter that has state is not among them; or as in `Optimizer.update`.
            TypeError: As in `Optimizer.update`. Nothing has changed after an error, nor has the mode.
        """
        self._change_mode(params, False)

    def train(self, params: Params) -> None:
        """Gives parameters back the points y at which gradients are taken: y = x + (1 - beta) (z - x).

        They are those from before `eval` up to rounding. In train mode, which is the first, this changes nothing.
        Otherwise as `eval`.
        """
        self._change_mode(params, True)

    def _change_mode(self, params: Params, training: bool) -> None:
        def change() -> None:
            if self.training is training:
                return
            members: list[tuple[dict[Any, Any], float, bool, bool]] = []
            for overrides in (*(overrides for _, overrides in self.groups), {}):
                beta = overrides.get(self._beta, getattr(self, self._beta))
                weight = 0.0 if beta == 0 else 1 - beta if training else 1 - 1 / beta
                members.append((self.state if weight else {}, weight, self.master, self.state_dtype is not None))
            assigned = self.__dict__.setdefault("_assigned", {}) if len(members) > 1 else None
            assign = None if assigned is None else self._group_of
            _native.interpolate(self, training, members, assigned, assign, params)

        _native.exclusively(self, change)

    def update(self, params: Params, grads: Grads, **options: Any) -> None:
        """As `Optimizer.update`, after which the parameters are at the next point y.

        Raises:
            RuntimeError: The parameters are averages.
        """
        self._require_training()
        super().update(params, grads, **options)

    def _parts(self) -> list[Part]:
        self._require_training()
        return super()._parts()

    def _require_training(self) -> None:
        if not self.training:
            raise RuntimeError("the optimizer is in eval mode: call train(params) before update")

    def _checked(self, name: str, value: Any) -> Any:
        return checked_flag(name, value) if name == "training" else super()._checked(name, value)

    def _hyperparameters(self) -> dict[str, Any]:
        return super()._hyperparameters() | {"training": self.training}


class ScheduleFreeSGD(_ScheduleFree):
    """Schedule-Free SGD (Defazio et al. 2024, arXiv:2405.15682), in the form of the authors' SGDScheduleFree.

        lr = lr t / warmup_steps                    in the first warmup_steps updates
        lr_max = max(lr, lr_max)
        weight = t^r lr_max^weight_lr_power
        weight_sum = weight_sum + weight
        c = weight / weight_sum
        w = w + c (z - w)
        w = w + lr (momentum (1 - c) - 1) g
        z = z - lr g

    w is y, at which gradients are taken: between z, the point of plain steps, and x, a mean of all z, which is the
    result. `eval` gives the parameters the values of x, `train` those of y. The first update makes z a copy of the
    parameter. `state[key]` also has weight_sum and lr_max, 0 at first; t counts the updates of the parameter from 1.
    The same as optax' schedule_free_sgd without warm-up, up to rounding. For runs whose end isn't known beforehand: it
    takes the place of a decreasing learning rate.

    Arguments:
        lr: The learning rate; a schedule should at most warm up.
        momentum: The share of x in y, from 0 to 1. 0: no averaging, so that `eval` changes nothing.
        warmup_steps: How many updates lr takes to grow to its value.
        r: The power of t in the weights of the mean.
        weight_lr_power: The power of the largest lr so far in them.
        weight_decay: Added to g as weight_decay w, decoupled or not.
        options: What all optimizers have; see `Options`.

    Attributes:
        training: Whether the parameters are y. It is saved with the state.
    """

    _rule = "schedule_free_sgd"
    _beta = "momentum"

    def __init__(
        self,
        lr: LearningRate = 1.0,
        momentum: float = 0.9,
        warmup_steps: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, warmup_steps, r, weight_lr_power, weight_decay=weight_decay, **options)
        self.momentum = momentum


class ScheduleFreeAdamW(_ScheduleFree):
    """Schedule-Free AdamW (Defazio et al. 2024, arXiv:2405.15682), in the form of the authors' AdamWScheduleFree.

        v = v + (1 - beta2) (g^2 - v)
        d = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w
        w = w + c (z - w)
        w = w + lr (beta1 (1 - c) - 1) d
        z = z - lr d

    with lr and c as in `ScheduleFreeSGD`, where w, z and the modes are explained too. v is 0 at first. The correction
    is folded into the quotient. Decay is that of the point y, and not scaled by v. Older versions of the authors' code
    had the root of the correction in lr, and so in the weights. Keras' ScheduleFreeAdamW is r=0, weight_lr_power=0.
    For runs whose end isn't known beforehand, in the place of AdamW with a decreasing learning rate.

    Arguments:
        lr: The learning rate; a schedule should at most warm up.
        beta1: The share of x in y, from 0 to below 1. 0: no averaging, so that `eval` changes nothing.
        beta2: The decay of the second moment, from 0 to below 1.
        eps: Keeps the quotient finite.
        warmup_steps: How many updates lr takes to grow to its value.
        r: The power of t in the weights of the mean.
        weight_lr_power: The power of the largest lr so far in them.
        weight_decay: The strength of the decay above; where decoupled is False, L2 weight decay, which enters v.
        options: What all optimizers have; see `Options`. Here decoupled is True unless it is given.

    Attributes:
        training: Whether the parameters are y. It is saved with the state.
    """

    _rule = "schedule_free_adamw"
    _beta = "beta1"

    decoupled: bool = True

    def __init__(
        self,
        lr: LearningRate = 2.5e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        warmup_steps: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, warmup_steps, r, weight_lr_power, weight_decay=weight_decay, **options)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
