"""The base class of the optimizers: hyper-parameters, state, counts. The arithmetic is in the extension module."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep._limits import checked, checked_count, checked_if_own
from fusedstep._types import Grads, Params

LearningRate: TypeAlias = float | Callable[[int], float]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))


def _checked_dict(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a dict")
    return value


class Optimizer:
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

    The hyper-parameters may be changed between updates. Setting a value out of range raises ValueError.
    """

    _rule: str

    lr: LearningRate
    weight_decay: float
    decoupled: ClassVar[bool] = False
    _lengths: dict[tuple[Any, ...], int]  # of the lists whose indices are in the keys of the state, if it wasn't loaded

    def __init__(self, lr: LearningRate, *, weight_decay: float = 0.0) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.iterations = 0
        self.state: dict[Any, dict[str, NDArray[Any]]] = {}
        self.steps: dict[Any, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | _native.exclusively(self, self._copies)

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        state = {
            key: {letter: _native.copy_apart(array, i) for i, (letter, array) in enumerate(arrays.items())}
            for key, arrays in attributes["state"].items()
        }
        # Pickles of 0.1.0 have no steps and no lengths.
        self.__dict__.update({"steps": {}, "_lengths": {}} | attributes, state=state)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "iterations":
            value = checked_count("iterations", value)
        elif name == "state":
            if not isinstance(value, dict):
                raise TypeError(f"state is a {type(value).__name__}, expected a dict")
            self._lengths = {}
        elif not (name == "lr" and callable(value)):
            value = checked_if_own(getattr(self, "_rule", None), name, value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._arguments(type(self)))
        return f"{type(self).__name__}({values})"

    def update(self, params: Params, grads: Grads) -> None:
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
                never written.

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

        All arguments are checked before anything is written, so after an error nothing has changed.
        """
        lr = self.lr
        if callable(lr):
            lr = checked("lr", lr(self.iterations), f"lr({self.iterations})")
        _native.update(self, self._rule, lr, params, grads, self._step_of_all())

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

    def _step_of_all(self) -> int | None:
        """The number of the step for all parameters, or None if each counts its own."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """A snapshot as a plain dict of arrays (copies) and numbers.

        It has the hyper-parameters under the full name of the class, without a learning-rate schedule, and `steps` for
        rules that use them. It is of one moment: while another thread makes a step, this waits.
        """
        copies = _native.exclusively(self, self._copies)
        iterations, state, steps = copies["iterations"], copies["state"], copies["steps"]
        return {
            "iterations": iterations,
            self._full_name(): {k: v for k, v in self._hyperparameters().items() if not callable(v)},
            "state": state,
        } | ({"steps": {key: int(steps.get(key, iterations)) for key in state}} if self._counts_steps else {})

    def _copies(self) -> dict[str, Any]:
        """What steps change."""
        state = {key: {k: a.copy("K") for k, a in arrays.items()} for key, arrays in self.state.items()}
        return {"iterations": self.iterations, "state": state, "steps": dict(self.steps)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a snapshot made by `state_dict`, with copies of its arrays.

        The next update is then the same as the next one of the other optimizer. A learning-rate schedule of either
        optimizer is not changed.

        A snapshot of 0.1.0 has no `steps`: each parameter then counts as having had all iterations.

        Raises:
            ValueError: The snapshot is of another class, or is damaged.
            TypeError: Something in it is of another type. After any error nothing has changed.
        """
        name = self._full_name()
        if missing := {"iterations", name, "state"} - set(_checked_dict("the state dict", state_dict)):
            raise ValueError(f"the state dict has {_listed(state_dict)}, but lacks {_listed(missing)}")
        given = _checked_dict(name, state_dict[name])
        own = self._hyperparameters()
        if set(given) | {"lr"} != set(own):
            raise ValueError(f"{name} has {_listed(given)}, expected {_listed(own)}")
        values = own | {k: checked_if_own(self._rule, k, v) for k, v in given.items()}
        if callable(self.lr):
            values["lr"] = self.lr
        iterations = checked_count("iterations", state_dict["iterations"])
        given_state = _checked_dict("state", state_dict["state"])
        state = {key: self._copied_state(key, arrays) for key, arrays in given_state.items()}
        given_steps = _checked_dict("steps", state_dict.get("steps", {}))
        steps = {
            key: checked_count(f"steps[{key!r}]", given_steps.get(key, iterations))
            for key in (state if self._counts_steps else ())
        }
        loaded = values | {"iterations": iterations, "state": state, "steps": steps, "_lengths": {}}
        _native.exclusively(self, lambda: self.__dict__.update(loaded))

    @property
    def _state_names(self) -> tuple[str, ...]:
        return _native.rules[self._rule][0]

    @property
    def _counts_steps(self) -> bool:
        return _native.rules[self._rule][2] and self._step_of_all() is None

    def _copied_state(self, key: Any, arrays: dict[str, Any]) -> dict[str, NDArray[Any]]:
        names = self._state_names
        if set(_checked_dict(f"state[{key!r}]", arrays)) != set(names):
            raise ValueError(
                f"state[{key!r}] has {_listed(arrays) or 'nothing'}, expected {_listed(names) or 'nothing'}"
            )
        copies: dict[str, NDArray[Any]] = {}
        for i, letter in enumerate(names):
            shown_name = f"state[{key!r}][{letter!r}]"
            try:
                array = np.asarray(arrays[letter])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{shown_name} is no array: {error}") from error
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(f"{shown_name} has dtype {array.dtype}, expected float32 or float64")
            for other, first in list(copies.items())[:1]:
                if (array.shape, array.dtype) != (first.shape, first.dtype):
                    raise ValueError(
                        f"{shown_name} has shape {array.shape} and dtype {array.dtype}, "
                        f"state[{key!r}][{other!r}] has {first.shape} and {first.dtype}"
                    )
            copies[letter] = _native.copy_apart(array, i)
        return copies

    def _full_name(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def _arguments(self, cls: type) -> list[str]:
        return [name for name in inspect.signature(cls).parameters if hasattr(self, name)]

    def _hyperparameters(self) -> dict[str, Any]:
        # Arguments of the bases too: the book's classes have no argument eps, but the attribute may be set.
        bases = (cls for cls in type(self).__mro__ if issubclass(cls, Optimizer))
        names = {name for cls in bases for name in self._arguments(cls)}
        return {name: getattr(self, name) for name in sorted(names)}
