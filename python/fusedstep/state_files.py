"""Files of an optimizer's state: NumPy's .npz without pickle, replaced as a whole."""

import contextlib
import errno
import io
import json
import math
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fusedstep._native import version
from fusedstep.optimizers import Optimizer, Split
from fusedstep.optimizers.options import bfloat16
from fusedstep.optimizers.snapshots import is_bfloat16

# A name, or a binary file that is open.
StateFile: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | BinaryIO

_FORMAT, _VERSION = "fusedstep optimizer state", 2
_ABOUT = "about"
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_DEFLATED = 1032  # bytes that one byte can stand for


class _UnfitError(Exception):
    """A file that is not damaged, but can't be loaded; the message says why."""


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
    file = _opened(path, "write")
    entries = _entries(optimizer)
    if file is not None:
        _write(_Stream(file), entries)
    else:
        _save(os.fsdecode(cast(str, path)), entries)


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
    given = _opened(path, "read")
    _require_optimizer(optimizer)
    if given is not None:
        name = f"path (a {type(given).__name__})"
        _load(name, io.BytesIO(given.read()), optimizer)
    else:
        name = os.fsdecode(cast(str, path))
        with open(name, "rb") as file:  # noqa: PTH123 - a Path would drop a slash at the end
            _load(name, file if file.seekable() else io.BytesIO(file.read()), optimizer)


def _opened(path: Any, method: str) -> Any:
    """The file if it is open, None if it is a name."""
    if isinstance(path, str | bytes | os.PathLike):
        return None
    if isinstance(path, io.TextIOBase) or not hasattr(path, method):
        raise TypeError(f"path is a {type(path).__name__}, expected a path or a binary file")
    return path


def _require_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer | Split):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, expected one of fusedstep")


# Writing.


def _entries(optimizer: Optimizer | Split) -> dict[str, NDArray[Any]]:
    _require_optimizer(optimizer)
    state_dict = optimizer.state_dict()
    about: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, "fusedstep": version}
    if isinstance(optimizer, Split):
        snapshots = state_dict["optimizers"]
        own = {key: value for key, value in state_dict.items() if key != "optimizers"}
        parts = [_part(one._full_name(), snapshots[i]) for i, (_, one) in enumerate(optimizer.pairs)]
        about |= {"split": own, "optimizers": parts}
    else:
        snapshots = [state_dict]
        about |= _part(optimizer._full_name(), state_dict)
    arrays = [arrays for snapshot in snapshots for arrays in snapshot["state"].values()]
    entries = {f"{i}.{letter}": array for i, letters in enumerate(arrays) for letter, array in letters.items()}
    # NumPy's format has no bfloat16: its bits are saved.
    about["bfloat16"] = [name for name, array in entries.items() if is_bfloat16(array.dtype)]
    entries |= {name: entries[name].view(np.uint16) for name in about["bfloat16"]}
    return {_ABOUT: np.array(json.dumps(about))} | entries


def _part(name: str, state_dict: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's part of the description."""
    if more := set(state_dict) - {"iterations", "skipped", "state", "steps", name}:
        raise TypeError(f"{', '.join(sorted(map(str, more)))} of the state dict can't be saved in a file")
    return {
        "optimizer": name,
        "hyperparameters": {key: _json_value(key, value) for key, value in state_dict[name].items()},
        "iterations": state_dict["iterations"],
        "skipped": state_dict["skipped"],
        "keys": [_checked_key(key) for key in state_dict["state"]],
        "steps": list(state_dict["steps"].values()) if "steps" in state_dict else None,
    }


def _json_value(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}, which can't be saved in a file: {error}") from None
    return value


def _checked_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_checked_key, key))
    if isinstance(key, np.integer):
        key = int(key)
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise TypeError(f"the state has key {key!r}, expected a string or an integer, or a tuple of them")
    return key


