"""Writes files of arrays with a description: NumPy's .npz without pickle, replaced as a whole."""

import contextlib
import io
import json
import os
import secrets
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from fusedstep._limits import shown
from fusedstep._native import version
from fusedstep.optimizers.snapshots import is_bfloat16

# A name, or a binary file that is open.
StateFile: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | BinaryIO

ABOUT = "about"
# By the name of a format: its version, and the functions that write and read it.
STATE, CHECKPOINT = "fusedstep optimizer state", "fusedstep checkpoint"
FORMATS = {STATE: (2, "save_state", "load_state"), CHECKPOINT: (1, "save", "load")}


def opened(path: Any, method: str) -> Any:
    """The file if it is open, None if it is a name."""
    if isinstance(path, str | bytes | os.PathLike):
        return None
    if isinstance(path, io.TextIOBase) or not hasattr(path, method):
        raise TypeError(f"path is a {type(path).__name__}, expected a path or a binary file")
    return path


def write_file(path: StateFile, form: str, about: dict[str, Any], groups: list[dict[str, NDArray[Any]]]) -> None:
    """Writes a description and groups of arrays, each array under the number of its group and its name."""
    entries = {f"{i}.{name}": array for i, arrays in enumerate(groups) for name, array in arrays.items()}
    # NumPy's format has no bfloat16: its bits are saved.
    narrow = [name for name, array in entries.items() if is_bfloat16(array.dtype)]
    entries |= {name: entries[name].view(np.uint16) for name in narrow}
    about = {"format": form, "version": FORMATS[form][0], "fusedstep": version} | about | {"bfloat16": narrow}
    entries = {ABOUT: np.array(json.dumps(about))} | entries
    file = opened(path, "write")
    if file is not None:
        _write(_Stream(file), entries)
    else:
        _save(os.fsdecode(cast(str, path)), entries)


def json_value(name: str, value: Any) -> Any:
    """The value if JSON has it, a number of NumPy as Python's; TypeError if not."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {shown(value)}, which can't be saved in a file: {error}") from None
    return value


def checked_key(key: Any, owner: str = "the state") -> Any:
    """A key that a file can have, a number of NumPy as Python's; TypeError if it is another."""
    if isinstance(key, tuple):
        return tuple(checked_key(part, owner) for part in key)
    if isinstance(key, np.integer):
        key = int(key)
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise TypeError(f"{owner} has key {key!r}, expected a string or an integer, or a tuple of them")
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
