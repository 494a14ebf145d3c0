"""The options that all optimizers have, their checks, and the groups of parameters."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict

from fusedstep._limits import (
    HYPERPARAMETERS,
    checked,
    checked_choice,
    checked_flag,
    checked_if_own,
    checked_positive,
    checked_uint64,
    shown,
)

Schedule: TypeAlias = Callable[[int], float]
LearningRate: TypeAlias = float | Schedule
# A key, a list or set of keys, or a function of key and parameter.
Match: TypeAlias = Callable[[Any, Any], Any] | Hashable | list[Any] | set[Any]
Groups: TypeAlias = Sequence[tuple[Match, Mapping[str, Any]]]

SCHEDULED = ("lr", "average")  # may be functions of the number of updates


class Options(TypedDict, total=False):
    """The options of all optimizers: keyword arguments of the constructors, and attributes that may be changed.

    An update does for each element, in one pass over memory and in this order, T being the type that the parameter is
    computed in:

        g = T(gradient) scale                      `scale` is an argument of `update`
        g = -g                                     if maximize
        norm = sqrt(sum of g^2)                    if clip_norm or skip_nonfinite: of all gradients, a pass more
        g = g clip_norm / (norm + 1e-6)            if clip_norm, and the factor is below 1
        g = min(max(g, -clip_value), clip_value)   if clip_value; NaN stays NaN
        g = g + weight_decay w                     L2 weight decay
        w = w (1 - lr weight_decay)                if decoupled, in place of L2
        the rule
        w = w - lr weight_decay before             if cautious_decay, in place of the line before the rule
        w = w - lr weight_decay w                  if decay_after, in place of both
        mean = mean + (1 - average) (w - mean)     if average
        copies[key] = w, rounded                   `copies` is an argument of `update`
        gradient = 0                               `zero_grads` is an argument of `update`

    The arrays of gradients are written only by zero_grads.

    Arguments:
        decoupled: Weight decay of the parameter itself in place of L2 (Loshchilov & Hutter 2019, arXiv:1711.05101, in
            PyTorch's form, which scales it by lr). True by default for `AdaBelief`, `Adafactor`, `AdamW`,
            `AdEMAMix`, `Adan`, `LAMB`, `LARS`, `Lion`, `Muon`, `ScheduleFreeAdamW` and `StableAdamW`, else False.
        cautious_decay: Decoupled decay, whatever decoupled is, which comes after the rule, and only where that has not
            moved the parameter away from zero (Chen et al. 2025, arXiv:2510.12402); before is the parameter before it.
        max_lr: Decoupled decay, whatever decoupled is, which is multiplied by lr / max_lr, so that it goes with the
            square of a learning rate that is at most max_lr (Defazio 2025, arXiv:2506.02285, corrected weight decay);
            above 0, or None for no factor.
        decay_after: Decoupled decay, whatever decoupled is, which comes after the rule, as in thinc. With
            cautious_decay, which comes there too, it changes nothing.
        count_updates: Corrections of a bias count the updates of the optimizer, as in Keras, scikit-learn and the book,
            instead of those that each parameter has had, as in PyTorch; steps stays empty. They differ for parameters
            that come late or have no gradient now and then. Not for groups.
        clip_norm: The largest norm of all gradients of a call together (Pascanu et al. 2013, arXiv:1211.5063); None for
            no limit. As PyTorch's, also where there is no good answer: an infinite norm makes finite gradients 0 and
            infinite ones NaN, and a norm of NaN makes all gradients NaN.
        clip_value: The largest magnitude of an element of a gradient; None for no limit.
        maximize: Ascends instead of descending.
        skip_nonfinite: An update whose gradients (times scale) have an infinity or a NaN changes nothing but skipped,
            not even iterations, so a run in float16 can continue with a smaller loss scale (Micikevicius et al. 2018,
            arXiv:1710.03740).
        average: The decay of an exponential average of each parameter (Polyak & Juditsky 1992 for the idea; in this
            form the EMA of most libraries), from 0 to 1: a number, or a schedule, which is called with iterations
            like that of lr, such as `schedules.AverageWarmup`. None for none. It starts as a copy of the parameter
            after its first update, in `state[key]["average"]`; see `Optimizer.averages` and `Optimizer.averaged`.
        groups: Pairs of a match and a dict of hyper-parameters that parameters of this group have in place of the
            optimizer's: `[(lambda key, w: w.ndim < 2, {"weight_decay": 0.0}), ("W1", {"lr": 0.1})]`. A match is a key
            (a tuple is one: the path of a nested container), a list or set of keys, or a function of key and parameter.
            The first match counts. It is asked once for each key; the answers are forgotten when groups is set. Any
            hyper-parameter that `fusedstep.rules()` lists for the rule may be given, except scale; lr and average may
            be schedules. Kept as a tuple, which can't be changed.
        master: Parameters in float16 or bfloat16 have a float32 master in `state[key]["master"]`, which is stepped in
            their place (Micikevicius et al. 2018), and are its rounded copy. If something else writes to a parameter,
            delete its master, which is then made again. Setting the option to False deletes all.
        rounding: "nearest" (ties to even), or "stochastic" for parameters in float16 or bfloat16: up with a probability
            that is the dropped fraction in 16 bits, so that small steps count on average (Gupta et al. 2015,
            arXiv:1502.02551; Zamirai et al. 2020, arXiv:2010.06192, for bfloat16).
        seed: Of the random bits, from 0 to 2^64 - 1. They are a function of the seed, the number of the update, the
            position of the array and the element alone, by the generator of `dropout`.
        state_dtype: None for the type that the parameter is computed in, or "bfloat16" (of ml_dtypes) for the state of
            the rule, which is then rounded stochastically: to nearest, a mean with a decay of 0.999 would stand still.
            Averages and masters stay in float32. Not for float64 parameters.

    Raises:
        ValueError: A number is out of range, or a text is none of the choices.
        TypeError: A value is of another type, or a group has a hyper-parameter that the rule lacks.
        ImportError: state_dtype is "bfloat16", but ml_dtypes can't be imported.
    """

    decoupled: bool
    count_updates: bool
    cautious_decay: bool
    max_lr: float | None
    decay_after: bool
    clip_norm: float | None
    clip_value: float | None
    maximize: bool
    skip_nonfinite: bool
    average: float | Schedule | None
    groups: Groups
    master: bool
    rounding: Literal["nearest", "stochastic"]
    seed: int
    state_dtype: Literal["bfloat16"] | None


OPTIONS = tuple(Options.__annotations__)


def bfloat16(needed_by: str) -> Any:
    """The type of ml_dtypes."""
    try:
        from ml_dtypes import bfloat16
    except ImportError as error:
        raise ImportError(f"{needed_by} needs ml_dtypes: pip install ml_dtypes") from error
    return bfloat16


def is_schedule(name: str, value: Any) -> bool:
    """Whether a value is a schedule, and not the class of one."""
    return name in SCHEDULED and callable(value) and not isinstance(value, type)


def checked_clip_norm(value: Any) -> float | None:
    """None, or a number that is not negative."""
    return None if value is None else checked("clip_norm", value)


def _checked_state_dtype(value: Any) -> str | None:
    dtype: str | None = checked_choice("state_dtype", value, None, "bfloat16")
    if dtype is not None:
        bfloat16("state_dtype='bfloat16'")
    return dtype


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "clip_norm": checked_clip_norm,
    "count_updates": lambda value: checked_flag("count_updates", value),
    "max_lr": lambda value: None if value is None else checked_positive("max_lr", value),
    "skip_nonfinite": lambda value: checked_flag("skip_nonfinite", value),
    "master": lambda value: checked_flag("master", value),
    "rounding": lambda value: checked_choice("rounding", value, "nearest", "stochastic"),
    "seed": lambda value: checked_uint64("seed", value),
    "state_dtype": _checked_state_dtype,
}


def checked_setting(rule: str | None, name: str, value: Any) -> Any:
    """The checked value of a hyper-parameter or option; other attributes may be anything."""
    if name == "groups":
        return _checked_groups(rule, value)
    return _CHECKS[name](value) if name in _CHECKS else checked_if_own(rule, name, value)


def _checked_groups(rule: str | None, value: Any) -> Groups:
    expected = "expected pairs of a match and a dict of hyper-parameters"
    try:
        given = [(match, dict(overrides)) for match, overrides in value]
    except Exception as error:
        raise TypeError(f"groups is {shown(value)}, {expected}") from error
    return tuple(
        (checked_match(f"groups[{i}]", match), checked_overrides(rule, f"groups[{i}]", overrides))
        for i, (match, overrides) in enumerate(given)
    )


def checked_overrides(rule: str | None, name: str, overrides: Mapping[Any, Any]) -> Mapping[str, Any]:
    """The checked hyper-parameters of a group, in a mapping that can't be changed."""
    allowed = set(HYPERPARAMETERS.get(rule or "", {})) - {"scale"}
    if more := [key for key in overrides if key not in allowed]:
        raise TypeError(
            f"{name} has {shown(more[0])}, expected hyper-parameters of {rule}: {', '.join(sorted(allowed))}"
        )
    return MappingProxyType(
        {
            key: value if is_schedule(key, value) else checked_if_own(rule, key, value, f"{name}[{key!r}]")
            for key, value in overrides.items()
        }
    )


def checked_match(name: str, match: Any) -> Any:
    """A match, of which a list or set becomes a frozenset."""
    try:
        if callable(match):
            return match
        if isinstance(match, list | set | frozenset):
            return frozenset(match)
        hash(match)
    except Exception as error:
        expected = "a key, a list or set of keys, or a function of key and parameter"
        raise TypeError(f"{name} matches {shown(match)}, expected {expected}") from error
    return match


def matches(match: Any, key: Any, param: Any) -> bool:
    """Whether a parameter is of a group."""
    if callable(match):
        return bool(match(key, param))
    return key in match if isinstance(match, frozenset) else bool(key == match)


def scheduled(name: str, value: Any, iterations: int) -> float | None:
    """The value of a number or schedule for the next update."""
    return checked(name, value(iterations), f"{name}({iterations})") if callable(value) else value
