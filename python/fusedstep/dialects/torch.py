"""The optimizers of torch.optim (PyTorch 2.13), which count the steps of each parameter."""

from dataclasses import dataclass
from typing import Literal, Unpack

from fusedstep import optimizers
from fusedstep.dialects._options import with_defaults
from fusedstep.optimizers.options import LearningRate, Options

Betas = tuple[float, float]


def SGD(
    lr: LearningRate = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    **options: Unpack[Options],
) -> optimizers.SGD:
    """torch.optim.SGD."""
    return optimizers.SGD(lr, momentum, dampening=dampening, nesterov=nesterov, weight_decay=weight_decay, **options)


def Adam(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    *,
    decoupled_weight_decay: bool = False,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """torch.optim.Adam."""
    return optimizers.Adam(
        lr,
        *betas,
        eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        **with_defaults(options, decoupled=decoupled_weight_decay),
    )


def AdamW(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    **options: Unpack[Options],
) -> optimizers.AdamW:
    """torch.optim.AdamW."""
    return optimizers.AdamW(lr, *betas, eps, weight_decay, amsgrad=amsgrad, **options)


def Adagrad(
    lr: LearningRate = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    **options: Unpack[Options],
) -> optimizers.AdaGrad:
    """torch.optim.Adagrad; lr_decay counts the optimizer's updates, there those of each parameter."""
    return optimizers.AdaGrad(
        _Decaying(lr, lr_decay) if lr_decay != 0 else lr,
        eps,
        initial_accumulator=initial_accumulator_value,
        weight_decay=weight_decay,
        **options,
    )


@dataclass(frozen=True)
class _Decaying:
    lr: LearningRate
    lr_decay: float

    def __call__(self, t: int) -> float:
        return (self.lr(t) if callable(self.lr) else self.lr) / (1 + t * self.lr_decay)


def RMSprop(
    lr: LearningRate = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    **options: Unpack[Options],
) -> optimizers.RMSProp:
    """torch.optim.RMSprop."""
    return optimizers.RMSProp(
        lr, alpha, eps, momentum=momentum, centered=centered, weight_decay=weight_decay, **options
    )


def Adadelta(
    lr: LearningRate = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adadelta:
    """torch.optim.Adadelta."""
    return optimizers.Adadelta(lr, rho, eps, weight_decay=weight_decay, **options)


def Adamax(
    lr: LearningRate = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adamax:
    """torch.optim.Adamax."""
    return optimizers.Adamax(lr, *betas, eps, weight_decay=weight_decay, **options)


def NAdam(
    lr: LearningRate = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    **options: Unpack[Options],
) -> optimizers.NAdam:
    """torch.optim.NAdam."""
    return optimizers.NAdam(
        lr,
        *betas,
        eps,
        momentum_decay=momentum_decay,
        weight_decay=weight_decay,
        **with_defaults(options, decoupled=decoupled_weight_decay),
    )


def RAdam(
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    **options: Unpack[Options],
) -> optimizers.RAdam:
    """torch.optim.RAdam."""
    return optimizers.RAdam(
        lr, *betas, eps, weight_decay=weight_decay, **with_defaults(options, decoupled=decoupled_weight_decay)
    )


def Rprop(
    lr: LearningRate = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    **options: Unpack[Options],
) -> optimizers.Rprop:
    """torch.optim.Rprop."""
    return optimizers.Rprop(lr, *etas, *step_sizes, **options)


def ASGD(
    lr: LearningRate = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.ASGD:
    """torch.optim.ASGD."""
    return optimizers.ASGD(lr, lambd, alpha, t0, weight_decay=weight_decay, **options)


def Adafactor(
    lr: LearningRate = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adafactor:
    """torch.optim.Adafactor."""
    return optimizers.Adafactor(
        lr,
        beta2_decay=-beta2_decay,
        eps1=eps[0],
        eps2=eps[1],
        clip_threshold=d,
        eps1_as_floor=True,
        weight_decay=weight_decay,
        **with_defaults(options, decoupled=True),
    )


def Muon(
    lr: LearningRate = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = None,
    **options: Unpack[Options],
) -> optimizers.Muon:
    """torch.optim.Muon, with float32 in the place of bfloat16 in the iteration."""
    return optimizers.Muon(
        lr,
        momentum,
        weight_decay,
        nesterov=nesterov,
        ns_coefficients=ns_coefficients,
        ns_steps=ns_steps,
        eps=eps,
        adjust_lr=adjust_lr_fn or "original",
        **options,
    )
