"""A sharded optimizer has the bits of one process with the sums of the gradients: rules, options, types, layouts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, COMMON_OPTIONS, ROWS, Row
from fusedstep.distributed import Serial, Sharded
from options import CASES, Case
from ranks import run
from sharded_cases import arrays, check, summed

ml_dtypes = pytest.importorskip("ml_dtypes")
RANKS = (1, 2, 3, 5)
WHOLE = {fs.LAMB, fs.LARS, fs.StableAdamW, fs.Adafactor}  # which aren't cut, and one array has more than half
CONSTRUCTOR = (
    *("lr", "clip_norm", "clip_value", "maximize", "weight_decay", "decoupled", "cautious_decay", "max_lr"),
    *("decay_after", "count_updates", "average", "master", "rounding", "state_dtype", "skip_nonfinite"),
)
GROUPS = [
    ("long", {"lr": 0.3, "weight_decay": 0.05}),
    (lambda key, w: w.ndim == 2, {"lr": lambda n: 0.2 / (1 + n)}),
]


def maker(row: Row, options: dict[str, Any]) -> Callable[[], Any]:
    return lambda: row.optimizer(**options)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("row", ALL_ROWS)
def test_rules(row: Row, ranks: int) -> None:
    for options in (*COMMON_OPTIONS, *row.options):
        shares: list[float] = run(ranks, partial(check, make=maker(row, options), steps=3))
        if row.optimizer not in WHOLE:
            assert max(shares) <= 1 / ranks + 0.1
        if options == {} and shares[0] > 0:
            assert sum(shares) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("number", range(len(CASES)))
def test_options_in_pairs(number: int, ranks: int) -> None:
    case: Case = CASES[number]
    row = ROWS[number % len(ROWS)]
    dtype = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)[number % 4]
    if case["state_dtype"] is not None and dtype is np.float64:
        dtype = np.float32  # a narrow state beside float64 is refused
    options = {name: case[name] for name in CONSTRUCTOR}
    if case["groups"]:
        options["groups"] = GROUPS
    with np.errstate(all="ignore"):
        run(
            ranks,
            lambda comm: check(
                comm,
                lambda: row.optimizer(**options),
                dtype=dtype,
                grad_dtype=None if case["gradients"] == "same" else case["gradients"],
                bad=case["bad"],
                update={"scale": case["scale"], "zero_grads": case["zero_grads"]},
                copies={"bfloat16": ml_dtypes.bfloat16}.get(case["copies"], case["copies"]),
            ),
        )


@pytest.mark.parametrize("grad_dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("bucket_bytes", [1024, 1 << 22])
def test_storage_types(dtype: Any, grad_dtype: Any, bucket_bytes: int) -> None:
    run(
        3,
        lambda comm: check(
            comm, lambda: fs.Adam(clip_norm=1.0), dtype=dtype, grad_dtype=grad_dtype, bucket_bytes=bucket_bytes
        ),
    )


def transposed(array: Any) -> Any:
    return array.T.copy().T


def stepped(array: Any) -> Any:
    spread = np.zeros((*array.shape, 2), array.dtype)
    spread[..., 0] = array
    return spread[..., 0]


@pytest.mark.parametrize("layout", [transposed, stepped])
def test_layouts(layout: Any) -> None:
    run(2, lambda comm: check(comm, lambda: fs.Adam(clip_norm=1.0, average=0.9), layout=layout, copies=np.float16))


def test_split() -> None:
    def make() -> fs.Split:
        narrow = fs.AdamW(groups=[("bias", {"lr": 0.1})])
        return fs.Split([(lambda key, w: w.ndim == 2, fs.Muon()), (lambda key, w: True, narrow)], clip_norm=1.0)

    run(2, lambda comm: check(comm, make))


def test_groups_that_change() -> None:
    def train(comm: Any) -> None:
        alone, sharded = fs.AdamW(), Sharded(fs.AdamW(), comm)
        ours, theirs = arrays(0), arrays(0)
        for step in range(4):
            for optimizer in (alone, sharded.optimizer):
                optimizer.groups = GROUPS[: step // 2]
            every = [arrays(10 * step + rank + 1) for rank in range(2)]
            sharded.update(ours, every[comm.Get_rank()])
            alone.update(theirs, summed(every, theirs), scale=0.5)
        for key, array in theirs.items():
            np.testing.assert_array_equal(ours[key], array, err_msg=key)

    run(2, train)


def test_arrays_that_share_memory() -> None:
    def train(comm: Any) -> None:
        def parameters() -> list[Any]:
            whole = np.linspace(-1, 1, 5000, dtype=np.float32)
            return [np.ones(3000, np.float32), whole, np.zeros(2000, np.float32), whole[1000:4000]]

        alone, sharded = fs.Momentum(0.1), Sharded(fs.Momentum(0.1), comm, bucket_bytes=1024)
        ours, theirs = parameters(), parameters()
        for step in range(3):
            rng = np.random.default_rng(step)
            every = [[rng.standard_normal(p.shape).astype(p.dtype) for p in theirs] for _ in range(2)]
            sums = [a + b for a, b in zip(*every, strict=True)]
            sharded.update(ours, every[comm.Get_rank()])
            alone.update(theirs, sums, scale=0.5)
        for mine, expected in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, expected)

    run(2, train)


def test_nested_containers_and_one_array() -> None:
    optimizer, alone = Sharded(fs.Adam(), Serial()), fs.Adam()
    both: list[Any] = [{"conv": [np.ones(3), (np.zeros(2),)], "out": np.ones(4)} for _ in range(2)]
    ones: list[Any] = [optimizer, alone]
    for params, one in zip(both, ones, strict=True):
        one.update(params, {"conv": [np.full(3, 0.5), None], "out": np.ones(4)})
        one.update(params, {"conv": [np.full(3, 0.5), (np.ones(2),)], "out": np.ones(4)})
    np.testing.assert_equal(*both)
    assert set(optimizer.state_dict()["state"]) == set(alone.state)
    single = np.ones(5)
    Sharded(fs.SGD(0.5), Serial()).update(single, np.ones(5))
    np.testing.assert_array_equal(single, np.full(5, 0.5))


def test_the_sum_without_mean() -> None:
    def train(comm: Any) -> Any:
        param = np.zeros(5)
        Sharded(fs.SGD(1.0), comm, mean=False).update({"w": param}, {"w": np.ones(5)})
        return param

    for param in run(3, train):
        np.testing.assert_array_equal(param, np.full(5, -3.0))


@pytest.mark.parametrize("ranks", RANKS)
def test_reduction_of_mpi(ranks: int) -> None:
    # The sums are made in another order; SGD's step of a sum is off by no more than these roundings.
    def train(comm: Any) -> tuple[Any, Any]:
        ours, theirs = arrays(0, np.float64), arrays(0, np.float64)
        every = [arrays(rank + 1, np.float64) for rank in range(ranks)]
        Sharded(fs.SGD(1.0), comm, reduction="mpi", bucket_bytes=4096).update(ours, every[comm.Get_rank()])
        fs.SGD(1.0).update(theirs, summed(every, theirs), scale=1 / ranks)
        return ours, theirs

    for ours, theirs in run(ranks, train):
        for key, array in theirs.items():
            np.testing.assert_allclose(ours[key], array, rtol=0, atol=4 * ranks * 6 * 2.0**-53)


def test_a_tensors_version_is_raised() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch isn't installed")
    weights = [torch.ones(3, requires_grad=True), torch.ones(4, dtype=torch.bfloat16)]
    versions = [w._version for w in weights]
    Sharded(fs.SGD(0.5), Serial()).update(weights, [torch.ones(3), torch.ones(4, dtype=torch.bfloat16)])
    assert [w.tolist() for w in weights] == [[0.5] * 3, [0.5] * 4]
    assert all(w._version > before for w, before in zip(weights, versions, strict=True))
