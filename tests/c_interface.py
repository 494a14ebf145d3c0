"""The functions of the C interface as callables for Python: those of the table and those that Cython code gets."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fusedstep as fs
import fusedstep._native
import fusedstep.cython_api

HEADER = Path(fs.get_include()) / "fusedstep.h"
TYPES = {
    "int": ctypes.c_int,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "double": ctypes.c_double,
    "const char *": ctypes.c_char_p,
}

_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_get_name = ctypes.pythonapi.PyCapsule_GetName
_get_name.restype, _get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]

Signature = tuple[str, list[str]]


def _c_type(text: str) -> Any:
    return TYPES.get(text) or (ctypes.c_void_p if "*" in text else None)


def _signatures() -> dict[str, Signature]:
    """Result and arguments of each function of the table, in its order, as fusedstep.h has them."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    table = text[text.index("typedef struct fusedstep_api {") : text.index("} fusedstep_api;")]
    found = re.findall(r"(const char \*|int )\(\*(\w+)\)\(([^)]*)\);", table)
    arguments = ([re.sub(r"\w+$", "", part.strip()).strip() for part in given.split(",")] for _, _, given in found)
    return {
        name: (result.strip(), [] if parts == [""] else parts)
        for (result, name, _), parts in zip(found, arguments, strict=True)
    }


SIGNATURES = _signatures()


def _callable(name: str, pointer: int) -> Callable[..., Any]:
    result, arguments = SIGNATURES[name]
    return ctypes.CFUNCTYPE(_c_type(result), *map(_c_type, arguments))(pointer)  # without the GIL


def _table() -> tuple[int, int, dict[str, Callable[..., Any]]]:
    capsule: Any = fusedstep._native.c_api
    address = _get_pointer(capsule, b"fusedstep._native.c_api")
    version, size = (ctypes.c_int32 * 2).from_address(address)
    pointers = (ctypes.c_void_p * len(SIGNATURES)).from_address(address + 8)
    return version, size, {name: _callable(name, pointers[i] or 0) for i, name in enumerate(SIGNATURES)}


def _cython() -> dict[str, Callable[..., Any]]:
    capsules = vars(fusedstep.cython_api)["__pyx_capi__"]
    return {name: _callable(name, _get_pointer(capsule, _get_name(capsule))) for name, capsule in capsules.items()}


VERSION, SIZE, TABLE = _table()
CYTHON = _cython()
