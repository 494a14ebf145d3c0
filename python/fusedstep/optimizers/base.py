"""The base class of the optimizers: hyper-parameters, state, counts. The arithmetic is in the extension module."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, Unpack

from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._limits import checked_count, checked_norm
from fusedstep._types import Copies, Grads, Params
from fusedstep.optimizers.averages import exchanged
from fusedstep.optimizers.names import Named
from fusedstep.optimizers.options import (
    OPTIONS,
    SCHEDULED,
    Groups,
    LearningRate,
    Options,
    Schedule,
    checked_setting,
    is_schedule,
    matches,
)
from fusedstep.optimizers.snapshots import loaded_attributes

# Options for which an update has to do more than to read the attributes.
_SPECIAL = (
    "average",
    "cautious_decay",
    "clip_norm",
    "clip_value",
    "decay_after",
    "groups",
    "master",
    "max_lr",
    "maximize",
    "rounding",
    "skip_nonfinite",
    "state_dtype",
)

# Of a group, or of the other parameters: lr, other overrides, options.
Part: TypeAlias = tuple[Any, dict[str, Any] | None, tuple[Any, ...]]


class Optimizer(Named):
    """The base class of the optimizers; see the subclasses for the rules.

    Attributes:
        lr: The learning rate: a float, or a schedule, which is a callable that gets the number of updates made so far
            (0 at the first) and returns a float.
        weight_decay: L2 weight decay: `g + weight_decay * w` takes the place of `g`. `AdamW` has its own kind.
        iterations: The number of updates made, which schedules get.
        state: The state arrays of each parameter by key, and in it by the paper's letters: `state["W1"]["m"]`. In a
            list or tuple the key is the index; a single array has key 0; in nested containers the key is the path as a
            tuple, `state["conv", 0]["m"]`. SGD's state is empty. A parameter whose entry is removed starts again with
            zeros, and at step 1.
        steps: The number of updates that each parameter has had, by key, for rules that correct a bias by it. A
            parameter that comes late, or was left out of some updates, has fewer than `iterations`.

        gradient_norm: The norm of the last update's gradients, times scale and before they were clipped; None if none
            was taken or given.
        skipped: The number of updates that skip_nonfinite has left out.

    The hyper-parameters and options may be changed between updates. A value out of range is a ValueError, another name
    an AttributeError (subclasses of yours may have any).
    """

    _rule: str
    # The checks of the attributes that _rule follows from.
    _choose_rule: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType({})

    lr: LearningRate
    weight_decay: float
    # Defaults of the class, which optimizers from older pickles have.
    decoupled: bool = False
    count_updates: bool = False
    cautious_decay: bool = False
    max_lr: float | None = None
    decay_after: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    maximize: bool = False
    skip_nonfinite: bool = False
    average: float | Schedule | None = None
    groups: Groups = ()
    master: bool = False
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = 0
    state_dtype: Literal["bfloat16"] | None = None
    gradient_norm: float | None = None
    skipped: int = 0
    _lengths: dict[tuple[Any, ...], int]  # of the lists whose indices are in the keys of the state, if it wasn't loaded
    _is_special: bool = False  # whether one of _SPECIAL is set, here or in a subclass

    def __init__(self, lr: LearningRate, *, weight_decay: float = 0.0, **options: Unpack[Options]) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.iterations = 0
        self.state: dict[Any, dict[str, NDArray[Any]]] = {}
        self.steps: dict[Any, int] = {}
        self.gradient_norm = None
        self._is_special = type(self)._is_special  # here too, where an update finds it sooner
        for name, value in options.items():
            self._require_option(name)
            setattr(self, name, value)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._is_special = _has_special(cls)

    def __getstate__(self) -> dict[str, Any]:
        attributes: dict[str, Any] = self.__dict__ | _native.exclusively(self, self._copies)
        for name in ("_assigned", "_made_parts"):
            attributes.pop(name, None)
        return attributes | {"groups": self._readable_groups()}  # a view of a dict has no pickle

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        state = {
            key: {letter: _native.copy_apart(array, i) for i, (letter, array) in enumerate(arrays.items())}
            for key, arrays in attributes["state"].items()
        }
        groups = tuple((match, MappingProxyType(overrides)) for match, overrides in attributes.get("groups", ()))
        # Pickles of 0.1.0 have no steps and no lengths.
        self.__dict__.update({"steps": {}, "_lengths": {}} | attributes, state=state, groups=groups)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("iterations", "skipped"):
            value = checked_count(name, value)
        elif name == "state":
            if not isinstance(value, dict):
                raise TypeError(f"state is a {type(value).__name__}, expected a dict")
            self._lengths = {}
        elif not is_schedule(name, value):
            self._require_attribute(name)
            value = self._checked(name, value)
        if name in self._choose_rule and self.__dict__.get("state"):
            self._refuse_other_rule(name, value)
        if name == "count_updates" and value != self.count_updates:
            self.steps = {}  # as after a change all parameters count as having had all updates
        object.__setattr__(self, name, value)
        self.__dict__.pop("_made_parts", None)
        if name in _SPECIAL:
            self.__dict__["_is_special"] = _has_special(self)
        if name == "groups":
            self._assigned: dict[Any, int] = {}
        if name == "master" and not value:
            for arrays in self.state.values():  # they would be outdated when the option is set again
                arrays.pop("master", None)

    def _checked(self, name: str, value: Any) -> Any:
        """The checked value of a hyper-parameter or option."""
        if name in self._choose_rule:
            return self._choose_rule[name](name, value)
        return checked_setting(getattr(self, "_rule", None), name, value)

    def _refuse_other_rule(self, name: str, value: Any) -> None:
        before = getattr(self, name)
        if self._with({name: value})._rule != self._rule:
            raise ValueError(f"{name} is {value}, but the state was made with {before}: clear state first")

    def _with(self, attributes: dict[str, Any]) -> "Optimizer":
        """This optimizer with other attributes, to look at."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__ | attributes)
        return other

    def __repr__(self) -> str:
        cls = type(self)
        names = self._arguments(cls)
        if _takes_options(cls):
            names += [name for name in OPTIONS if getattr(self, name) != getattr(cls, name)]
        shown = {name: self._readable_groups() if name == "groups" else getattr(self, name) for name in names}
        return f"{cls.__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

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
        """Makes one step: updates every parameter in place.

        Arguments:
            params: A dict, list or tuple of arrays of any shape, or of further dicts, lists and tuples (up to 100 in
                one another), or one array, in float32, float64, float16 or bfloat16 (ml_dtypes' arrays, PyTorch's
                tensors). The narrow types are computed in float32, have float32 state, and are rounded to nearest, ties
                to even. A float in a dict or list is replaced by its new value. An array that is not contiguous works
                too, more slowly.
            grads: The gradients, in the same containers, with the same keys and shapes; keys that params lacks are
                ignored, but lists have the same length, in all updates. A parameter whose gradient is None is left
                alone, and so are all those in a container for which grads has None. They may be strided, read-only or
                of another floating-point type, from which they are converted to the one that is computed in; they are
                written only by `zero_grads`. For a matrix of which few rows have a gradient, `Rows`.
            scale: A factor of all gradients, applied first: 1 / loss scale, or 1 / the number of batches summed up.
            zero_grads: Leaves zeros in all gradients of parameters, in the same pass, also if the update is skipped.
                They must then be arrays that can be written (not `Rows`), and share no memory with parameters or state.
            copies: Containers like params, of arrays of any of the types, for the new parameters, rounded to nearest:
                bfloat16 copies of float32 parameters, for example. None for a parameter without one.
            norm: The norm of the gradients as they are given, if it is known (`accumulate` returns one): with
                clip_norm or skip_nonfinite none is taken then. It is multiplied by scale.

        An array may be any object that shares memory of the CPU: a NumPy array, a PyTorch tensor, or one with the
        buffer protocol (memoryview, array.array, ctypes), __array_interface__ or DLPack. Its memory is updated in
        place; `state` has NumPy arrays. Objects that could only be copied (as those with nothing but __array__) are
        refused, as are masked arrays. A tensor may require a gradient; its version counter is raised, so
        that a backward pass that needs what it was before is an error. A tensor of an older PyTorch can't be resized
        afterwards, as after Tensor.numpy(). A parameter by DLPack needs NumPy 2.2.5 and an exporter that takes
        copy=False, else it is read-only.

        If two parameters share memory, they are updated one after the other. A gradient that shares memory with its
        parameter is copied first. The GIL is released, except for steps of PyTorch's tensors that move at most 1 MiB.

        Raises:
            KeyError: grads lacks a key.
            ValueError: Lists differ in length from each other, or from those of earlier updates, whose state belongs to
                positions; clear `state` to start again. A shape differs between a gradient and its parameter or between
                a parameter and its state, or a parameter is read-only, or the schedule returned a number out of range,
                or the state has "0" for a key 0 (or the reverse for all keys), as after JSON. A container contains
                itself, or a key that is a tuple is also the path to another parameter.
            TypeError: An array is not of a floating-point type, or an object doesn't share memory of the CPU. There is
                a container in params and none of its kind in grads, or the reverse.
            IndexError: `Rows` have an index that the parameter lacks.

        All arguments are checked before anything is written, so after an error nothing has changed. See `Options` for
        the order of the operations.
        """
        if not self._is_special and norm is None:
            _native.update(self, params, grads, scale, zero_grads, copies)
            if self.gradient_norm is not None:
                self.__dict__["gradient_norm"] = None
        else:
            parts = self._parts()
            assigned = self.__dict__.setdefault("_assigned", {}) if len(parts) > 1 else None
            taken, skipped = _native.update(
                [(self, parts)],
                params,
                grads,
                scale,
                zero_grads,
                copies,
                assigned,
                None if assigned is None else self._group_of,
                None if norm is None else checked_norm(norm),
                self.clip_norm,
                self.skip_nonfinite,
            )
            self.__dict__["gradient_norm"] = taken
            if skipped:
                self.skipped += 1

    def _parts(self) -> list[Part]:
        """What an update of some options takes for each group, and for the other parameters."""
        parts: list[Part] | None = self.__dict__.get("_made_parts")
        if not parts:
            # A value that another thread sets meanwhile takes the list away, and nobody sees half of it.
            parts = self.__dict__["_made_parts"] = []
            parts[:] = [self._part(overrides) for overrides in (*(overrides for _, overrides in self.groups), {})]
        return parts

    def _part(self, overrides: Mapping[str, Any]) -> Part:
        lr, average = (overrides.get(name, getattr(self, name)) for name in SCHEDULED)
        others = {name: value for name, value in overrides.items() if name not in SCHEDULED}
        stochastic, narrow_state = self.rounding == "stochastic", self.state_dtype is not None
        options: tuple[Any, ...] = (average,)
        if self.master or stochastic or narrow_state:
            options = (average, self.master, self.seed, stochastic, narrow_state)
        return lr, others or None, options

    def _group_of(self, key: Any, param: Any) -> int:
        """The number of a parameter's group, or that of the groups if it is of none."""
        return next((i for i, (match, _) in enumerate(self.groups) if matches(match, key, param)), len(self.groups))

    def averages(self) -> dict[Any, NDArray[Any]]:
        """The averages of the parameters by key: the arrays of the state themselves."""
        return {key: arrays["average"] for key, arrays in self.state.items() if "average" in arrays}

    def averaged(self, params: Params) -> contextlib.AbstractContextManager[None]:
        """A context in which the parameters have the values of their averages: `with optimizer.averaged(params): ...`.

        Afterwards, also after an exception, they have their own values again, to the bit; what was written to them
        meanwhile is lost. A parameter without an average keeps its value. State can be saved meanwhile, but don't
        update.

        Arguments:
            params: As in `update`.

        Raises:
            ValueError: There are no averages, or one has another shape than its parameter. Nothing has changed.
        """
        return exchanged(params, self.averages)

    def _checked_lengths(self, lengths: dict[tuple[Any, ...], int]) -> dict[tuple[Any, ...], int]:
        """The lengths of all lists by path, with these in place of known ones; ValueError if the state is in the way.

        Where no length is known, as after loading, an index in the state has to be below the new one.
        """
        least: dict[tuple[Any, ...], int] = {}
        for key in self.state:
            path = key if isinstance(key, tuple) else (key,)
            for depth, part in enumerate(path):
                if isinstance(part, int):
                    least[path[:depth]] = max(least.get(path[:depth], 0), part + 1)
        for path, length in lengths.items():
            known = self._lengths.get(path)
            if path in least and (length < least[path] if known is None else length != known):
                raise ValueError(
                    f"params{''.join(f'[{part!r}]' for part in path)} has length {length}, but the state is that of "
                    f"{known or f'{least[path]} or more'}: give None for a missing gradient, or a dict with names"
                )
        return self._lengths | lengths

    def state_dict(self) -> dict[str, Any]:
        """A snapshot as a plain dict of arrays (copies) and numbers.

        It has the hyper-parameters and options under the full name of the class, without schedules and without the
        matches of groups, and `steps` for rules that use them. It is of one moment: while another thread makes a step,
        this waits.
        """
        copies = _native.exclusively(self, self._copies)
        iterations, state, steps = copies["iterations"], copies["state"], copies["steps"]
        return {
            "iterations": iterations,
            "skipped": copies["skipped"],
            self._full_name(): {k: v for k, v in self._hyperparameters().items() if not callable(v)},
            "state": state,
        } | ({"steps": {key: int(steps.get(key, iterations)) for key in state}} if self._counts_steps else {})

    def _copies(self) -> dict[str, Any]:
        """What steps change."""
        state = {key: {k: a.copy("K") for k, a in arrays.items()} for key, arrays in self.state.items()}
        return {"iterations": self.iterations, "skipped": self.skipped, "state": state, "steps": dict(self.steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a snapshot made by `state_dict`, with copies of its arrays.

        The next update is then the same as the next one of the other optimizer. Schedules of either optimizer are not
        changed. Groups must be as many as those of the other optimizer, with the same hyper-parameters, whose numbers
        are loaded; the matches stay.

        Snapshots of older versions load: options that they lack get their defaults, but groups stay as they are, and
        without `steps`, as in 0.1.0, each parameter counts as having had all iterations.

        Raises:
            ValueError: The snapshot is of another class, or is damaged.
            TypeError: Something in it is of another type. After any error nothing has changed.
        """
        self._loader(state_dict)()

    def _loader(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """What loads a snapshot, in which nothing is wrong."""
        loaded = loaded_attributes(self, state_dict)
        return lambda: _native.exclusively(self, lambda: self._load(loaded))

    def _load(self, attributes: dict[str, Any]) -> None:
        self.__dict__.update(attributes)
        self.__dict__["_is_special"] = _has_special(self)
        self.__dict__.pop("_made_parts", None)

    @property
    def _state_names(self) -> tuple[str, ...]:
        return _native.rules[self._rule][0]

    @property
    def _scalar_names(self) -> tuple[str, ...]:
        return tuple(_native.rules[self._rule][4])

    @property
    def _counts_steps(self) -> bool:
        return _native.rules[self._rule][2] and not self.count_updates

    def _arguments(self, cls: type) -> list[str]:
        parameters = inspect.signature(cls).parameters
        return [name for name, p in parameters.items() if p.kind != p.VAR_KEYWORD and hasattr(self, name)]

    def _hyperparameters(self) -> dict[str, Any]:
        # Arguments of the bases too: the book's classes have no argument eps, but the attribute may be set.
        bases = (cls for cls in type(self).__mro__ if issubclass(cls, Optimizer))
        names = {name for cls in bases for name in self._arguments(cls)} | set(OPTIONS)
        values = {name: getattr(self, name) for name in sorted(names)}
        groups = [{k: v for k, v in overrides.items() if not callable(v)} for _, overrides in self.groups]
        return values | {"groups": groups}

    def _readable_groups(self) -> Groups:
        return tuple((match, dict(overrides)) for match, overrides in self.groups)


def _has_special(optimizer: Any) -> bool:
    return any(getattr(optimizer, name) != getattr(Optimizer, name) for name in _SPECIAL)


def _takes_options(cls: type) -> bool:
    return any(p.kind == p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())
