"""Threads, processes and the processor's modes."""

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import assert_same_state
from fusedstep import _native

N = 300_000  # enough for several chunks, so for several threads


def steps(optimizer: Any, count: int = 3, n: int = N) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    w = rng.standard_normal(n).astype(np.float32)
    for _ in range(count):
        optimizer.update({"w": w}, {"w": rng.standard_normal(n).astype(np.float32)})
    return w


@contextmanager
def meanwhile(*loops: Callable[[], Any]) -> Iterator[None]:
    """Goes round in each of these, in a thread of its own; whoever waits for the GIL soon gets it."""
    stop, old = threading.Event(), sys.getswitchinterval()

    def go_round(loop: Callable[[], Any]) -> None:
        while not stop.is_set():
            loop()

    workers = [threading.Thread(target=go_round, args=(loop,)) for loop in loops]
    sys.setswitchinterval(1e-6)
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        sys.setswitchinterval(old)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the name of the rule with each crossing into C++ for an update."""
    made: list[str] = []
    update = _native.update

    def counted(optimizers: Any, *arguments: Any) -> Any:
        made.append(optimizers._rule)
        return update(optimizers, *arguments)

    monkeypatch.setattr(_native, "update", counted)
    return made


def test_many_arrays_are_one_call_and_at_most_one_region(calls: list[str]) -> None:
    fs.set_num_threads(2)
    params = {i: np.ones(1000, np.float32) for i in range(200)}
    optimizer = fs.Adam()
    for _ in range(3):
        before = _native.parallel_regions()
        optimizer.update(params, params)
        assert _native.parallel_regions() == before  # the gradient is the parameter: each is done in its turn
    grads = {i: np.ones(1000, np.float32) for i in range(200)}
    for _ in range(3):
        before = _native.parallel_regions()
        optimizer.update(params, grads)
        assert _native.parallel_regions() - before == 1
    assert len(calls) == 6


def test_ten_thousand_arrays_are_one_call_and_one_region(calls: list[str]) -> None:
    fs.set_num_threads(2)
    rng = np.random.default_rng(11)
    params = {i: rng.standard_normal(i % 20).astype(np.float32) for i in range(10_000)}
    expected = {i: w.copy() for i, w in params.items()}
    grads = {i: rng.standard_normal(i % 20).astype(np.float32) for i in params}
    ours, theirs = fs.Adam(), fs.reference.Adam()
    for _ in range(2):
        before = _native.parallel_regions()
        ours.update(params, grads)
        assert _native.parallel_regions() - before == 1
        theirs.update(expected, grads)
    assert calls == ["adam", "adam"]
    for i, w in params.items():
        np.testing.assert_array_equal(w, expected[i])
    assert_same_state(ours, theirs)


def test_small_steps_and_one_thread_need_no_region() -> None:
    before = _native.parallel_regions()
    fs.set_num_threads(2)
    steps(fs.Adam(), n=1000)
    fs.set_num_threads(1)
    steps(fs.Adam())
    assert _native.parallel_regions() == before


def test_eight_python_threads(isa: str) -> None:
    fs.set_num_threads(2)
    expected = steps(fs.reference.Adam())
    x = np.random.default_rng(3).standard_normal((64, 16, 400)).astype(np.float32)
    normalized = fs.batch_norm(x, np.ones(16), np.zeros(16))[0]
    failures: list[Any] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        try:
            for _ in range(5):
                np.testing.assert_array_equal(steps(fs.Adam()), expected)
                np.testing.assert_array_equal(fs.batch_norm(x, np.ones(16), np.zeros(16))[0], normalized)
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert failures == []
    assert not any(worker.is_alive() for worker in workers)


# Without a GIL the next two ended in segmentation faults, or in a gradient's memory being another object's, before what
# they try was locked. With one they can't fail.


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_containers_change_while_a_step_reads_them(kind: str) -> None:
    """Other threads put equal gradients in place of the present ones, and add and remove parameters without one."""
    n, more = 10, range(10, 400)
    params, gradient, extra = {i: np.zeros(4) for i in range(n)}, np.ones(4), np.ones(3)
    grads = dict.fromkeys(range(n), gradient) | dict.fromkeys(more)
    given: Any = params if kind == "dict" else list(params.values())
    read: Any = grads if kind == "dict" else [gradient] * n

    def replace() -> None:
        for i in range(n):
            read[i] = gradient.copy()

    def resize() -> None:
        if kind == "list":  # which keeps its length
            given[:] = list(params.values())
            return
        for i in more:
            given[i] = extra
        for i in more:
            del given[i]

    optimizer = fs.SGD(lr=1.0)
    with meanwhile(replace, replace, resize):
        for _ in range(20_000):
            optimizer.update(given, read)
    for i in range(n):
        np.testing.assert_array_equal(params[i], np.full(4, -20_000.0))


def test_results_are_made_and_die_in_many_threads() -> None:
    x = np.ones((64, 1024), np.float32)
    expected = fs.dropout(x, 0.5, seed=1)

    def make() -> None:
        results = [fs.dropout(x, 0.5, seed=1) for _ in range(6)]
        fs.set_buffer_cache(1 << 20)
        del results

    with meanwhile(make, make, make):
        for _ in range(500):
            np.testing.assert_array_equal(fs.dropout(x, 0.5, seed=1), expected)


def test_settings_change_while_others_step() -> None:
    expected = steps(fs.reference.Adam())
    numbers, names = itertools.cycle(range(1, 8)), itertools.cycle(fs.isas())

    def change() -> None:
        fs.set_num_threads(next(numbers))
        fs.use_isa(next(names))

    with meanwhile(change):
        for _ in range(30):
            np.testing.assert_array_equal(steps(fs.Adam()), expected)


def wait_for(child: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while another thread steps"])
def test_forked_children_finish_a_step(busy: bool) -> None:
    fs.set_num_threads(3)
    expected = steps(fs.reference.Adam())
    np.testing.assert_array_equal(steps(fs.Adam()), expected)
    with meanwhile(*[lambda: steps(fs.Adam(), 1)] * busy):
        for _ in range(20):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork in a process with threads
                child = os.fork()
            if child == 0:
                good = False
                try:
                    good = np.array_equal(steps(fs.Adam()), expected)
                    if sys.platform == "linux":  # the caller and two workers of the child's own
                        good = good and len(list(Path("/proc/self/task").iterdir())) == 3
                finally:
                    os._exit(0 if good else 1)
            assert wait_for(child, 60) == 0
    np.testing.assert_array_equal(steps(fs.Adam()), expected)


LIBM = ctypes.CDLL(None) if os.name == "posix" else None


@pytest.mark.skipif(LIBM is None or not hasattr(LIBM, "fegetround"), reason="needs the C library's fenv functions")
def test_the_callers_floating_point_mode_is_unchanged(isa: str, threads: int, dtype: Any) -> None:
    assert LIBM is not None
    upward = {"x86_64": 0x800, "aarch64": 0x400000}.get(os.uname().machine, 0)
    old = LIBM.fegetround()
    expected = steps(fs.reference.Adam())
    x = np.random.default_rng(5).standard_normal((300, 70)).astype(dtype)
    y = fs.batch_norm(x, np.ones(70), np.zeros(70))[0]
    tiny = np.full(10, np.finfo(dtype).tiny, dtype)
    assert LIBM.fesetround(upward) == 0
    try:
        mode, half_tiny = LIBM.fegetround(), tiny / 2
        got, got_y = fs.Adam(), fs.batch_norm(x, np.ones(70), np.zeros(70))[0]
        w = np.random.default_rng(7).standard_normal(N).astype(np.float32)
        got.update(w, w.copy())
        assert LIBM.fegetround() == mode == upward
        np.testing.assert_array_equal(tiny / 2, half_tiny)
    finally:
        LIBM.fesetround(old)
    np.testing.assert_array_equal(got_y, y)
    assert (tiny / 2 != 0).all()
    np.testing.assert_array_equal(steps(fs.Adam()), expected)


def test_the_gil_is_released() -> None:
    """Another thread gets to run while a long step is under way."""
    fs.set_num_threads(1)
    w, g = np.zeros(20_000_000, np.float32), np.ones(20_000_000, np.float32)
    optimizer = fs.Adam()
    optimizer.update(w, g)
    ticks = []

    def tick() -> None:
        ticks.append(time.perf_counter())
        time.sleep(0)

    with meanwhile(tick):
        sys.setswitchinterval(1000)  # nobody gets the GIL unless its holder gives it up
        begin = time.perf_counter()
        optimizer.update(w, g)
        end = time.perf_counter()
    assert sum(begin < t < end for t in ticks) > 1


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the system has no signals of the user's own")
def test_an_interrupted_step_is_made_and_counted() -> None:
    def interrupt(*_: Any) -> None:
        raise InterruptedError

    fs.set_num_threads(1)
    w = np.zeros(20_000_000, np.float32)
    g = np.ones_like(w)
    optimizer = fs.Adam()
    optimizer.update(w, g)
    before, done = w[0], threading.Event()

    def signal_once_the_step_has_begun() -> None:
        while w[0] == before and not done.is_set():
            time.sleep(0)
        os.kill(os.getpid(), signal.SIGUSR1)

    old = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=signal_once_the_step_has_begun)
    try:
        with pytest.raises(InterruptedError):  # noqa: PT012 - where it is raised is up to the interpreter
            sender.start()
            optimizer.update(w, g)
            sender.join()
    finally:
        done.set()
        sender.join()
        signal.signal(signal.SIGUSR1, old)
    expected, theirs = np.zeros(1, np.float32), fs.reference.Adam()
    for _ in range(optimizer.iterations):
        theirs.update(expected, np.ones(1, np.float32))
    assert optimizer.iterations == 2
    np.testing.assert_array_equal(w, np.broadcast_to(expected, w.shape))


def in_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = ("FUSEDSTEP_ISA", "FUSEDSTEP_NUM_THREADS", "OMP_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", f"import fusedstep as fs; {code}"]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"FUSEDSTEP_NUM_THREADS": "5"}, 5),
        ({"FUSEDSTEP_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_threads_from_the_environment(environment: dict[str, str], threads: int | None) -> None:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    done = in_new_process("print(fs.get_num_threads())", **environment)
    assert done.stderr == ""
    count = int(done.stdout)
    assert count == threads if threads else 1 <= count <= (allowed or 1)  # a CPU quota may leave fewer


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity mask")
def test_threads_from_the_affinity_mask() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "import fusedstep as fs; print(fs.get_num_threads())"
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    assert subprocess.check_output([sys.executable, "-c", code], env=clean, text=True).strip() == "1"


def test_instruction_set_from_the_environment() -> None:
    for name in fs.isas():
        assert in_new_process("print(fs.isa())", FUSEDSTEP_ISA=name).stdout.strip() == name


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FUSEDSTEP_NUM_THREADS": "0"}, "FUSEDSTEP_NUM_THREADS is '0', expected 1 to 1024"),
        ({"FUSEDSTEP_NUM_THREADS": "two"}, "FUSEDSTEP_NUM_THREADS is 'two', expected 1 to 1024"),
        ({"FUSEDSTEP_ISA": "z80"}, "FUSEDSTEP_ISA: the instruction set is 'z80', expected one of baseline"),
    ],
    ids=str,
)
def test_wrong_environment(environment: dict[str, str], message: str) -> None:
    done = in_new_process("print('imported')", **environment)
    assert done.returncode != 0
    assert f"ValueError: {message}" in done.stderr
    assert done.stdout == ""


def test_settings() -> None:
    assert fs.isas()[0] == "baseline"
    assert fs.isa() in fs.isas()
    for name in fs.isas():
        fs.use_isa(name)
        assert fs.isa() == name
    for bad in (0, -1, 1025):
        with pytest.raises(ValueError, match=rf"^the number of threads is {bad}, expected 1 to 1024$"):
            fs.set_num_threads(bad)
    wrong: Any
    for wrong in ("2", 2.5, None):
        with pytest.raises(TypeError, match=rf"^the number of threads is {wrong!r}, expected an integer$"):
            fs.set_num_threads(wrong)
    for unknown in ("mmx", None):
        with pytest.raises(ValueError, match=rf"^the instruction set is {unknown!r}, expected one of baseline"):
            fs.use_isa(unknown)  # type: ignore[arg-type]
    assert fs.isa() == fs.isas()[-1]
