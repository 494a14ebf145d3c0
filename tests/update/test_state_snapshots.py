"""Snapshots that are taken while a step is made: each is of one moment, and nothing waits for itself."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs


@pytest.fixture
def trained() -> Iterator[fs.Momentum]:
    """An optimizer that another thread trains; v is always -iterations everywhere."""
    optimizer, w, g = fs.Momentum(1.0, 1.0), np.zeros(2_000_000), np.ones(2_000_000)
    optimizer.update(w, g)
    stop = threading.Event()

    def train() -> None:
        while not stop.is_set():
            optimizer.update(w, g)

    thread = threading.Thread(target=train)
    thread.start()
    yield optimizer
    stop.set()
    thread.join()


@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle", "save_state"])
def test_a_snapshot_from_another_thread_is_of_one_moment(how: str, trained: fs.Momentum, tmp_path: Path) -> None:
    for _ in range(8):
        other: Any = fs.Momentum()
        if how == "state_dict":
            other.load_state_dict(trained.state_dict())
        elif how == "deepcopy":
            other = copy.deepcopy(trained)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(trained))
        else:
            fs.save_state(tmp_path / "state.npz", trained)
            fs.load_state(tmp_path / "state.npz", other)
        assert np.unique(other.state[0]["v"]).tolist() == [-other.iterations]


def test_a_step_may_take_a_snapshot_of_its_own_optimizer() -> None:
    optimizer = fs.Adam()
    snapshots = []
    asked = False

    class Key:
        def __hash__(self) -> int:
            nonlocal asked
            if not asked:
                asked = True
                snapshots.append(optimizer.state_dict())
                asked = False
            return 0

    key = Key()
    params, grads = {key: np.ones(3)}, {key: np.ones(3)}
    snapshots.clear()
    optimizer.update(params, grads)
    assert len(snapshots) >= 2
    optimizer.update(params, grads)
    assert optimizer.iterations == 2


FORKS = """
import os, signal, threading
import numpy as np
import fusedstep as fs

optimizer, w, g = fs.Adam(), np.ones(300_000), np.ones(300_000)
optimizer.update(w, g)
stop = threading.Event()
def train():
    while not stop.is_set():
        optimizer.update(w, g)
thread = threading.Thread(target=train)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        optimizer.state_dict()
        optimizer.update(w, g)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which only POSIX has")
def test_a_child_of_a_fork_within_a_step_waits_for_nobody() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], check=True, timeout=120)


def test_a_copy_has_its_own_state() -> None:
    optimizer = fs.Adam()
    optimizer.update(np.ones(3), np.ones(3))
    other = copy.copy(optimizer)
    other.update(np.ones(3), np.ones(3))
    assert (optimizer.iterations, optimizer.steps, other.steps) == (1, {0: 1}, {0: 2})
    assert not np.shares_memory(optimizer.state[0]["m"], other.state[0]["m"])


@pytest.mark.parametrize("how", ["load_state_dict", "deepcopy", "pickle", "load_state"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (100, 100), (1000, 1000)])
def test_restored_state_lies_where_processors_are_fast(how: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    optimizer = fs.Adam()
    optimizer.update(np.ones(shape), np.ones(shape))
    for _ in range(5):  # the memory that malloc gives may be well placed by chance
        other: Any = fs.Adam()
        if how == "load_state_dict":
            other.load_state_dict(optimizer.state_dict())
        elif how == "load_state":
            fs.save_state(tmp_path / "state.npz", optimizer)
            fs.load_state(tmp_path / "state.npz", other)
        else:
            other = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        np.testing.assert_equal(other.state, optimizer.state)
        moments = list(other.state[0].values())
        assert all(a.ctypes.data % 64 == 0 and a.flags.writeable for a in moments)
        if moments[0].nbytes >= 32768:
            places = [0, *(a.ctypes.data % 4096 for a in moments)]
            assert min(abs(a - b) for i, a in enumerate(places) for b in places[:i]) >= 1024


def test_restored_state_keeps_its_order_in_memory(tmp_path: Path) -> None:
    optimizer, other = fs.Adam(), fs.Adam()
    w = np.ones((4, 5), order="F")
    optimizer.update(w, w.copy())
    fs.save_state(tmp_path / "state.npz", optimizer)
    fs.load_state(tmp_path / "state.npz", other)
    for restored in (other, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert all(a.flags.f_contiguous for a in restored.state[0].values())
