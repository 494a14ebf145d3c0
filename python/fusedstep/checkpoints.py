"""Files of a whole training: optimizers, layers and arrays in dicts, lists and tuples, replaced as a whole."""

from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from fusedstep._archive import CHECKPOINT, StateFile, checked_key, json_value, opened, write_file
from fusedstep._limits import shown
from fusedstep._members import Members, Stored, checked_list, fitting, key_of_json, reading, with_file
from fusedstep._shared import KINDS, array_of, count_changes
from fusedstep.batch_norm import BatchNorm
from fusedstep.dropout import Dropout
from fusedstep.optimizers import Optimizer, Split
from fusedstep.state_files import described, state_dict_of

_Value = str | int | float | None  # bools are integers
_DEEPEST = 100


def save(path: StateFile, objects: Any) -> None:
    """Writes optimizers, layers and arrays to one file: `save(path, {"model": params, "optimizer": optimizer})`.

    The file is replaced as a whole, as by `save_state`. Optimizers and layers are saved as in `Optimizer.state_dict`,
    so schedules and the matches of groups are left out. Arrays are written as they are at the time, without a copy in
    memory: don't update them meanwhile.

    Arguments:
        path: The file, or a binary file that is open, as in `save_state`.
        objects: A dict, list or tuple, nested or not, of optimizers (also `Split`), layers (`BatchNorm`, `Dropout`),
            arrays of numbers, and values: numbers, strings, bools, None. Or one of these. Arrays may be objects that
            share memory, such as PyTorch's tensors, and in bfloat16. Keys are strings, integers, or tuples of these.

    Raises:
        TypeError: There is something else in objects; the message has its path in them.
        ValueError: A container contains itself, or more than 100 others in one another.
        OSError: The file can't be written. An old one hasn't changed.
    """
    opened(path, "write")  # an error before state is copied
    groups: list[dict[str, NDArray[Any]]] = []
    tree = _node("objects", objects, groups, ())
    write_file(path, CHECKPOINT, {"tree": tree}, groups)


@overload
def load(path: StateFile) -> Any: ...
@overload
def load(path: StateFile, into: Any) -> None: ...
def load(path: StateFile, into: Any = None) -> Any:
    """Loads a file of `save` into objects that are there: `load(path, {"model": params, "optimizer": optimizer})`.

    Arrays are written where they are in memory, values are replaced in their containers, optimizers and layers take
    their state as by `Optimizer.load_state_dict`. A training then continues as if it hadn't been stopped. All is
    checked before anything changes, the checksums of the data included: the file is read twice, so that no copy of a
    model's arrays is in memory.

    Arguments:
        path: The file, or a binary file that is open, as in `load_state`.
        into: What was given to `save`, or new objects with the same keys, lengths, shapes and types. None to see what
            a file has: it is returned as dicts, lists and tuples of new arrays and values, with the state dicts of
            optimizers and layers in their places.

    Raises:
        ValueError: The file isn't one of `save`, is damaged or of a newer format, or doesn't fit: the message has the
            path of the object in `into` and both values. Nothing has changed. Or ml_dtypes, which bfloat16 needs, can't
            be imported.
        OSError: The file can't be read.
    """
    opened(path, "read")
    return with_file(path, _loaded if into is None else partial(_load_into, into))


def _loaded(name: str, file: BinaryIO) -> Any:
    with reading(name, CHECKPOINT):
        members = Members(file, CHECKPOINT)
        return _tree(members, lambda entry: members.read(entry, KINDS), lambda state_dict: state_dict)


def _load_into(into: Any, name: str, file: BinaryIO) -> None:
    with reading(name, CHECKPOINT):
        members = Members(file, CHECKPOINT)
        found = _tree(members, lambda entry: members.check(entry, KINDS), _State)
    with fitting(name):
        fit = _Fit()
        fit.add("into", into, found)
    with reading(name, CHECKPOINT):
        for stored, array, _ in fit.arrays:
            members.write(stored, array)
    for change in fit.changes:
        change()
    count_changes([given for _, _, given in fit.arrays])


# Saving.


def _node(name: str, value: Any, groups: list[dict[str, NDArray[Any]]], around: tuple[int, ...]) -> dict[str, Any]:
    """What the description has of an object, whose arrays are appended to groups."""
    if isinstance(value, Optimizer | Split):
        try:
            about, arrays = described(value)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        groups += arrays
        return {"optimizer": about}
    if isinstance(value, BatchNorm | Dropout):
        state = value.state_dict()
        groups.append({key: own for key, own in state.items() if isinstance(own, np.ndarray)})
        return {"layer": {key: json_value(f"{name}.{key}", own) for key, own in state.items() if key not in groups[-1]}}
    if isinstance(value, dict | list | tuple):
        around = _checked_depth(name, value, around)
        items = value.items() if isinstance(value, dict) else enumerate(value)
        inner = [(checked_key(key, name), _node(f"{name}[{key!r}]", item, groups, around)) for key, item in items]
        return {_container(value): inner if isinstance(value, dict) else [item for _, item in inner]}
    if isinstance(value, _Value | np.generic):
        return {"value": json_value(name, value)}
    groups.append({"array": array_of(name, value)})
    return {"array": None}


