"""Threads, instruction sets, subnormal numbers: the settings of the process, and a summary of them."""

import operator
import os
import platform
import sys
from pathlib import Path

import numpy as np

from fusedstep import _native

_MAX_THREADS = 1024


def set_num_threads(n: int) -> None:
    """Sets how many threads a step may use, the calling one included.

    It starts as FUSEDSTEP_NUM_THREADS, else OMP_NUM_THREADS, else the number of processors that the process may run on.
    Small steps run on the calling thread alone. Results don't depend on it.

    Raises:
        ValueError: n is not from 1 to 1024.
    """
    try:
        count = operator.index(n)
    except TypeError:
        raise TypeError(f"the number of threads is {n!r}, expected an integer") from None
    if not 1 <= count <= _MAX_THREADS:
        raise ValueError(f"the number of threads is {n!r}, expected 1 to {_MAX_THREADS}")
    _native.set_num_threads(count)


def get_num_threads() -> int:
    """How many threads a step may use, the calling one included."""
    return _native.get_num_threads()


def isas() -> tuple[str, ...]:
    """The instruction sets that this processor has kernels for, from the plainest to the newest."""
    return _native.isas()


def isa() -> str:
    """The instruction set whose kernels are in use: FUSEDSTEP_ISA, else the newest."""
    return _native.isa()


def use_isa(name: str) -> None:
    """Uses the kernels of one of `isas()` from now on. Results don't depend on it.

    Raises:
        ValueError: This processor has no kernels of that name.
    """
    if name not in isas() or not _native.use_isa(name):
        raise ValueError(f"the instruction set is {name!r}, expected one of {', '.join(isas())}")


def set_flush_subnormals(flag: bool) -> None:
    """Sets whether kernels flush subnormal numbers to zero, as they do at first.

    Moments of gradients that have died decay into subnormal numbers, on which processors are 20 to 30 times slower.
    So where a number or an intermediate result is subnormal (below 1.2e-38 in float32, 2.2e-308 in float64), results
    differ from those of `fusedstep.reference`; with False they have the same bits there too. The caller's own
    floating-point mode is never touched.
    """
    _native.set_flush_subnormals(flag)


def set_buffer_cache(size: int) -> None:
    """Sets how many bytes of dead results may be kept for new ones: 512 MiB at first, 0 to keep nothing.

    The array that batch normalisation or dropout returns when it is not told where to takes the memory of one of its
    size that died, if there is one, and so pays no page faults. What is kept above the limit is freed, the oldest
    first. Arrays below 256 KiB are not kept.

    Raises:
        ValueError: size is negative.
    """
    try:
        count = operator.index(size)
    except TypeError:
        raise TypeError(f"the size of the buffer cache is {size!r}, expected an integer") from None
    if not 0 <= count <= sys.maxsize:
        raise ValueError(f"the size of the buffer cache is {size!r}, expected 0 or more bytes")
    _native.set_buffer_cache(count)


def get_include() -> str:
    """The folder of fusedstep.h, for building C code that calls the kernels. Cython code doesn't need it."""
    return str(Path(__file__).parent / "include")


def show_config() -> None:
    """Prints what a bug report needs: versions, compiler, instruction sets, threads."""
    print(
        f"fusedstep {_native.version}, built with {_native.compiler}\n"
        f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}\n"
        f"instruction sets: {', '.join(f'[{name}]' if name == isa() else name for name in isas())}\n"
        f"threads: {get_num_threads()}\n"
        f"buffer cache: up to {_native.get_buffer_cache()} bytes\n"
        f"subnormal numbers: {'flushed to zero' if _native.get_flush_subnormals() else 'kept'}"
    )


def _default_threads() -> int:
    if own := os.environ.get("FUSEDSTEP_NUM_THREADS"):
        if not own.isdecimal() or not 1 <= int(own) <= _MAX_THREADS:
            raise ValueError(f"FUSEDSTEP_NUM_THREADS is {own!r}, expected 1 to {_MAX_THREADS}")
        return int(own)
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if shared.isdecimal() and int(shared) > 0:
        return min(int(shared), _MAX_THREADS)
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(allowed, _MAX_THREADS)


def _apply_environment() -> None:
    set_num_threads(_default_threads())
    if name := os.environ.get("FUSEDSTEP_ISA"):
        try:
            use_isa(name)
        except ValueError as error:
            raise ValueError(f"FUSEDSTEP_ISA: {error}") from None


_apply_environment()