class _Stream:
    """A file of which only the writing is used. zipfile then counts from the current position and never goes back."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        done = self._file.write(data)
        while done is not None and done < size:  # an unbuffered file may take less
            done += self._file.write(memoryview(data).cast("B")[done:])
        return size

    def flush(self) -> None:
        if hasattr(self._file, "flush"):
            self._file.flush()


def _write(file: Any, entries: dict[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _save(name: str, entries: dict[str, NDArray[Any]]) -> None:
    path = Path(name)
    status = None
    replaced = name.endswith(path.name or "/")  # else it ends with a slash or a dot, about which open() has an error
    if replaced:
        try:
            status = path.stat()
        except FileNotFoundError:
            path.parent.stat()  # an error if there is no such folder
    target = Path(os.path.realpath(path))
    if status is not None:  # a link of /proc may have a text that is no name
        replaced = stat.S_ISREG(status.st_mode) and target.exists() and target.samefile(path)
    if replaced:
        _replace(target, status, entries)
    else:
        with open(name, "wb") as file:  # noqa: PTH123 - a Path would drop a slash at the end
            _write(_Stream(file), entries)


def _replace(target: Path, status: os.stat_result | None, entries: dict[str, NDArray[Any]]) -> None:
    flags = os.O_WRONLY | getattr(os, "O_BINARY", 0)
    if status is not None:
        os.close(os.open(target, flags))  # an error if it may not be written
    unfinished = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.unfinished")
    descriptor = os.open(unfinished, flags | os.O_CREAT | os.O_EXCL, 0o666 if status is None else 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write(file, entries)
            file.flush()
            os.fsync(file.fileno())
        if status is not None:
            _keep_owner_and_mode(unfinished, status)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _keep_owner_and_mode(path: Path, status: os.stat_result) -> None:
    if hasattr(os, "chown"):
        for owner in (status.st_uid, -1):  # only root may give files away, but anyone to a group of his
            with contextlib.suppress(OSError):
                os.chown(path, owner, status.st_gid)
                break
    path.chmod(stat.S_IMODE(status.st_mode))


def _sync_folder(folder: Path) -> None:
    """Makes the rename survive a power failure, on systems that can sync folders."""
    if os.name == "posix":
        with contextlib.suppress(PermissionError):  # a folder that may be written and not read
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


# Reading.


def _load(name: str, file: BinaryIO, optimizer: Optimizer | Split) -> None:
    try:
        state_dict = _read(file, optimizer)
    except _UnfitError as error:
        raise ValueError(f"{name}: {error}") from None
    except MemoryError:  # of a size that the file has
        raise
    except Exception as error:  # zipfile, NumPy and json raise many kinds for what is damaged
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: an offset outside of it
            raise
        raise ValueError(f"{name}: is damaged, or not a file of save_state: {error}") from error
    try:
        optimizer.load_state_dict(state_dict)
    except (ImportError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _read(file: BinaryIO, optimizer: Optimizer | Split) -> dict[str, Any]:
    members = _Members(file)
    if _ABOUT not in members.infos:
        raise _UnfitError("is not a file of save_state")
    about = json.loads(str(members.read(_ABOUT)), object_pairs_hook=_object)
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise _UnfitError("is not a file of save_state")
    given = about["version"]
    if type(given) is not int or given < 1:
        raise ValueError(f"version is {given!r}")
    if given > _VERSION:
        raise _UnfitError(f"has format {given}, this version of fusedstep reads up to {_VERSION}")
    is_split = "split" in about
    parts = _checked_list("optimizers", about["optimizers"]) if is_split else [about]
    own = [optimizer for _, optimizer in optimizer.pairs] if isinstance(optimizer, Split) else [optimizer]
    if len(parts) != len(own) or is_split != isinstance(optimizer, Split):
        expected = _kind(isinstance(optimizer, Split), len(own))
        raise _UnfitError(f"has the state of {_kind(is_split, len(parts))}, expected that of {expected}")
    snapshots = [_snapshot(part, one, given) for part, one in zip(parts, own, strict=True)]
    states = [state for snapshot in snapshots for state in snapshot["state"].values()]
    narrow = _checked_list("bfloat16", about.get("bfloat16", []))
    for entry in members.infos:
        if entry != _ABOUT:
            match = re.fullmatch(r"(0|[1-9][0-9]{0,17})\.(\w+)", entry, re.ASCII)
            if match is None or int(match[1]) >= len(states):
                raise ValueError(f"{entry!r} belongs to no key")
            states[int(match[1])][match[2]] = members.read(entry, entry in narrow)
    return about["split"] | {"optimizers": snapshots} if is_split else snapshots[0]


def _kind(is_split: bool, count: int) -> str:
    return f"a Split of {count}" if is_split else "one optimizer"


def _snapshot(about: dict[str, Any], optimizer: Optimizer, given: int) -> dict[str, Any]:
    """What `load_state_dict` takes, with state that has no arrays yet."""
    keys = [_key_of_json(key) for key in _checked_list("keys", about["keys"])]
    state: dict[Any, dict[str, Any]] = {key: {} for key in keys}
    if len(state) < len(keys):
        raise ValueError("a key is there twice")
    snapshot = {
        "iterations": about["iterations"],
        "skipped": about.get("skipped", 0),
        about["optimizer"]: about["hyperparameters"],
        "state": state,
    }
    if given > 1 and about["steps"] is not None:
        snapshot["steps"] = dict(zip(keys, _checked_list("steps", about["steps"]), strict=True))
    elif given > 1 and about["optimizer"] == optimizer._full_name() and optimizer._counts_steps:
        raise ValueError("it has no steps")
    return snapshot


class _Members:
    """The arrays of a file, read one by one, each only if the file has as much data as its header says."""

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(file)
        infos = self._archive.infolist()
        self.infos = {info.filename.removesuffix(".npy"): info for info in infos if info.filename.endswith(".npy")}
        if len(self.infos) < len(infos):
            raise ValueError("a member is there twice, or is no array")
        if min((info.header_offset for info in infos), default=0) != 0:
            raise ValueError("it has other data before it, like another such file")
        for info in infos:
            most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATED)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > most:
                raise ValueError(f"{info.filename} has a wrong size or compression")
        if sum(info.compress_size for info in infos) > file.seek(0, io.SEEK_END):
            raise ValueError("it has less data than its members")

    def read(self, entry: str, is_bits: bool = False) -> NDArray[Any]:
        """An array; is_bits: of the bits of bfloat16."""
        info = self.infos[entry]
        with self._archive.open(info) as member:
            shape, _, dtype = _header(member)
            size = info.file_size - member.tell()
            if dtype.kind != ("U" if entry == _ABOUT else "u" if is_bits else "f") or not dtype.itemsize:
                raise ValueError(f"{entry} has dtype {dtype}")
            if is_bits and dtype != np.uint16:
                raise ValueError(f"{entry} has dtype {dtype}, expected the bits of bfloat16 in uint16")
            if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
                raise ValueError(f"{entry} has shape {shape} and dtype {dtype}, but {size} bytes")
        with self._archive.open(info) as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            member.read()  # at the end the checksum is compared
        if not is_bits:
            return array
        try:
            return array.view(bfloat16("its state, which is in bfloat16,"))
        except ImportError as error:
            raise _UnfitError(str(error)) from None


def _header(member: Any) -> Any:
    try:
        return _NPY_HEADERS[np.lib.format.read_magic(member)](member)
    except MemoryError:  # from Python's parser
        raise ValueError("an array has no valid header") from None


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name of its description is there twice")
    return dict(pairs)


def _checked_list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list")
    return value


def _key_of_json(key: Any) -> Any:
    return _checked_key(tuple(map(_key_of_json, key)) if isinstance(key, list) else key)
