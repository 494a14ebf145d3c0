"""Names that an optimizer lacks: errors that name what takes their place."""

import inspect
from collections.abc import Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar

from fusedstep._elsewhere import Elsewhere
from fusedstep.optimizers.options import OPTIONS

_OURS = "fusedstep.optimizers"
_CHANGED = ("iterations", "state", "steps")  # which have no default in the class
_PARAMETERS = "parameters are given to update(params, grads), or to the optimizers of fusedstep.torch"
# What other libraries call hyper-parameters, and ours that may be meant.
_OTHERS = {
    "alpha": "decay_rate",
    "b1": "beta1",
    "b2": "beta2",
    "betas": "beta1 and beta2",
    "decay": "weight_decay",
    "ema_momentum": "average",
    "epsilon": "eps",
    "global_clipnorm": "clip_norm",
    "grad_clip": "clip_norm",
    "gradient_clip": "clip_norm",
    "L2": "weight_decay",
    "learn_rate": "lr",
    "learning_rate": "lr",
    "max_grad_norm": "clip_norm",
    "max_norm": "clip_norm",
    "rho": "decay_rate",
    "use_ema": "average",
    "wd": "weight_decay",
}


def _other_names(name: str, own: tuple[str, ...]) -> str:
    """What an error says after a name that there isn't: the likely one, and all."""
    if name in ("params", "parameters"):
        return f": {_PARAMETERS}"
    likely = _OTHERS.get(name, "")
    if not set(likely.split(" and ")) <= set(own):
        import difflib

        likely = "".join(difflib.get_close_matches(name, own, 1))
    return f"{likely and f', expected {likely}'}; there are {', '.join(own)}"


class Named:
    """The base of the optimizers, whose attributes are hyper-parameters, options, and what updates change.

    Another name is an error, unless it begins with an underscore. Subclasses that aren't ours may have any.
    """

    __signature__: ClassVar[inspect.Signature]  # that of __init__, which __new__ would hide
    _own_names: ClassVar[tuple[str, ...]]  # of hyper-parameters and options

    if not TYPE_CHECKING:
        step = Elsewhere("update(params, grads) makes a step")
        zero_grad = Elsewhere("update(params, grads, zero_grads=True) leaves zeros in the gradients")

        def __new__(cls, *arguments, **options):
            if cls.__module__ == _OURS and arguments and _are_parameters(arguments[0]):
                kind = type(arguments[0]).__name__
                raise TypeError(f"lr is a {kind}, expected a number or a schedule: {_PARAMETERS}")
            return super().__new__(cls)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.__signature__ = inspect.signature(MethodType(cls.__init__, cls))
        named = (name for name, own in cls.__signature__.parameters.items() if own.kind != own.VAR_KEYWORD)
        cls._own_names = (*named, *OPTIONS)

    def _require_attribute(self, name: str) -> None:
        cls = type(self)
        known = name in cls._own_names or name in _CHANGED or name.startswith("_") or hasattr(cls, name)
        if cls.__module__ == _OURS and not known:
            raise AttributeError(f"{cls.__name__} has no attribute {name!r}{_other_names(name, cls._own_names)}")

    def _require_option(self, name: str) -> None:
        if name not in OPTIONS:
            unexpected = f"{type(self).__name__} got an unexpected keyword argument {name!r}"
            raise TypeError(f"{unexpected}{_other_names(name, self._own_names)}")

    def _full_name(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"


def _are_parameters(given: Any) -> bool:
    """Whether an object is a model, or arrays, and nothing that could be a learning rate."""
    if callable(given):
        return hasattr(given, "parameters")
    return isinstance(given, Iterable) and not isinstance(given, str | bytes) and getattr(given, "ndim", 1) != 0
