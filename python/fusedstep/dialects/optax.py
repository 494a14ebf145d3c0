"""The optimizers of optax (0.2), which count the updates, as all its parameters are updated each time.

mask is done by groups, mu_dtype by state_dtype. Of two epsilons only one can be had in most rules: eps beside the
root, or eps_root under it with an eps of 0.
"""

import math
from typing import Any, Unpack

from fusedstep import optimizers
from fusedstep.dialects._options import with_defaults
from fusedstep.optimizers.options import LearningRate, Options

_GROWN_AT_ONCE = 1e9  # 0.96^(t momentum_decay) is 0 then


def _one_of(eps: float, eps_root: float) -> tuple[float, bool]:
    """The epsilon that isn't 0, and whether it is under the root."""
    if eps != 0 and eps_root != 0:
        raise ValueError(f"eps is {eps} and eps_root is {eps_root}, expected one of them to be 0")
    return (eps_root, True) if eps_root != 0 else (eps, False)


def sgd(
    learning_rate: LearningRate,
    momentum: float | None = None,
    nesterov: bool = False,
    **options: Unpack[Options],
) -> optimizers.SGD:
    """optax.sgd."""
    return optimizers.SGD(learning_rate, momentum or 0.0, nesterov=nesterov and bool(momentum), **options)


def adam(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """optax.adam with nesterov=False."""
    epsilon, inside = _one_of(eps, eps_root)
    return optimizers.Adam(learning_rate, b1, b2, epsilon, eps_inside_root=inside, **options)


def adamw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    **options: Unpack[Options],
) -> optimizers.AdamW:
    """optax.adamw with nesterov=False."""
    epsilon, inside = _one_of(eps, eps_root)
    return optimizers.AdamW(learning_rate, b1, b2, epsilon, weight_decay, eps_inside_root=inside, **options)


def nadam(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.NAdam:
    """optax.nadam, whose momentum doesn't grow."""
    epsilon, inside = _one_of(eps, eps_root)
    return optimizers.NAdam(
        learning_rate, b1, b2, epsilon, eps_inside_root=inside, momentum_decay=_GROWN_AT_ONCE, **options
    )


def nadamw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    **options: Unpack[Options],
) -> optimizers.NAdam:
    """optax.nadamw, whose momentum doesn't grow."""
    return nadam(learning_rate, b1, b2, eps, eps_root, **_decaying(weight_decay, options))


def amsgrad(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adam:
    """optax.amsgrad with its corrections of the bias."""
    epsilon, inside = _one_of(eps, eps_root)
    return optimizers.Adam(
        learning_rate, b1, b2, epsilon, eps_inside_root=inside, amsgrad=True, max_corrected=True, **options
    )


def adamax(
    learning_rate: LearningRate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, **options: Unpack[Options]
) -> optimizers.Adamax:
    """optax.adamax."""
    return optimizers.Adamax(learning_rate, b1, b2, eps, **options)


def adamaxw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    **options: Unpack[Options],
) -> optimizers.Adamax:
    """optax.adamaxw."""
    return adamax(learning_rate, b1, b2, eps, **_decaying(weight_decay, options))


def radam(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    threshold: float = 5.0,
    **options: Unpack[Options],
) -> optimizers.RAdam:
    """optax.radam with nesterov=False."""
    least = math.nextafter(threshold, 0.0)  # from the threshold on, where RAdam's is to be passed
    return optimizers.RAdam(learning_rate, b1, b2, eps, threshold=least, eps_corrected=True, **options)


def adagrad(
    learning_rate: LearningRate,
    initial_accumulator_value: float = 0.1,
    eps: float = 1e-7,
    **options: Unpack[Options],
) -> optimizers.AdaGrad:
    """optax.adagrad."""
    return optimizers.AdaGrad(
        learning_rate, eps, initial_accumulator=initial_accumulator_value, eps_inside_root=True, **options
    )


