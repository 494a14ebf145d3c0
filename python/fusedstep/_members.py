"""Reads files of arrays with a description without trust: what is damaged or made up is an error, never an array."""

import contextlib
import errno
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fusedstep._archive import ABOUT, FORMATS, StateFile, checked_key, opened
from fusedstep.optimizers.options import bfloat16

_T = TypeVar("_T")

_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_DEFLATED = 1032  # bytes that one byte can stand for
_CHUNK = 1 << 20


class UnfitError(Exception):
    """A file that is not damaged, but can't be loaded; the message says why."""


def with_file(path: StateFile, function: Callable[[str, BinaryIO], _T]) -> _T:
    """Calls a function with the name of a file, which is for errors, and the file, which has positions."""
    given = opened(path, "read")
    if given is not None:
        return function(f"path (a {type(given).__name__})", io.BytesIO(given.read()))
    name = os.fsdecode(cast(str, path))
    with open(name, "rb") as file:  # noqa: PTH123 - a Path would drop a slash at the end
        return function(name, file if file.seekable() else io.BytesIO(file.read()))


@contextlib.contextmanager
def reading(name: str, form: str) -> Iterator[None]:
    """A context in which errors, of whatever kind, are ValueErrors that name the file."""
    try:
        yield
    except UnfitError as error:
        raise ValueError(f"{name}: {error}") from None
    except MemoryError:  # of a size that the file has
        raise
    except Exception as error:  # zipfile, NumPy and json raise many kinds for what is damaged
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: an offset outside of it
            raise
        raise ValueError(f"{name}: is damaged, or not a file of {FORMATS[form][1]}: {error}") from error


@contextlib.contextmanager
def fitting(name: str) -> Iterator[None]:
    """A context in which errors of what a file is loaded into name the file."""
    try:
        yield
    except (ImportError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


class Stored(NamedTuple):
    """An array of a file that has been checked and is not in memory."""

    entry: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Members:
    """The arrays of a file, read one by one, each only if the file has as much data as its header says.

    Attributes:
        about: The description.
    """

    def __init__(self, file: BinaryIO, form: str) -> None:
        self._archive = zipfile.ZipFile(file)
        infos = self._archive.infolist()
        self._infos = {info.filename.removesuffix(".npy"): info for info in infos if info.filename.endswith(".npy")}
        if len(self._infos) < len(infos):
            raise ValueError("a member is there twice, or is no array")
        if min((info.header_offset for info in infos), default=0) != 0:
            raise ValueError("it has other data before it, like another such file")
        for info in infos:
            most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATED)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > most:
                raise ValueError(f"{info.filename} has a wrong size or compression")
        if sum(info.compress_size for info in infos) > file.seek(0, io.SEEK_END):
            raise ValueError("it has less data than its members")
        self._narrow: frozenset[str] = frozenset()
        self.about: dict[str, Any] = self._description(form)
        self._narrow = frozenset(checked_list("bfloat16", self.about.get("bfloat16", [])))
        self._groups: dict[int, dict[str, str]] = {}
        self._taken = 0
        for entry in self._infos:
            if entry != ABOUT:
                match = re.fullmatch(r"(0|[1-9][0-9]{0,17})\.(\w+)", entry, re.ASCII)
                if match is None:
                    raise ValueError(f"{entry!r} belongs to no key")
                self._groups.setdefault(int(match[1]), {})[match[2]] = entry

    def _description(self, form: str) -> dict[str, Any]:
        newest, made_by, _ = FORMATS[form]
        about: Any = None
        if ABOUT in self._infos:
            about = json.loads(str(self.read(ABOUT, "U")), object_pairs_hook=_object)
        given = about.get("format") if isinstance(about, dict) else None
        if given != form:
            others = {name: functions for name, (_, *functions) in FORMATS.items() if name == given}
            hint = "".join(f", but one of fusedstep.{made}, for fusedstep.{read}" for made, read in others.values())
            raise UnfitError(f"is not a file of {made_by}{hint}")
        given = about["version"]
        if type(given) is not int or given < 1:
            raise ValueError(f"version is {given!r}")
        if given > newest:
            raise UnfitError(f"has format {given}, this version of fusedstep reads up to {newest}")
        return dict(about)

    def next_group(self) -> dict[str, str]:
        """What the arrays of the next group are called in the file, by their names."""
        self._taken += 1
        return self._groups.pop(self._taken - 1, {})

    def require_no_more(self) -> None:
        """ValueError if there is an array of a group that wasn't asked for."""
        for names in self._groups.values():
            raise ValueError(f"{next(iter(names.values()))!r} belongs to no key")

    def read(self, entry: str, kinds: str = "f") -> NDArray[Any]:
        """An array, of one of some kinds of NumPy's types."""
        info = self._infos[entry]
        with self._archive.open(info) as member:
            _, dtype = self._header(member, entry, kinds)
        with self._archive.open(info) as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            member.read()  # at the end the checksum is compared
        return array.view(dtype) if entry in self._narrow else array

    def check(self, entry: str, kinds: str) -> Stored:
        """An array of which nothing is kept, but all has been read."""
        with self._archive.open(self._infos[entry]) as member:
            shape, dtype = self._header(member, entry, kinds)
            while member.read(_CHUNK):  # at the end the checksum is compared
                pass
        return Stored(entry, shape, dtype)

    def write(self, stored: Stored, target: NDArray[Any]) -> None:
        """Reads an array into one of its shape and, but for the order of bytes, its type."""
        with self._archive.open(self._infos[stored.entry]) as member:
            _, is_fortran, dtype = _npy_header(member)
            turned = target.T if is_fortran else target
            if turned.flags.c_contiguous and (dtype == target.dtype or stored.entry in self._narrow):
                into = memoryview(cast(Any, turned.reshape(-1).view(np.uint8)))
                done = 0
                while done < len(into):
                    done += cast(Any, member).readinto(into[done : done + _CHUNK]) or _ended(stored.entry)
                return
        np.copyto(target, self.read(stored.entry, dtype.kind))

    def _header(self, member: Any, entry: str, kinds: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and type of an array, which has as much data as they need."""
        is_bits = entry in self._narrow
        shape, _, dtype = _npy_header(member)
        size = self._infos[entry].file_size - member.tell()
        if dtype.kind not in ("u" if is_bits else kinds) or not dtype.itemsize:
            raise ValueError(f"{entry} has dtype {dtype}")
        if is_bits and dtype != np.uint16:
            raise ValueError(f"{entry} has dtype {dtype}, expected the bits of bfloat16 in uint16")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{entry} has shape {shape} and dtype {dtype}, but {size} bytes")
        if is_bits:
            try:
                dtype = np.dtype(bfloat16("an array in bfloat16"))
            except ImportError as error:
                raise UnfitError(str(error)) from None
        return shape, dtype


def _npy_header(member: Any) -> Any:
    try:
        return _NPY_HEADERS[np.lib.format.read_magic(member)](member)
    except MemoryError:  # from Python's parser
        raise ValueError("an array has no valid header") from None


def _ended(entry: str) -> int:
    raise ValueError(f"{entry} has less data than before")


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name of its description is there twice")
    return dict(pairs)


def checked_list(name: str, value: Any) -> list[Any]:
    """A list; ValueError if it is none."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list")
    return value


def key_of_json(key: Any) -> Any:
    """A key, which is a list in JSON if it is a tuple."""
    return checked_key(tuple(map(key_of_json, key)) if isinstance(key, list) else key)
