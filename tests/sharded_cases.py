"""What one process does with the sums of gradients, and what several do with the gradients: for threads and for MPI."""

from typing import Any

import numpy as np

import fusedstep as fs
from fusedstep.distributed import Sharded
from memory import same_bits

SHAPES: dict[str, tuple[int, ...]] = {
    "kernel": (12, 5, 3, 3),
    "bias": (12,),
    "empty": (0, 3),
    "scalar": (),
    "matrix": (70, 101),
    "long": (12_345,),
    "late": (40, 30),
}


def arrays(seed: int, dtype: Any = np.float32) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}


def grads_of(step: int, rank: int, dtype: Any = np.float32) -> dict[str, Any]:
    """ "late" has none in the first steps, and then in one process."""
    grads = arrays(1000 * step + rank + 1, dtype)
    if step < 2 or rank > 0:
        grads["late"] = None
    return grads


def summed(every: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    """In the order of the processes, in the type that is computed in."""
    sums: dict[str, Any] = {}
    for key, param in params.items():
        given = [grads[key] for grads in every]
        if all(grad is None for grad in given):
            sums[key] = None
            continue
        terms = [np.zeros(param.shape) if grad is None else grad for grad in given]
        sums[key] = np.array(terms[0], np.float64 if param.dtype == np.float64 else np.float32)
        for term in terms[1:]:
            sums[key] += term.astype(sums[key].dtype)
    return sums


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Of two snapshots, to the bit."""
    assert {k: v for k, v in one.items() if k != "state"} == {k: v for k, v in other.items() if k != "state"}
    assert list(one["state"]) == list(other["state"])
    for key, arrays in one["state"].items():
        assert list(arrays) == list(other["state"][key])
        for letter, array in arrays.items():
            theirs = other["state"][key][letter]
            assert array.shape == theirs.shape
            assert array.dtype == theirs.dtype
            assert same_bits(array, theirs), (key, letter)


def assert_same_params(one: dict[str, Any], other: dict[str, Any]) -> None:
    for key, array in one.items():
        assert same_bits(array, other[key]), key


def bytes_of(state: dict[Any, Any]) -> int:
    return sum(array.nbytes for arrays in state.values() for array in arrays.values())


def members_of(optimizer: fs.Optimizer | fs.Split) -> list[fs.Optimizer]:
    return [each for _, each in optimizer.pairs] if isinstance(optimizer, fs.Split) else [optimizer]


def check(
    comm: Any,
    make: Any,
    *,
    dtype: Any = np.float32,
    grad_dtype: Any = None,
    steps: int = 4,
    bad: Any = None,
    update: dict[str, Any] | None = None,
    copies: Any = None,
    layout: Any = None,
    bucket_bytes: int = 1 << 13,
) -> float:
    """Several steps with both; the share of the state that this process has.

    Arguments:
        bad: A number in a gradient of the last process, in the second step.
        update: Arguments of the updates.
        copies: The type of copies.
        layout: Gives an array another layout.
    """
    rank, ranks, update = comm.Get_rank(), comm.Get_size(), dict(update or {})
    alone, sharded = make(), Sharded(make(), comm, bucket_bytes=bucket_bytes)
    ours, theirs = arrays(0, dtype), arrays(0, dtype)
    if layout is not None:
        ours = {key: layout(array) for key, array in ours.items()}
    own_copies, their_copies = [{key: np.zeros_like(a, dtype=copies) for key, a in theirs.items()} for _ in "12"]
    scale = update.pop("scale", 1.0)
    for step in range(steps):
        every = [grads_of(step, each, grad_dtype or dtype) for each in range(ranks)]
        if bad is not None and step == 1:
            every[-1]["long"][9999] = bad
        sums, own = summed(every, theirs), every[rank]
        if layout is not None:
            own = {key: None if grad is None else layout(grad) for key, grad in own.items()}
        given: dict[str, Any] = {"copies": own_copies} if copies else {}
        sharded.update(ours, own, scale=scale, **update, **given)
        given = {"copies": their_copies} if copies else {}
        alone.update(theirs, sums, scale=scale / ranks, **update, **given)
        assert_same_params(ours, theirs)
        assert_same_params(own_copies, their_copies)
        np.testing.assert_equal(sharded.gradient_norm, alone.gradient_norm)
        assert sharded.skipped == alone.skipped
        if update.get("zero_grads"):
            assert all(grad is None or not grad.any() for grad in own.values())
    optimizers, shared = members_of(alone), members_of(sharded.optimizer)
    whole = sharded.state_dict()
    for one, mine, snapshot in zip(optimizers, shared, whole.get("optimizers", [whole]), strict=True):
        assert one.iterations == mine.iterations
        assert_same_state(one.state_dict(), snapshot)
    total = sum(bytes_of(one.state) for one in optimizers)
    return sum(bytes_of(mine.state) for mine in shared) / total if total else 0.0