def adadelta(
    learning_rate: LearningRate,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adadelta:
    """optax.adadelta, whose weight decay is L2."""
    return optimizers.Adadelta(learning_rate, rho, eps, weight_decay=weight_decay, **options)


def rmsprop(
    learning_rate: LearningRate,
    decay: float = 0.9,
    eps: float = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: float | None = None,
    **options: Unpack[Options],
) -> optimizers.RMSProp:
    """optax.rmsprop with nesterov=False and bias_correction=False."""
    return optimizers.RMSProp(
        learning_rate,
        decay,
        eps,
        eps_inside_root=eps_in_sqrt,
        initial_accumulator=initial_scale,
        centered=centered,
        momentum=momentum or 0.0,
        lr_in_velocity=True,
        **options,
    )


def lion(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1e-3,
    **options: Unpack[Options],
) -> optimizers.Lion:
    """optax.lion."""
    return optimizers.Lion(learning_rate, b1, b2, weight_decay=weight_decay, **options)


def sign_sgd(learning_rate: LearningRate, **options: Unpack[Options]) -> optimizers.SignSGD:
    """optax.sign_sgd."""
    return optimizers.SignSGD(learning_rate, **options)


def signum(learning_rate: LearningRate, beta: float = 0.9, **options: Unpack[Options]) -> optimizers.Signum:
    """optax.signum."""
    return optimizers.Signum(learning_rate, beta, **options)


def adabelief(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-16,
    eps_root: float = 1e-16,
    **options: Unpack[Options],
) -> optimizers.AdaBelief:
    """optax.adabelief with nesterov=False."""
    return optimizers.AdaBelief(learning_rate, b1, b2, eps, eps_root, **options)


def yogi(
    learning_rate: LearningRate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-3, **options: Unpack[Options]
) -> optimizers.Yogi:
    """optax.yogi, both of whose moments begin at 1e-6."""
    return optimizers.Yogi(learning_rate, b1, b2, eps, initial_accumulator=1e-6, initial_m=1e-6, **options)


def adan(
    learning_rate: LearningRate,
    b1: float = 0.98,
    b2: float = 0.92,
    b3: float = 0.99,
    eps: float = 1e-8,
    eps_root: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.Adan:
    """optax.adan, which weighs the difference of gradients with 1 - b2 and decays before the step."""
    return optimizers.Adan(
        learning_rate,
        b1,
        b2,
        b3,
        eps,
        eps_root,
        1 - b2,
        no_prox=True,
        **_decaying(weight_decay, options),
    )


def ademamix(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float = 0.9999,
    alpha: float = 5.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.AdEMAMix:
    """optax.contrib.ademamix with numbers for b3 and alpha."""
    return optimizers.AdEMAMix(learning_rate, b1, b2, b3, alpha, eps, **_decaying(weight_decay, options))


def adopt(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.9999,
    eps: float = 1e-6,
    *,
    use_clipping: bool = True,
    **options: Unpack[Options],
) -> optimizers.ADOPT:
    """optax.contrib.adopt with nesterov=False."""
    return optimizers.ADOPT(learning_rate, b1, b2, eps, 0.25 if use_clipping else None, **options)


def lamb(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    **options: Unpack[Options],
) -> optimizers.LAMB:
    """optax.lamb with eps_root=0."""
    return optimizers.LAMB(learning_rate, b1, b2, eps, weight_decay=weight_decay, **options)


def lars(
    learning_rate: LearningRate,
    weight_decay: float = 0.0,
    trust_coefficient: float = 0.001,
    eps: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    **options: Unpack[Options],
) -> optimizers.LARS:
    """optax.lars."""
    return optimizers.LARS(
        learning_rate,
        momentum,
        trust_coefficient,
        eps,
        weight_decay=weight_decay,
        nesterov=nesterov,
        **with_defaults(options, decoupled=False),
    )


def _decaying(weight_decay: float, options: Options) -> Any:
    """The options of a rule whose weight decay is decoupled there."""
    return with_defaults(options, weight_decay=weight_decay, decoupled=True)
