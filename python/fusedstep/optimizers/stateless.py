"""One step of a rule with parameters, state, counts and hyper-parameters from the caller, for adapters."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from fusedstep import _native
from fusedstep._limits import checked, checked_choice, checked_flag, checked_norm, checked_uint64, shown
from fusedstep._types import Copies, Grads, Params
from fusedstep.optimizers.options import checked_clip_norm


class StepResult(NamedTuple):
    """The result of `step`.

    Attributes:
        gradient_norm: The norm of the gradients, times the scale and before they were clipped; None if none was taken
            or given.
        skipped: Whether the step was left out because of skip_nonfinite.
    """

    gradient_norm: float | None
    skipped: bool


def step(
    rule: str,
    params: Params,
    grads: Grads,
    state: Any,
    *,
    t: Any = 1,
    clip_norm: float | None = None,
    skip_nonfinite: bool = False,
    norm: float | None = None,
    zero_grads: bool = False,
    copies: Copies = None,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    seed: int = 0,
    **hyperparameters: Any,
) -> StepResult:
    """Makes one step of a rule, in place, in one parallel region for all arrays: the stateless form of an optimizer.

    The arithmetic is the same as in `Optimizer.update`, and so is the order of the operations, which `Options` lists,
    but nothing is kept between calls: an adapter stores state, counts and hyper-parameters as its library does, and
    passes them on.

    Arguments:
        rule: One of `fusedstep.rules()`.
        params: As in `Optimizer.update`: dicts, lists and tuples of arrays or tensors, or one.
        grads: Likewise. A parameter whose gradient is None is left alone.
        state: The state arrays of each parameter, in containers like `params`: for each a dict by the names that
            `fusedstep.rules()` gives, or a tuple or list in their order (for Adam m, then v). Zeros before the first
            step, or what `"starts"` there says, in float64 for float64 parameters, else in float32, in the parameter's
            shape or what `"shapes"` there says. With an average (see below) that is one more state, "average" or the
            next of the list, which begins as a copy of the parameter; scalars, as 0-d float64 arrays, come last. None
            for a rule without state.
        t: The number of the step from 1, for all parameters or in containers like `params`. Rules that correct no
            bias ignore it.
        clip_norm, skip_nonfinite, rounding, seed: As in `Options`; t is the number of the update. For a float32 master,
            give the master as the parameter and the narrow array in `copies`.
        norm, zero_grads, copies: As in `Optimizer.update`.
        hyperparameters: lr, weight_decay, decoupled (weight decay of the parameter in place of L2), scale (the factor
            that the gradients are multiplied by first), maximize, clip_value, average (its decay), cautious_decay,
            max_lr, decay_after, and the rule's own: each a number for all parameters, or containers like `params` with
            one for each. Those that are not given have their defaults.

    Returns:
        The norm of the gradients, and whether the step was skipped.

    Raises:
        KeyError: A dict lacks a parameter's key.
        ValueError: There is no such rule, a list is not as long as `params`, a shape or type differs, an array that is
            written is read-only, or a number is out of range.
        TypeError: The rule has no such hyper-parameter, or something is no array.

    All arguments are checked before anything is written, so after an error nothing has changed.
    """
    if not isinstance(rule, str):
        raise TypeError(f"rule is {shown(rule)}, expected one of {', '.join(_native.rules)}")
    random_bits = checked_choice("rounding", rounding, "nearest", "stochastic") == "stochastic"
    seed = checked_uint64("seed", seed)
    result = _native.step(
        rule,
        params,
        grads,
        state,
        t,
        hyperparameters,
        checked_flag("zero_grads", zero_grads),
        copies,
        None if norm is None else checked_norm(norm),
        checked_clip_norm(clip_norm),
        checked_flag("skip_nonfinite", skip_nonfinite),
        seed if random_bits else None,
    )
    return StepResult(*result)


def accumulate(sums: Params, grads: Grads, scale: float = 1.0) -> float:
    """Adds gradients to sums, in place, in one parallel region for all arrays.

        sum = sum + scale g

    It is computed in float64 for float64 sums, else in float32, whatever the type of the gradient: bfloat16 gradients
    of several batches are summed up in float32, for example.

    Arguments:
        sums: A dict, list or tuple of arrays or tensors, or one, as the parameters of `Optimizer.update`.
        grads: The gradients, with the same keys and shapes, as there. None adds nothing.
        scale: The factor of the gradients: 1 / the number of batches, for example.

    Returns:
        The norm of all sums, taken in the same pass; `Optimizer.update` takes it as its norm.

    Raises:
        KeyError, ValueError, TypeError: As in `Optimizer.update`. Nothing has changed.
    """
    return _native.accumulate(sums, grads, checked("scale", scale))


def weighted_mean(lists: Iterable[Any], weights: Iterable[float]) -> Any:
    """The weighted mean of lists of arrays, in one pass and one parallel region: of models that clients have trained.

        factor_i = weights[i] / sum(weights)
        mean = factor_0 lists[0]
        mean = mean + factor_i lists[i]            for i from 1 on

    The factors are computed in float64, and rounded to the type that the arrays are computed in: float64 for float64
    arrays, else float32. The bits are those of these formulas in NumPy, with any number of threads. (Subnormal numbers
    are flushed to zero, see `set_flush_subnormals`.)

    Arguments:
        lists: For each weight a dict, list or tuple of arrays or tensors, or of further ones, or one array; as many as
            there is memory for. All have the same keys, lengths and shapes.
        weights: Numbers that are not negative, not all of them 0: the number of examples of each client, for example.

    Returns:
        New NumPy arrays in dicts, lists and tuples as the first list has them, in its arrays' types, which are float32,
        float64, float16 or bfloat16 (which needs ml_dtypes). Other lists may have other floating-point types.

    Raises:
        ValueError: There are no lists, or as many weights, or a weight is negative, infinite or NaN, or all are 0, or
            lengths, keys or shapes differ.
        TypeError: An array isn't of a floating-point type, or containers differ in kind.
    """
    parts = _as_list("lists", lists)
    numbers = [checked("weight", weight, f"weights[{i}]") for i, weight in enumerate(_as_list("weights", weights))]
    if not parts or len(parts) != len(numbers):
        raise ValueError(f"lists has length {len(parts)}, weights has {len(numbers)}, expected the same, at least 1")
    total = sum(numbers)
    if not 0 < total < math.inf:
        raise ValueError(f"the sum of weights is {total}, expected a finite number above 0")
    arrays: list[list[Any]] = []
    paths: list[tuple[Any, ...]] = []
    places = _collect(parts, (), arrays, paths)
    kept = [isinstance(terms[0], float | np.generic) for terms in arrays]
    means = _native.weighted_means(arrays, paths, [number / total for number in numbers])
    return _at_places(places, [mean[()] if is_number else mean for mean, is_number in zip(means, kept, strict=True)])


def _as_list(name: str, given: Any) -> list[Any]:
    if not isinstance(given, Iterable) or isinstance(given, Mapping | str):
        raise TypeError(f"{name} is {shown(given)}, expected a list")
    return list(given)


def _collect(parts: list[Any], path: tuple[Any, ...], arrays: list[list[Any]], paths: list[tuple[Any, ...]]) -> Any:
    """Appends the arrays of each place below a path that all lists have, and the place.

    Returns:
        The first list, with the index of each array's place in place of the array.
    """
    first = parts[0]
    if not isinstance(first, dict | list | tuple):
        arrays.append(parts)
        paths.append(path)
        return len(arrays) - 1
    for i, part in enumerate(parts):
        if not isinstance(part, dict if isinstance(first, dict) else (list, tuple)):
            raise TypeError(
                f"{_place(i, path)} is a {type(part).__name__}, {_place(0, path)} is a {type(first).__name__}"
            )
        if len(part) != len(first):
            raise ValueError(f"{_place(i, path)} has length {len(part)}, {_place(0, path)} has {len(first)}")
        if isinstance(first, dict) and (lacks := first.keys() - set(part)):
            raise ValueError(f"{_place(i, path)} lacks {shown(lacks.pop())}, which {_place(0, path)} has")
    keys = list(first) if isinstance(first, dict) else range(len(first))
    inner = [_collect([part[key] for part in parts], (*path, key), arrays, paths) for key in keys]
    if isinstance(first, dict):
        return dict(zip(keys, inner, strict=True))
    return inner if isinstance(first, list) else tuple(inner)


def _place(i: int, path: tuple[Any, ...]) -> str:
    return "".join(["lists", *(f"[{key!r}]" for key in (i, *path))])


def _at_places(places: Any, means: list[Any]) -> Any:
    """The containers that `_collect` returns, with arrays in place of their indices."""
    if isinstance(places, dict):
        return {key: _at_places(inner, means) for key, inner in places.items()}
    if isinstance(places, list | tuple):
        made = [_at_places(inner, means) for inner in places]
        return made if isinstance(places, list) else tuple(made)
    return means[places]


def gradient_norm(grads: Grads) -> float:
    """The norm of all gradients together: the root of the sum of their squares, in double, in a fixed order.

    Arguments:
        grads: A dict, list or tuple of arrays or tensors, or one, as in `Optimizer.update`. None is left out.

    Returns:
        The norm, which is 0 without any elements, and infinite or NaN if an element is.

    Raises:
        TypeError: An element is no array of a floating-point type.
    """
    return _native.gradient_norm(grads)


def rules() -> dict[str, dict[str, Any]]:
    """The rules that `step` can make, by name.

    Returns:
        For each rule `"states"`, the names of its state arrays in their order; `"hyperparameters"`, the default of each
        by name; `"counts_steps"`, whether it uses `t`; `"starts"`, for states that don't start with zeros, the name of
        the hyper-parameter that all elements are at first, or "parameter", of which they are a copy; `"scalars"`,
        numbers that belong to a parameter as its state does, with what they are at first; and `"shapes"`, for states
        that don't have the parameter's shape: "rows", whose last axis is 1, or "columns", whose last but one is 1. Of a
        parameter with fewer than two axes, the columns have its shape, and the rows have shape (0,).
    """
    return {
        name: {
            "states": states,
            "hyperparameters": {own: default for own, (default, _) in hyperparameters.items()},
            "counts_steps": counts,
            "starts": starts,
            "scalars": scalars,
            "shapes": shapes,
        }
        for name, (states, hyperparameters, counts, starts, scalars, shapes, _) in _native.rules.items()
        if name != "muon"
    }
