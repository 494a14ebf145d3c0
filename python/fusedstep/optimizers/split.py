"""Optimizers of different rules for different parameters, in one step."""

import contextlib
import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._limits import checked_count, checked_flag, checked_norm, shown
from fusedstep._types import Copies, Grads, Params
from fusedstep.optimizers.averages import exchanged
from fusedstep.optimizers.base import Optimizer
from fusedstep.optimizers.options import Match, checked_clip_norm, checked_match, matches
from fusedstep.optimizers.snapshots import checked_dict, checked_list, listed, loaded_attributes

_T = TypeVar("_T")
_NAME = "fusedstep.optimizers.Split"


class Split:
    """Several optimizers, each for its part of the parameters: one step for all of them, in one parallel region.

    `Split([(lambda key, w: w.ndim == 2, Momentum(0.01)), (["b1", "b2"], SGD(0.1))])` steps matrices with momentum and
    two other parameters without. For other hyper-parameters of the same rule an optimizer's groups are enough.

    Each parameter is of the first optimizer whose match it fits: a key (a tuple is one: the path of a nested
    container), a list or set of keys, or a function of key and parameter. That is asked once for each key. Each
    optimizer keeps its own state, counts, hyper-parameters and groups.

    Arguments:
        pairs: Pairs of a match and an optimizer, kept as a tuple.
        clip_norm: As in `Options`, for the norm of all gradients of the call; the optimizers have none of their own.
        skip_nonfinite: Likewise.

    Attributes:
        gradient_norm: The norm of the last update's gradients, times scale and before they were clipped; None if none
            was taken or given.
        skipped: The number of updates that skip_nonfinite has left out.

    Raises:
        ValueError: An optimizer is there twice, or has clip_norm or skip_nonfinite of its own.
        TypeError: pairs are no pairs of a match and an optimizer.
    """

    pairs: tuple[tuple[Match, Optimizer], ...]
    clip_norm: float | None
    skip_nonfinite: bool
    gradient_norm: float | None
    skipped: int

    def __init__(
        self, pairs: Iterable[tuple[Match, Optimizer]], *, clip_norm: float | None = None, skip_nonfinite: bool = False
    ) -> None:
        self.pairs = pairs  # type: ignore[assignment]
        self.clip_norm = clip_norm
        self.skip_nonfinite = skip_nonfinite
        self.gradient_norm = None
        self.skipped = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "pairs":
            value = _checked_pairs(value)
            self._assigned: dict[Any, int] = {}
            self._groups: list[Any] = []  # of the optimizers when the answers were given
        elif name == "clip_norm":
            value = checked_clip_norm(value)
        elif name == "skip_nonfinite":
            value = checked_flag(name, value)
        elif name == "skipped":
            value = checked_count(name, value)
        elif type(self) is Split and name not in Split.__annotations__ and not name.startswith("_"):
            raise AttributeError(f"Split has no attribute {name!r}: set hyper-parameters of its optimizers, in pairs")
        object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        pairs = self._exclusively(lambda: tuple((match, copy.copy(optimizer)) for match, optimizer in self.pairs))
        return self.__dict__ | {"pairs": pairs, "_assigned": {}, "_groups": []}

    def __repr__(self) -> str:
        pairs = ", ".join(f"({match!r}, {optimizer!r})" for match, optimizer in self.pairs)
        return f"Split([{pairs}], clip_norm={self.clip_norm!r}, skip_nonfinite={self.skip_nonfinite!r})"

    def update(
        self,
        params: Params,
        grads: Grads,
        *,
        scale: float = 1.0,
        zero_grads: bool = False,
        copies: Copies = None,
        norm: float | None = None,
    ) -> None:
        """Makes one step of every parameter by its optimizer; see `Optimizer.update`.

        Raises:
            ValueError: A parameter fits no match, or as in `Optimizer.update`.
        """
        for _, optimizer in self.pairs:
            _require_no_norm(optimizer)
        self._forget_groups()
        self.gradient_norm, skipped = _native.update(
            [(optimizer, optimizer._parts()) for _, optimizer in self.pairs],
            params,
            grads,
            scale,
            zero_grads,
            copies,
            self._assigned,
            self._member_of,
            None if norm is None else checked_norm(norm),
            self.clip_norm,
            self.skip_nonfinite,
        )
        self.skipped += skipped

    def _forget_groups(self) -> None:
        """Forgets which group parameters are of if an optimizer's groups have changed."""
        groups = [optimizer.groups for _, optimizer in self.pairs]
        if [*map(id, groups)] != [*map(id, self._groups)]:
            self._groups, self._assigned = groups, {}

    def _member_of(self, key: Any, param: Any) -> int:
        """The number of a parameter's member, in the order of `_parts` of all optimizers."""
        first = 0
        for match, optimizer in self.pairs:
            if matches(match, key, param):
                return first + optimizer._group_of(key, param)
            first += len(optimizer.groups) + 1
        raise ValueError(
            f"params[{key!r}] fits no match of Split: add a pair for it, such as (lambda key, w: True, ...)"
        )

    def averages(self) -> dict[Any, NDArray[Any]]:
        """As `Optimizer.averages`, those of all optimizers."""
        return {key: array for _, optimizer in reversed(self.pairs) for key, array in optimizer.averages().items()}

    def averaged(self, params: Params) -> contextlib.AbstractContextManager[None]:
        """As `Optimizer.averaged`."""
        return exchanged(params, self.averages)

    def state_dict(self) -> dict[str, Any]:
        """A snapshot as a plain dict: those of the optimizers in a list, `skipped`, clip_norm and skip_nonfinite.

        It is of one moment, and has no matches, as in `Optimizer.state_dict`.
        """
        return self._exclusively(
            lambda: {
                "skipped": self.skipped,
                _NAME: {"clip_norm": self.clip_norm, "skip_nonfinite": self.skip_nonfinite},
                "optimizers": [optimizer.state_dict() for _, optimizer in self.pairs],
            }
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a snapshot made by `state_dict` into optimizers of the same classes, in the same order.

        Raises:
            ValueError: The snapshot is of another class or of other optimizers, or is damaged.
            TypeError: Something in it is of another type. After any error nothing has changed.
        """
        self._loader(state_dict)()

    def _loader(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """What loads a snapshot, in which nothing is wrong."""
        names = {"skipped", _NAME, "optimizers"}
        if missing := names - set(checked_dict("the state dict", state_dict)):
            raise ValueError(f"the state dict has {listed(state_dict)}, but lacks {listed(missing)}")
        settings = dict(checked_dict(_NAME, state_dict[_NAME]))
        if set(settings) != {"clip_norm", "skip_nonfinite"}:
            raise ValueError(f"{_NAME} has {listed(settings)}, expected clip_norm, skip_nonfinite")
        given = checked_list("optimizers", state_dict["optimizers"])
        if len(given) != len(self.pairs):
            raise ValueError(f"the state dict has {len(given)} optimizers, Split has {len(self.pairs)}")
        own = {
            "clip_norm": checked_clip_norm(settings["clip_norm"]),
            "skip_nonfinite": checked_flag("skip_nonfinite", settings["skip_nonfinite"]),
            "skipped": checked_count("skipped", state_dict["skipped"]),
        }
        optimizers = [optimizer for _, optimizer in self.pairs]
        loaded = [*map(loaded_attributes, optimizers, given)]

        def load() -> None:
            for optimizer, attributes in zip(optimizers, loaded, strict=True):
                optimizer._load(attributes)
            self.__dict__.update(own)

        return lambda: self._exclusively(load)

    def _exclusively(self, function: Callable[[], _T]) -> _T:
        """Calls a function while nobody steps any of the optimizers."""
        # All threads take the locks in the same order.
        for optimizer in sorted((optimizer for _, optimizer in self.pairs), key=id, reverse=True):
            function = partial(_native.exclusively, optimizer, function)
        return function()


def _checked_pairs(value: Any) -> tuple[tuple[Match, Optimizer], ...]:
    try:
        given = [(match, optimizer) for match, optimizer in value]
    except Exception as error:
        raise TypeError(f"pairs is {shown(value)}, expected pairs of a match and an optimizer") from error
    for i, (_, optimizer) in enumerate(given):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"pairs[{i}] has {shown(optimizer)}, expected an optimizer of fusedstep")
        if any(optimizer is other for _, other in given[:i]):
            raise ValueError(f"pairs[{i}] has an optimizer that an earlier pair has: {shown(optimizer)}")
        _require_no_norm(optimizer)
    return tuple((checked_match(f"pairs[{i}]", match), optimizer) for i, (match, optimizer) in enumerate(given))


def _require_no_norm(optimizer: Optimizer) -> None:
    if optimizer.clip_norm is not None or optimizer.skip_nonfinite:
        raise ValueError(f"{shown(optimizer)} has clip_norm or skip_nonfinite, expected them as arguments of Split")