def _container(value: Any) -> str:
    return next(kind.__name__ for kind in (dict, list, tuple) if isinstance(value, kind))


def _checked_depth(name: str, value: Any, around: tuple[int, ...]) -> tuple[int, ...]:
    if id(value) in around:
        raise ValueError(f"{name} contains itself")
    if len(around) == _DEEPEST:
        raise ValueError(f"{name} is in more than {_DEEPEST} containers")
    return (*around, id(value))


# Loading.


class _State(NamedTuple):
    """The state of an optimizer or a layer in a file."""

    state_dict: dict[str, Any]


def _tree(members: Members, take: Callable[[str], Any], state: Callable[[dict[str, Any]], Any]) -> Any:
    """The objects of a file; take makes an array of what it is called there."""

    def made(node: Any) -> Any:
        ((kind, inner),) = node.items()
        if kind == "optimizer":
            return state(state_dict_of(inner, members))
        if kind == "layer":
            return state(inner | {key: members.read(entry) for key, entry in members.next_group().items()})
        if kind == "array":
            (entry,) = members.next_group().values()
            return take(entry)
        if kind == "value" and isinstance(inner, _Value):
            return inner
        items = checked_list(kind, inner)
        if kind == "dict":
            made_items = {key_of_json(key): made(item) for key, item in items}
            if len(made_items) < len(items):
                raise ValueError("a key is there twice")
            return made_items
        return {"list": list, "tuple": tuple}[kind](map(made, items))

    tree = made(members.about["tree"])
    members.require_no_more()
    return tree


class _Fit:
    """What makes objects those of a file: found while they are compared, done when all of it has been found."""

    def __init__(self) -> None:
        self.arrays: list[tuple[Stored, NDArray[Any], Any]] = []  # with the objects that share their memory
        self.changes: list[Callable[[], object]] = []  # which can't fail

    def add(self, name: str, into: Any, found: Any, replace: Callable[[Any], object] | None = None) -> None:
        """Compares an object with what the file has for it; replace puts another into its container."""
        if isinstance(into, Optimizer | Split | BatchNorm | Dropout):
            if not isinstance(found, _State):
                raise _differs(name, f"a {type(into).__name__}", found)
            try:
                self.changes.append(into._loader(found.state_dict))
            except (ImportError, TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from error
        elif isinstance(into, dict | list | tuple):
            self._add_items(name, into, found)
        elif isinstance(into, _Value | np.generic):
            if not isinstance(found, _Value):
                raise _differs(name, f"the value {shown(into)}", found)
            if replace is not None:
                self.changes.append(partial(replace, found))
            elif found != into and not (found != found and into != into):  # NaN stays NaN
                raise ValueError(f"{name} is {shown(into)}, which can't be replaced: the file has {shown(found)}")
        else:
            array = array_of(name, into)
            here = f"an array of shape {array.shape} and dtype {array.dtype}"
            if not isinstance(found, Stored) or array.shape != found.shape or not _same_type(array.dtype, found.dtype):
                raise _differs(name, here, found)
            if not array.flags.writeable:
                raise ValueError(f"{name} is read-only")
            self.arrays.append((found, array, into))

    def _add_items(self, name: str, into: Any, found: Any) -> None:
        if type(found).__name__ != _container(into):
            raise _differs(name, f"a {_container(into)}", found)
        if isinstance(into, dict):
            if more := [key for key in found if key not in into]:
                raise ValueError(f"{name} lacks {more[0]!r}, which the file has")
            if more := [key for key in into if key not in found]:
                raise ValueError(f"{name} has {more[0]!r}, which the file lacks")
        elif len(into) != len(found):
            raise ValueError(f"{name} has length {len(into)}, the file has {len(found)}")
        for key in found if isinstance(into, dict) else range(len(found)):
            replace = None if isinstance(into, tuple) else partial(into.__setitem__, key)
            self.add(f"{name}[{key!r}]", into[key], found[key], replace)


def _same_type(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    return dtype == other or dtype.newbyteorder("=") == other.newbyteorder("=")


def _differs(name: str, here: str, found: Any) -> ValueError:
    if isinstance(found, Stored):
        there = f"an array of shape {found.shape} and dtype {found.dtype}"
    elif isinstance(found, _State):
        there = "the state of an optimizer or a layer"
    elif isinstance(found, dict | list | tuple):
        there = f"a {type(found).__name__}"
    else:
        there = f"the value {shown(found)}"
    return ValueError(f"{name} is {here}, the file has {there}")
