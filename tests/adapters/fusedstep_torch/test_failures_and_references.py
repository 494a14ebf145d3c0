"""Errors in the middle of a step, references and memory over many steps, many groups, and threads."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import fusedstep as fs
from torch_tensors import NAMES, numbers, step

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")


BAD_STATE: dict[str, Any] = {
    "shape": torch.zeros(4),
    "dtype": torch.zeros(3, dtype=torch.int64),
    "no tensor": "zeros",
}


@pytest.mark.parametrize("case", BAD_STATE)
def test_nothing_is_written_before_an_error(case: str) -> None:
    params = [torch.ones(3) for _ in range(3)]
    for p in params:
        p.grad = torch.ones(3)
    optimizer = ours.Adam(params, max_norm=1.0)
    optimizer.step()
    del optimizer.state[params[0]]
    optimizer.state[params[2]]["exp_avg"] = BAD_STATE[case]
    before = [p.clone() for p in params]
    exp_avg = optimizer.state[params[1]]["exp_avg"].clone()
    with pytest.raises((TypeError, ValueError), match=r"state\[2\]\['exp_avg'\]"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    assert not optimizer.state.get(params[0])
    assert optimizer.state[params[1]]["step"] == 1
    assert torch.equal(optimizer.state[params[1]]["exp_avg"], exp_avg)


def test_missing_state_is_an_error_as_in_pytorch() -> None:
    for module in (ours, torch.optim):
        p = torch.ones(3)
        optimizer = step(module.Adam, p, torch.ones(3))
        optimizer.param_groups[0]["amsgrad"] = True
        with pytest.raises(KeyError, match="max_exp_avg_sq"):
            optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_steps_leave_no_references(name: str) -> None:
    p, q = torch.ones(3), torch.ones(2, 2, dtype=torch.bfloat16)
    p.grad, q.grad = torch.ones(3), torch.ones(2, 2, dtype=torch.bfloat16)
    optimizer = getattr(ours, name)([p, q], max_norm=1.0, average=0.5, master=True, rounding="stochastic")

    def counts() -> list[int]:
        things = [p, q, p.grad, q.grad, optimizer, *optimizer.state.values(), *optimizer.state[q].values()]
        return [sys.getrefcount(thing) for thing in things]

    for _ in range(10):
        optimizer.step()
    gc.collect()
    before, blocks = counts(), sys.getallocatedblocks()
    steps = 1000
    for _ in range(steps):
        optimizer.step()
    gc.collect()
    assert counts() == before
    assert sys.getallocatedblocks() - blocks < steps / 10  # caches of the interpreter


def test_errors_leave_no_references() -> None:
    p, q = torch.ones(3), torch.ones(3)
    p.grad, q.grad = torch.ones(3), torch.ones(3).to_sparse()
    optimizer = ours.Adam([p, q])

    def fail() -> None:
        with pytest.raises(RuntimeError, match="sparse"):
            optimizer.step()

    fail()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in (p, q, p.grad, q.grad, optimizer)]
    for _ in range(100):
        fail()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in (p, q, p.grad, q.grad, optimizer)] == before


def test_many_groups() -> None:
    count = 1000
    params = [torch.ones(2) for _ in range(count)]
    for p in params:
        p.grad = torch.ones(2)
    optimizer = ours.SGD([{"params": [p], "lr": i / 1024} for i, p in enumerate(params)])
    optimizer.step()
    assert torch.equal(torch.stack(params)[:, 1], 1 - torch.arange(count) / 1024)


def test_optimizers_in_threads() -> None:
    fs.set_num_threads(2)

    def train(seed: int) -> Any:
        params = [numbers(64, 33, seed=seed) for _ in range(3)]
        optimizer = ours.Adam(params, max_norm=1.0, average=0.9)
        for t in range(50):
            for p in params:
                p.grad = numbers(64, 33, seed=1000 * seed + t)
            optimizer.step()
        return torch.stack(params)

    expected = [train(seed) for seed in range(4)]
    assert not torch.equal(expected[0][0], numbers(64, 33, seed=0))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(train, range(4)))
    for mine, alone in zip(results, expected, strict=True):
        assert torch.equal(mine, alone)
