"""Files of an optimizer's state: NumPy's .npz without pickle, replaced as a whole."""

import errno
import json
import os
import secrets
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusedstep._native import version
from fusedstep.optimizers import Optimizer

_FORMAT, _VERSION = "fusedstep optimizer state", 2
_ABOUT = "about"
# The errors that reading a damaged file raises.
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class _UnfitError(Exception):
    """A file that is not damaged, but can't be loaded; the message says why."""


def save_state(path: str | os.PathLike[str], optimizer: Optimizer) -> None:
    """Writes the state of an optimizer, as `Optimizer.state_dict` returns it, to a file.

    A new file is written in the same folder and renamed, so whatever interrupts this, the old file or the new one is
    there, whole. (A process that is killed leaves the unfinished file, `.<name>.<16 digits>.unfinished`.) A
    learning-rate schedule is left out.

    Arguments:
        path: The file; it is replaced if there is one.
        optimizer: An optimizer of `fusedstep` or `fusedstep.book`.

    Raises:
        TypeError: A key of the state is neither a string nor an integer.
        OSError: The file can't be written. An old one hasn't changed.
    """
    state_dict = optimizer.state_dict()
    (name,) = set(state_dict) - {"iterations", "state", "steps"}
    keys = [_checked_key(key) for key in state_dict["state"]]
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "fusedstep": version,
        "optimizer": name,
        "hyperparameters": state_dict[name],
        "iterations": state_dict["iterations"],
        "keys": keys,
        "steps": list(state_dict["steps"].values()) if "steps" in state_dict else None,
    }
    entries = {
        f"{i}.{letter}": array
        for i, arrays in enumerate(state_dict["state"].values())
        for letter, array in arrays.items()
    }
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            np.savez(file, **{_ABOUT: np.array(json.dumps(about))}, **entries)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(target.parent)


def load_state(path: str | os.PathLike[str], optimizer: Optimizer) -> None:
    """Loads a file of `save_state` into an optimizer, as `Optimizer.load_state_dict` does.

    The next update is then the same as the next one of the saved optimizer. A learning-rate schedule is not changed.

    Raises:
        ValueError: The file isn't one of `save_state`, is damaged, is of a newer format, or of another class. Nothing
            has changed.
        OSError: The file can't be read.
    """
    with Path(path).open("rb") as file:
        try:
            state_dict = _read(file)
        except _UnfitError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
        except OSError as error:  # a damaged archive may have offsets outside the file
            if error.errno != errno.EINVAL:
                raise
            raise ValueError(f"{os.fspath(path)}: is damaged, or not a file of save_state: {error}") from error
        except _DAMAGE as error:
            raise ValueError(f"{os.fspath(path)}: is damaged, or not a file of save_state: {error}") from error
    optimizer.load_state_dict(state_dict)


def _read(file: BinaryIO) -> dict[str, Any]:
    arrays = np.load(file, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile) or _ABOUT not in arrays:
        raise _UnfitError("is not a file of save_state")
    about = json.loads(str(arrays[_ABOUT]))
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise _UnfitError("is not a file of save_state")
    if about["version"] > _VERSION:
        raise _UnfitError(f"has format {about['version']}, this version of fusedstep reads up to {_VERSION}")
    keys = [_checked_key(key) for key in about["keys"]]
    state: dict[Any, dict[str, Any]] = {key: {} for key in keys}
    for entry in set(arrays.files) - {_ABOUT}:
        i, _, letter = entry.partition(".")
        state[keys[int(i)]][letter] = arrays[entry]
    state_dict = {"iterations": about["iterations"], about["optimizer"]: about["hyperparameters"], "state": state}
    if about["version"] > 1 and (steps := about["steps"]) is not None:
        state_dict["steps"] = dict(zip(keys, steps, strict=True))
    return state_dict


def _checked_key(key: Any) -> str | int:
    if isinstance(key, np.integer):
        key = int(key)
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise TypeError(f"the state has key {key!r}, expected a string or an integer")
    return key


def _sync_folder(folder: Path) -> None:
    """Makes the rename survive a power failure, on systems that can sync folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
