"""Files of an optimizer's state."""

from typing import Any, BinaryIO

from numpy.typing import NDArray

from fusedstep._archive import STATE, StateFile, checked_key, json_value, opened, write_file
from fusedstep._members import Members, UnfitError, checked_list, fitting, key_of_json, reading, with_file
from fusedstep.optimizers import Optimizer, Split


def save_state(path: StateFile, optimizer: Optimizer | Split) -> None:
    """Writes the state of an optimizer, as `Optimizer.state_dict` returns it, to a file.

    A new file is written in the same folder and renamed, so whatever interrupts this, the old file or the new one is
    there, whole. (A process that is killed leaves the unfinished file, `.<name>.<16 digits>.unfinished`, in which a
    long name is cut.) Links stay, and so do the mode and, if the system allows it, the owner and group of an old file.
    Devices and pipes are written to. Schedules and the matches of groups are left out.

    Arguments:
        path: The file; it is replaced if there is one. Or a binary file that is open, which is written from its
            current position on.
        optimizer: An optimizer of `fusedstep` or `fusedstep.book`, or a `Split`.

    Raises:
        TypeError: A key of the state is neither a string nor an integer nor a tuple of these, or a hyper-parameter of
            a class of your own is nothing that JSON has.
        OSError: The file can't be written. An old one hasn't changed.
    """
    opened(path, "write")  # an error before the state is copied
    _require_optimizer(optimizer)
    write_file(path, STATE, *described(optimizer))


def load_state(path: StateFile, optimizer: Optimizer | Split) -> None:
    """Loads a file of `save_state` into an optimizer, as `Optimizer.load_state_dict` does.

    The next update is then the same as the next one of the saved optimizer. Schedules are not changed.

    Arguments:
        path: The file, or a binary file that is open, which is read from its current position to its end.
        optimizer: An optimizer of the class that was saved, or a `Split` of such optimizers.

    Raises:
        ValueError: The file isn't one of `save_state`, is damaged, is of a newer format, or of another class, or it has
            state in bfloat16 and ml_dtypes can't be imported. Nothing has changed.
        OSError: The file can't be read.
    """
    opened(path, "read")
    _require_optimizer(optimizer)

    def load(name: str, file: BinaryIO) -> None:
        with reading(name, STATE):
            state_dict = _read(Members(file, STATE), optimizer)
        with fitting(name):
            optimizer.load_state_dict(state_dict)

    with_file(path, load)


def _require_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer | Split):
        expected = "one of fusedstep (fusedstep.save takes layers and arrays too)"
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected {expected}")


def described(optimizer: Optimizer | Split) -> tuple[dict[str, Any], list[dict[str, NDArray[Any]]]]:
    """The state of an optimizer: what a description has of it, and a group of arrays for each key."""
    state_dict = optimizer.state_dict()
    if isinstance(optimizer, Split):
        snapshots = state_dict["optimizers"]
        own = {key: value for key, value in state_dict.items() if key != "optimizers"}
        parts = [_part(one._full_name(), snapshots[i]) for i, (_, one) in enumerate(optimizer.pairs)]
        about: dict[str, Any] = {"split": own, "optimizers": parts}
    else:
        snapshots = [state_dict]
        about = _part(optimizer._full_name(), state_dict)
    return about, [arrays for snapshot in snapshots for arrays in snapshot["state"].values()]


def _part(name: str, state_dict: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's part of the description."""
    if more := set(state_dict) - {"iterations", "skipped", "state", "steps", name}:
        raise TypeError(f"{', '.join(sorted(map(str, more)))} of the state dict can't be saved in a file")
    return {
        "optimizer": name,
        "hyperparameters": {key: json_value(key, value) for key, value in state_dict[name].items()},
        "iterations": state_dict["iterations"],
        "skipped": state_dict["skipped"],
        "keys": [checked_key(key) for key in state_dict["state"]],
        "steps": list(state_dict["steps"].values()) if "steps" in state_dict else None,
    }


def _read(members: Members, optimizer: Optimizer | Split) -> dict[str, Any]:
    about = members.about
    is_split = "split" in about
    parts = checked_list("optimizers", about["optimizers"]) if is_split else [about]
    own = [optimizer for _, optimizer in optimizer.pairs] if isinstance(optimizer, Split) else [optimizer]
    if len(parts) != len(own) or is_split != isinstance(optimizer, Split):
        expected = _kind(isinstance(optimizer, Split), len(own))
        raise UnfitError(f"has the state of {_kind(is_split, len(parts))}, expected that of {expected}")
    for part, one in zip(parts, own, strict=True):
        lacks = about["version"] > 1 and part["steps"] is None
        if lacks and part["optimizer"] == one._full_name() and one._counts_steps:
            raise ValueError("it has no steps")
    state_dict = state_dict_of(about, members)
    members.require_no_more()
    return state_dict


def _kind(is_split: bool, count: int) -> str:
    return f"a Split of {count}" if is_split else "one optimizer"


def state_dict_of(about: dict[str, Any], members: Members) -> dict[str, Any]:
    """What `load_state_dict` takes, from a description and the next groups of arrays."""
    if "split" in about:
        parts = checked_list("optimizers", about["optimizers"])
        own: dict[str, Any] = about["split"]
        return own | {"optimizers": [_snapshot(part, members) for part in parts]}
    return _snapshot(about, members)


def _snapshot(about: dict[str, Any], members: Members) -> dict[str, Any]:
    keys = [key_of_json(key) for key in checked_list("keys", about["keys"])]
    if len(set(keys)) < len(keys):
        raise ValueError("a key is there twice")
    state = {key: {name: members.read(entry) for name, entry in members.next_group().items()} for key in keys}
    snapshot = {
        "iterations": about["iterations"],
        "skipped": about.get("skipped", 0),
        about["optimizer"]: about["hyperparameters"],
        "state": state,
    }
    if about.get("steps") is not None:  # 0.1.0 had none
        snapshot["steps"] = dict(zip(keys, checked_list("steps", about["steps"]), strict=True))
    return snapshot
