"""The limit of an update: the reads and writes of a rule and next to no arithmetic, compiled at first use."""

import ctypes
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ninja
import numpy as np

import fusedstep as fs
from benchmarks.workloads import RULES, Array

_ROOT = Path(__file__).parent.parent
_BUILD = _ROOT / "build" / "limit"
_MAX_STATES = 4


class _Item(ctypes.Structure):
    _fields_ = (("end", ctypes.c_int64), ("arrays", ctypes.c_void_p * (2 + _MAX_STATES)))


class _Job(ctypes.Structure):
    _fields_ = (
        ("parameter_bytes", ctypes.c_int64),
        ("state_bytes", ctypes.c_int64),
        ("states", ctypes.c_int64),
        ("items", ctypes.c_int64),
        ("first", ctypes.POINTER(_Item)),
        ("mask", ctypes.c_uint64),
        ("whole", ctypes.c_int64),
        ("reads", ctypes.c_int64),
    )


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the limit doesn't build: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


@cache
def _build() -> None:
    """Builds what isn't up to date, from this repository; fusedstep itself may be installed from a wheel."""
    cmake = (sys.executable, "-m", "cmake")
    options = ("-DFUSEDSTEP_NATIVE=ON", "-DSKBUILD_PROJECT_VERSION=0")
    make = f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}"
    _run(*cmake, "-S", _ROOT, "-B", _BUILD, "-G", "Ninja", make, *options)
    _run(*cmake, "--build", _BUILD, "--target", "limit")


@cache
def _function(isa: str) -> Callable[[Any, int], int]:
    _build()
    name = f"limit_{isa.replace('-', '_')}.so"
    function = ctypes.CDLL(str(_BUILD / "benchmarks" / "native" / name)).fusedstep_limit
    function.argtypes, function.restype = (ctypes.POINTER(_Job), ctypes.c_int), ctypes.c_int
    return function


class Limit:
    """An optimizer that leaves weights and states as they are.

    It has the instruction set and the number of threads of fusedstep, and a copy of its thread pool.

    Arguments:
        rule: The rule that it reads and writes like, or the names of the states of one.
        state: The state of an optimizer, to use the same memory; its own by default.
        mask: The bits of a gradient that are added to weight and states as integers, and kept in gradients: for a test
            of what is written.
        whole: Whether it reads and writes like a step with clip_norm, average and zero_grads.
        reads: The arrays that are read once before, as for norms: parameter, gradient, states; the gradient again for
            those that are left.
    """

    def __init__(
        self,
        rule: str | tuple[str, ...],
        state: dict[Any, dict[str, Array]] | None = None,
        mask: int = 0,
        *,
        whole: bool = False,
        reads: int = 0,
    ) -> None:
        self._names = (RULES[rule] if isinstance(rule, str) else rule) + (("average",) if whole else ())
        self._state = {} if state is None else state
        self._function = _function(fs.isa())
        self._job = _Job(states=len(self._names), mask=mask, whole=whole, reads=reads)
        self._items: ctypes.Array[_Item] | None = None
        self._arrays: list[Array] = []  # they outlive the pointers to them
        self._grads: list[Array] = []

    def prepare(self, params: Mapping[Any, Array], grads: Mapping[Any, Array]) -> Callable[[], None]:
        """An update as a function, with all pointers found: those of 1000 weights take longer than their update."""
        if self._items is None:
            self._items = self._bind(params)
        self._grads = [grads[key] for key in params]
        for item, w, g in zip(self._items, params.values(), self._grads, strict=True):
            item.arrays[1] = _pointer(g, w.size, w.itemsize)
        return self._run

    def update(self, params: Mapping[Any, Array], grads: Mapping[Any, Array]) -> None:
        """An update of the parameters of the first call; gradients may be other arrays each time."""
        self.prepare(params, grads)()

    def _run(self) -> None:
        if self._function(self._job, fs.get_num_threads()):
            raise ValueError(f"the limit has no loop for {self._job.states} states of {self._job.state_bytes} bytes")

    def _bind(self, params: Mapping[Any, Array]) -> ctypes.Array[_Item]:
        dtype = next(iter(params.values())).dtype
        state_type = np.promote_types(dtype, np.float32)
        items = (_Item * len(params))()
        end = 0
        for item, (key, w) in zip(items, params.items(), strict=True):
            if key not in self._state:
                self._state[key] = {name: np.zeros(w.shape, state_type) for name in self._names}
            states = [self._state[key][name] for name in self._names]
            self._arrays += [w, *states]
            end += w.size
            item.end = end
            item.arrays[0] = _pointer(w, w.size, dtype.itemsize)
            for i, state in enumerate(states, 2):
                item.arrays[i] = _pointer(state, w.size, state_type.itemsize)
        self._job.parameter_bytes, self._job.state_bytes = dtype.itemsize, state_type.itemsize
        self._job.items, self._job.first = len(items), items
        return items


def _pointer(array: Array, size: int, itemsize: int) -> int:
    assert array.flags.forc
    assert (array.size, array.itemsize) == (size, itemsize)
    return array.ctypes.data
