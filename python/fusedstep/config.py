"""Threads, instruction sets, subnormal numbers: the settings of the process, and a summary of them."""

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fusedstep import _native
from fusedstep._limits import checked_flag, checked_integer, shown

_MAX_THREADS = 1024


def set_num_threads(n: int) -> None:
    """Sets the number of threads that a call may use, the calling one included.

    The default is FUSEDSTEP_NUM_THREADS, else OMP_NUM_THREADS, else the number of processors that the process may use:
    those of its affinity mask, or those of a container's CPU quota if that is lower. Small calls run on the calling
    thread alone. Results don't depend on the number.

    Raises:
        ValueError: n is not from 1 to 1024.
    """
    count = checked_integer("the number of threads", n)
    if not 1 <= count <= _MAX_THREADS:
        raise ValueError(f"the number of threads is {shown(n)}, expected 1 to {_MAX_THREADS}")
    _native.set_num_threads(count)


def get_num_threads() -> int:
    """The number of threads that a call may use, the calling one included."""
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
    given: Any = name
    if not isinstance(given, str) or given not in isas() or not _native.use_isa(given):
        raise ValueError(f"the instruction set is {shown(name)}, expected one of {', '.join(isas())}")


def set_flush_subnormals(flag: bool) -> None:
    """Sets whether kernels flush subnormal numbers to zero, as they do by default.

    Moments decay into subnormal numbers when gradients stay zero, and processors are 20 to 30 times slower on these. So
    if a number or an intermediate result is subnormal (below 1.2e-38 in float32, 2.2e-308 in float64), results differ
    from those of `fusedstep.reference`; with False they have the same bits. The caller's own floating-point mode is
    never changed.
    """
    _native.set_flush_subnormals(checked_flag("flag", flag))


def set_buffer_cache(size: int) -> None:
    """Sets how many bytes of unused results are kept for new ones: 512 MiB by default, 0 to keep nothing.

    Without out, batch normalisation and dropout return an array in the memory of an earlier result of the same size
    that is no longer used, if there is one, which saves the page faults of new memory. Memory above the limit is freed,
    the oldest first. Arrays below 256 KiB are not kept.

    Raises:
        ValueError: size is negative.
    """
    count = checked_integer("the size of the buffer cache", size)
    if not 0 <= count <= sys.maxsize:
        raise ValueError(f"the size of the buffer cache is {shown(size)}, expected 0 or more bytes")
    _native.set_buffer_cache(count)


def get_include() -> str:
    """The folder of fusedstep.h, for building C, C++ and Cython code that calls the kernels."""
    return str(Path(__file__).parent / "include")


def show_config() -> None:
    """Prints the facts for a bug report: versions, compiler, instruction sets, threads."""
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
    return min(_usable_processors(), _MAX_THREADS)


def _usable_processors(root: Path = Path("/")) -> int:
    """The number of processors that affinity mask and CPU quotas allow. root: the folder of /proc and /sys."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(root)]))


def _quotas(root: Path) -> Iterator[int]:
    """Yields the CPU quotas of the control groups that the process is in, in processors, rounded up."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, entry = line.partition(":")
        controllers, _, path = entry.partition(":")
        if not controllers:  # version 2; "unified" is its mount beside version 1
            mounts, files = ["", "unified"], ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mounts, files = ["cpu", "cpu,cpuacct"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        # Quotas of all parent groups hold too. In a container the path may be the host's, which doesn't exist inside:
        # then the root is the container's own group.
        group = PurePosixPath("/", path)
        for mount in mounts:
            for folder in [group, *group.parents]:
                there = root / "sys/fs/cgroup" / mount / folder.relative_to("/")
                words = " ".join(_text(there / file) for file in files).split()
                # Without a quota it is "max" or -1.
                if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
                    yield -(-int(words[0]) // int(words[1]))


def _text(path: Path) -> str:
    """The text of a file, empty if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _apply_environment() -> None:
    set_num_threads(_default_threads())
    if name := os.environ.get("FUSEDSTEP_ISA"):
        try:
            use_isa(name)
        except ValueError as error:
            raise ValueError(f"FUSEDSTEP_ISA: {error}") from None


_apply_environment()
