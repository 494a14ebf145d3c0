"""The optimizers of keras.optimizers (Keras 3), which count the optimizer's updates and decay before the step.

clipvalue is the option clip_value, use_ema with ema_momentum is average. clipnorm clips each array by its
own norm, which can't be had; global_clipnorm is clip_norm, but for the 1e-6 that this adds to the norm.
"""

from typing import Any, Unpack

from fusedstep import optimizers
from fusedstep.dialects._options import with_defaults
from fusedstep.optimizers.options import LearningRate, Options


def _as_keras(weight_decay: float | None, options: Options) -> Any:
    """The options that all have there."""
    return with_defaults(options, weight_decay=weight_decay or 0.0, decoupled=True, count_updates=True)


def SGD(
    learning_rate: LearningRate = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.SGD | optimizers.Momentum | optimizers.Nesterov:
    """keras.optimizers.SGD."""
    common = _as_keras(weight_decay, options)
    if momentum == 0:
        return optimizers.SGD(learning_rate, **common)
    return (optimizers.Nesterov if nesterov else optimizers.Momentum)(learning_rate, momentum, **common)


def RMSprop(
    learning_rate: LearningRate = 1e-3,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-7,
    centered: bool = False,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.RMSProp:
    """keras.optimizers.RMSprop."""
    common = _as_keras(weight_decay, options)
    return optimizers.RMSProp(
        learning_rate,
        rho,
        epsilon,
        momentum=momentum,
        centered=centered,
        lr_in_velocity=True,
        eps_inside_root=True,
        **common,
    )


def Adam(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    amsgrad: bool = False,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """keras.optimizers.Adam."""
    common = _as_keras(weight_decay, options)
    return optimizers.Adam(learning_rate, beta_1, beta_2, epsilon, amsgrad=amsgrad, eps_corrected=False, **common)


def AdamW(
    learning_rate: LearningRate = 1e-3,
    weight_decay: float = 0.004,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    amsgrad: bool = False,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """keras.optimizers.AdamW."""
    return Adam(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, **options)


def Adagrad(
    learning_rate: LearningRate = 1e-3,
    initial_accumulator_value: float = 0.1,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.AdaGrad:
    """keras.optimizers.Adagrad."""
    common = _as_keras(weight_decay, options)
    return optimizers.AdaGrad(
        learning_rate, epsilon, initial_accumulator=initial_accumulator_value, eps_inside_root=True, **common
    )


def Adadelta(
    learning_rate: LearningRate = 1e-3,
    rho: float = 0.95,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.Adadelta:
    """keras.optimizers.Adadelta."""
    return optimizers.Adadelta(learning_rate, rho, epsilon, **_as_keras(weight_decay, options))


def Adamax(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.Adamax:
    """keras.optimizers.Adamax."""
    common = _as_keras(weight_decay, options)
    return optimizers.Adamax(learning_rate, beta_1, beta_2, epsilon, eps_inside_max=False, **common)


def Nadam(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.NAdam:
    """keras.optimizers.Nadam; the product of momenta is each parameter's, there the optimizer's."""
    common = _as_keras(weight_decay, options)
    return optimizers.NAdam(learning_rate, beta_1, beta_2, epsilon, momentum_decay=1.0, **common)


def Ftrl(
    learning_rate: LearningRate = 1e-3,
    learning_rate_power: float = -0.5,
    initial_accumulator_value: float = 0.1,
    l1_regularization_strength: float = 0.0,
    l2_regularization_strength: float = 0.0,
    l2_shrinkage_regularization_strength: float = 0.0,
    beta: float = 0.0,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.FTRL:
    """keras.optimizers.Ftrl, with a learning_rate_power of -0.5 alone."""
    return optimizers.FTRL(
        learning_rate,
        learning_rate_power,
        initial_accumulator_value,
        l1_regularization_strength,
        l2_regularization_strength,
        l2_shrinkage_regularization_strength,
        beta,
        **_as_keras(weight_decay, options),
    )


def Lion(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.99,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.Lion:
    """keras.optimizers.Lion."""
    return optimizers.Lion(learning_rate, beta_1, beta_2, **_as_keras(weight_decay, options))


def Lamb(
    learning_rate: LearningRate = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.LAMB:
    """keras.optimizers.Lamb."""
    common = _as_keras(weight_decay, options)
    return optimizers.LAMB(learning_rate, beta_1, beta_2, epsilon, decay_in_update=False, **common)


def Adafactor(
    learning_rate: LearningRate = 1e-3,
    beta_2_decay: float = -0.8,
    epsilon_1: float = 1e-30,
    epsilon_2: float = 1e-3,
    clip_threshold: float = 1.0,
    relative_step: bool = True,
    weight_decay: float | None = None,
    **options: Unpack[Options],
) -> optimizers.Adafactor:
    """keras.optimizers.Adafactor, whose step bounds the rate by 1 / sqrt(t) also where relative_step is False."""
    return optimizers.Adafactor(
        learning_rate,
        beta2_decay=-beta_2_decay,
        eps1=epsilon_1,
        eps2=epsilon_2,
        clip_threshold=clip_threshold,
        decay_first=True,
        **_as_keras(weight_decay, options),
    )


def ScheduleFreeAdamW(
    learning_rate: LearningRate = 2.5e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    warmup_steps: int = 0,
    **options: Unpack[Options],
) -> optimizers.ScheduleFreeAdamW:
    """keras.optimizers.ScheduleFreeAdamW, without its weight_decay, which moves one of its two points alone."""
    common = _as_keras(None, options)
    return optimizers.ScheduleFreeAdamW(
        learning_rate, beta_1, beta_2, epsilon, warmup_steps, weight_lr_power=0.0, **common
    )


def Muon(
    learning_rate: LearningRate = 1e-3,
    weight_decay: float = 0.004,
    muon_a: float = 3.4445,
    muon_b: float = -4.7750,
    muon_c: float = 2.0315,
    momentum: float = 0.95,
    ns_steps: int = 5,
    nesterov: bool = True,
    rms_rate: float | None = 0.2,
    **options: Unpack[Options],
) -> optimizers.Muon:
    """keras.optimizers.Muon for matrices; `fusedstep.Split` gives the others to `AdamW`, as it does by itself.

    Raises:
        ValueError: rms_rate is neither 0.2 nor None.
    """
    if rms_rate not in (0.2, None):
        raise ValueError(f"rms_rate is {rms_rate}, expected 0.2 or None")
    return optimizers.Muon(
        learning_rate,
        momentum,
        nesterov=nesterov,
        ns_coefficients=(muon_a, muon_b, muon_c),
        ns_steps=ns_steps,
        eps=1e-7 * (1 - momentum),  # m is a sum there
        adjust_lr=None if rms_rate is None else "match_rms_adamw",
        **_as_keras(weight_decay, options),
    )
