"""One step of a rule with parameters, state, counts and hyper-parameters from the caller, for adapters."""

from typing import Any

from fusedstep import _native
from fusedstep._limits import shown
from fusedstep._types import Grads, Params


def step(rule: str, params: Params, grads: Grads, state: Any, *, t: Any = 1, **hyperparameters: Any) -> None:
    """Makes one step of a rule, in place, in one parallel region for all arrays: the stateless form of an optimizer.

    The arithmetic is the same as in `Optimizer.update`, but nothing is kept between calls: an adapter stores state,
    counts and hyper-parameters as its library does, and passes them on. For each element the gradient is multiplied by
    the scale, L2 decay is added to it, decoupled decay shrinks the parameter, then comes the rule.

    Arguments:
        rule: One of `fusedstep.rules()`.
        params: As in `Optimizer.update`: dicts, lists and tuples of arrays or tensors, or one.
        grads: Likewise. A parameter whose gradient is None is left alone.
        state: The state arrays of each parameter, in containers like `params`: for each a dict by the names that
            `fusedstep.rules()` gives, or a tuple or list in their order (for Adam m, then v). Zeros before the first
            step, in float64 for float64 parameters, else in float32. None for a rule without state.
        t: The number of the step from 1, for all parameters or in containers like `params`. Rules that correct no
            bias ignore it.
        hyperparameters: lr, weight_decay, decoupled (weight decay of the parameter in place of L2), scale (the factor
            that the gradients are multiplied by first), and the rule's own: each a number for all parameters, or
            containers like `params` with one for each. Those that are not given have their defaults.

    Raises:
        KeyError: A dict lacks a parameter's key.
        ValueError: There is no such rule, a list is not as long as `params`, a shape or type differs, an array that is
            written is read-only, or a number is out of range.
        TypeError: The rule has no such hyper-parameter, or something is no array.

    All arguments are checked before anything is written, so after an error nothing has changed.
    """
    if not isinstance(rule, str):
        raise TypeError(f"rule is {shown(rule)}, expected one of {', '.join(_native.rules)}")
    _native.step(rule, params, grads, state, t, hyperparameters)


def rules() -> dict[str, dict[str, Any]]:
    """The rules that `step` can make, by name.

    Returns:
        For each rule `"states"`, the names of its state arrays in their order; `"hyperparameters"`, the default of each
        by name; and `"counts_steps"`, whether it uses `t`.
    """
    return {
        name: {
            "states": states,
            "hyperparameters": {own: default for own, (default, _) in hyperparameters.items()},
            "counts_steps": counts,
        }
        for name, (states, hyperparameters, counts) in _native.rules.items()
    }
