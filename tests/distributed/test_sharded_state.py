"""State of several processes: one file or one for each, loaded by any number of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, Row
from fusedstep.distributed import Serial, Sharded
from ranks import run
from sharded_cases import arrays, assert_same_params, assert_same_state, bytes_of, grads_of, summed


def train(sharded: Sharded, params: dict[str, Any], first: int, steps: int, ranks: int) -> None:
    """Steps with the gradients of so many processes, which may be added up before."""
    comm = sharded.comm
    for step in range(first, first + steps):
        every = [grads_of(step, rank) for rank in range(ranks)]
        sums = summed(every, params)
        own = sums if comm.Get_rank() == 0 else dict.fromkeys(sums)
        sharded.update(params, own, scale=comm.Get_size() / ranks)


def resumed(save: Callable[[Sharded], Any], load: Callable[[Sharded, Any], None], before: int, after: int) -> None:
    """Trains, saves, loads into another number of processes and trains on; the same as without interruption."""
    alone = Sharded(fs.Adam(average=0.9), Serial())
    expected = arrays(0)
    train(alone, expected, 0, 5, 2)

    def first(comm: Any) -> tuple[dict[str, Any], Any]:
        sharded, params = Sharded(fs.Adam(average=0.9), comm, bucket_bytes=4096), arrays(0)
        train(sharded, params, 0, 3, 2)
        return params, save(sharded)

    made = run(before, first)

    def second(comm: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        sharded, params = Sharded(fs.Adam(), comm), {key: array.copy() for key, array in made[0][0].items()}
        load(sharded, made[0][1])
        train(sharded, params, 3, 2, 2)
        return params, sharded.state_dict()

    for params, state in run(after, second):
        assert_same_params(params, expected)
        assert_same_state(state, alone.state_dict())


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 1), (3, 2), (2, 2)])
def test_snapshot(before: int, after: int) -> None:
    resumed(lambda sharded: sharded.state_dict(), lambda sharded, made: sharded.load_state_dict(made), before, after)


@pytest.mark.parametrize("per_rank", [False, True])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 1), (3, 2), (2, 2)])
def test_files(before: int, after: int, per_rank: bool, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    resumed(
        lambda sharded: sharded.save_state(path, per_rank=per_rank),
        lambda sharded, _: sharded.load_state(path),
        before,
        after,
    )
    assert len(list(tmp_path.iterdir())) == (before + 1 if per_rank else 1)


@pytest.mark.parametrize("row", ALL_ROWS)
def test_files_of_every_rule(row: Row, tmp_path: Path) -> None:
    def save(comm: Any) -> dict[str, Any]:
        sharded = Sharded(row.optimizer(), comm)
        params = arrays(0)
        train(sharded, params, 0, 3, 2)
        sharded.save_state(tmp_path / "whole")
        sharded.save_state(tmp_path / "shares", per_rank=True)
        return sharded.state_dict()

    expected = run(2, save)[0]
    one = row.optimizer()
    fs.load_state(tmp_path / "whole", one)
    assert_same_state(one.state_dict(), expected)
    for name in ("whole", "shares"):
        sharded = Sharded(row.optimizer(), Serial())
        sharded.load_state(tmp_path / name)
        loaded = sharded.state_dict()
        loaded["state"] = {key: loaded["state"][key] for key in expected["state"]}
        assert_same_state(loaded, expected)


def test_files_of_a_split(tmp_path: Path) -> None:
    def make() -> fs.Split:
        return fs.Split([(lambda key, w: w.ndim == 2, fs.Muon()), (lambda key, w: True, fs.AdamW())])

    def save(comm: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        sharded, params = Sharded(make(), comm), arrays(0)
        train(sharded, params, 0, 3, 2)
        sharded.save_state(tmp_path / "shares", per_rank=True)
        train(sharded, params, 3, 1, 2)
        return sharded.state_dict(), params

    expected, params = run(2, save)[0]
    sharded, ours = Sharded(make(), Serial()), arrays(0)
    train(sharded, ours, 0, 3, 2)
    sharded.load_state(tmp_path / "shares")
    train(sharded, ours, 3, 1, 2)
    assert_same_params(ours, params)
    for mine, theirs in zip(sharded.state_dict()["optimizers"], expected["optimizers"], strict=True):
        mine["state"] = {key: mine["state"][key] for key in theirs["state"]}
        assert_same_state(mine, theirs)


def test_files_of_shares_are_replaced_together(tmp_path: Path) -> None:
    path = tmp_path / "state"

    def save(comm: Any) -> None:
        sharded, params = Sharded(fs.Adam(), comm), arrays(0)
        train(sharded, params, 0, 2, 2)
        sharded.save_state(path, per_rank=True)
        sharded.save_state(path, per_rank=True)

    run(3, save)
    names = json.loads(path.read_text())["files"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, *names])
    (tmp_path / names[1]).unlink()
    with pytest.raises(OSError, match="No such file"):
        Sharded(fs.Adam(), Serial()).load_state(path)


def test_a_list_that_lacks_a_share(tmp_path: Path) -> None:
    path = tmp_path / "state"

    def save(comm: Any) -> None:
        sharded, params = Sharded(fs.Adam(), comm), arrays(0)
        train(sharded, params, 0, 2, 2)
        sharded.save_state(path, per_rank=True)

    run(3, save)
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"files": about["files"][:-1]}))
    optimizer = fs.Adam()
    with pytest.raises(ValueError, match="is missing"):
        Sharded(optimizer, Serial()).load_state(path)
    assert optimizer.state == {}


def test_errors_of_one_process_concern_all(tmp_path: Path) -> None:
    def save(comm: Any) -> None:
        sharded = Sharded(fs.Adam(), comm)
        with pytest.raises(OSError if comm.Get_rank() == 0 else RuntimeError, match="No such file"):
            sharded.save_state(tmp_path / "no folder" / "state")
        with pytest.raises(ValueError, match="state"):
            sharded.load_state_dict({} if comm.Get_rank() == 1 else fs.Adam().state_dict())

    run(2, save)


def test_each_process_has_its_share_alone() -> None:
    def shares(comm: Any) -> int:
        optimizer = fs.Adam()
        rng = np.random.default_rng(0)
        params = {i: rng.standard_normal(10_000 + i).astype(np.float32) for i in range(30)}
        Sharded(optimizer, comm).update(params, {key: np.ones_like(p) for key, p in params.items()})
        return bytes_of(optimizer.state)

    found = run(4, shares)
    assert sum(found) == 2 * 4 * sum(10_000 + i for i in range(30))
    assert max(found) <= 0.26 * sum(found)


def test_state_from_before_is_divided() -> None:
    def continue_(comm: Any) -> dict[str, Any]:
        optimizer, params = fs.Adam(), arrays(0)
        optimizer.update(params, arrays(1))
        sharded = Sharded(optimizer, comm)
        sharded.update(params, arrays(2), scale=1.0)
        return params

    expected, alone = arrays(0), fs.Adam()
    alone.update(expected, arrays(1))
    alone.update(expected, summed([arrays(2)] * 2, expected), scale=0.5)
    for params in run(2, continue_):
        assert_same_params(params, expected)


def test_parameters_that_change() -> None:
    def change(comm: Any) -> None:
        alone, sharded = fs.Adam(), Sharded(fs.Adam(), comm)
        ours, theirs = arrays(0), arrays(0)
        for step, keys in enumerate((("bias", "long"), ("long", "matrix", "kernel"), ("bias", "long"))):
            grads = arrays(step + 1)
            sharded.update({key: ours[key] for key in keys}, {key: grads[key] for key in keys})
            alone.update({key: theirs[key] for key in keys}, {key: 2 * grads[key] for key in keys}, scale=0.5)
            assert_same_params(ours, theirs)
        state = sharded.state_dict()
        state["state"] = {key: state["state"][key] for key in alone.state}
        state["steps"] = {key: state["steps"][key] for key in alone.state}
        assert_same_state(state, alone.state_dict())

    run(2, change)


def test_averaged_and_eval() -> None:
    def look(comm: Any) -> None:
        alone, sharded = fs.Adam(average=0.5), Sharded(fs.Adam(average=0.5), comm)
        ours, theirs = arrays(0), arrays(0)
        for step in range(3):
            grads = arrays(step + 1)
            sharded.update(ours, grads)
            alone.update(theirs, {key: 2 * grad for key, grad in grads.items()}, scale=0.5)
        with sharded.averaged(ours), alone.averaged(theirs):
            assert_same_params(ours, theirs)
        assert_same_params(ours, theirs)
        free, divided = fs.ScheduleFreeSGD(0.1), Sharded(fs.ScheduleFreeSGD(0.1), comm)
        for step in range(3):
            grads = arrays(step + 1)
            divided.update(ours, grads)
            free.update(theirs, {key: 2 * grad for key, grad in grads.items()}, scale=0.5)
        divided.eval(ours)
        free.eval(theirs)
        assert_same_params(ours, theirs)
        with pytest.raises(RuntimeError, match="eval mode"):
            divided.update(ours, arrays(9))
        divided.train(ours)
        free.train(theirs)
        assert_same_params(ours, theirs)
        with pytest.raises(AttributeError, match="Adam has no eval"):
            sharded.eval(ours)

    run(2, look)
