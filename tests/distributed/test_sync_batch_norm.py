"""Batch normalisation over the data of several processes: within the bounds that one process keeps."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from batch_norm_cases import BOUND, SHAPES, deviations, problem
from fusedstep.distributed import Serial, SyncBatchNorm
from ranks import run

Array = np.ndarray[Any, Any]
# With an axis beside that of the channels, along which the data are divided.
CASES = [(shape, axis % len(shape)) for shape, axis in SHAPES if len(shape) > 1]


def parts_of(x: Array, axis: int, ranks: int) -> list[Array]:
    """Parts of different lengths, some of which may be empty."""
    along = next(d for d in range(x.ndim) if d != axis)
    cuts = [x.shape[along] * r * r // (ranks * ranks) for r in range(1, ranks)]
    return [np.ascontiguousarray(part) for part in np.split(x, cuts, axis=along)]


def together(parts: list[Array], axis: int) -> Array:
    return np.concatenate(parts, axis=next(d for d in range(parts[0].ndim) if d != axis))


def made(ranks: int) -> Any:
    """What the layer gives, in the form of batch_norm_cases.results."""

    def results(x: Array, dout: Array, gamma: Array, beta: Array, axis: int, eps: float) -> dict[str, Array]:
        xs, douts = parts_of(x, axis, ranks), parts_of(dout, axis, ranks)

        def pass_(comm: Any) -> tuple[Array, Array, SyncBatchNorm]:
            layer = SyncBatchNorm(len(gamma), comm, eps, channel_axis=axis, dtype=x.dtype)
            layer.gamma, layer.beta = gamma, beta
            y = layer.forward(xs[comm.Get_rank()])
            return y, layer.backward(douts[comm.Get_rank()]), layer

        every = run(ranks, pass_)
        layer = every[0][2]
        for _, _, other in every:
            for name in ("running_mean", "running_var"):
                np.testing.assert_array_equal(getattr(other, name), getattr(layer, name))
        assert layer._saved is not None
        _, mean, inv_std = layer._saved
        # Parts, rounded once more each, which is less than the bounds leave.
        sums: dict[str, Array] = {
            name: np.asarray(np.sum([getattr(each[2], name) for each in every], axis=0, dtype=np.float64))
            for name in ("dgamma", "dbeta")
        }
        y, dx = (together([*each], axis) for each in list(zip(*every, strict=True))[:2])
        return {"y": y, "mean": mean, "inv_std": inv_std, "dx": dx} | sums

    return results


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("shape", "axis"), CASES)
def test_distance_from_the_exact_result(shape: tuple[int, ...], axis: int, dtype: Any, ranks: int) -> None:
    names = "y mean inv_std dx dgamma dbeta"
    found = deviations(*problem(shape, axis, dtype), axis, names, made=made(ranks))
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_with_different_means(dtype: Any) -> None:
    x, dout, gamma, beta = problem((4000, 3), 1, dtype)
    x += np.linspace(-1000, 1000, 4000, dtype=dtype)[:, np.newaxis]
    found = deviations(x, dout, gamma, beta, 1, "y mean inv_std dx dgamma dbeta", made=made(3))
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


def test_large_mean_in_float64_costs_the_forward_pass_no_digits() -> None:
    x, dout, gamma, beta = problem((144, 8), 1, np.float64, offset=0.0)
    found = deviations(x + 1e4, dout, gamma, beta, 1, "y mean inv_std", made=made(3))
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


def test_float32_numbers_whose_squares_overflow() -> None:
    rng = np.random.default_rng(0)
    x, dout = (rng.standard_normal((40, 3)).astype(np.float32) * size for size in (np.float32(1e25), np.float32(1)))
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    expected, mean, inv_std = fs.batch_norm(x, ones, zeros)
    dx, _, _ = fs.batch_norm_backward(dout, x, ones, mean, inv_std)
    found = made(3)(x, dout, ones, zeros, 1, 1e-5)
    np.testing.assert_allclose(found["y"], expected, rtol=0, atol=6 * 2.0**-23)
    # Both are within BOUND["dx"] units of the exact result; a unit's size is below 6 inv_std for |dout| < 4.
    np.testing.assert_allclose(found["dx"], dx, rtol=0, atol=2 * BOUND["dx"] * 2.0**-23 * 6 * inv_std.max())


@pytest.mark.parametrize("unbiased", [False, True])
def test_running_averages_are_those_of_one_process(unbiased: bool) -> None:
    x = problem((30, 4, 5), 1, np.float64)[0]
    alone = fs.BatchNorm(4, decay=0.7, dtype=np.float64, unbiased_running_var=unbiased)
    alone.forward(x)

    def train(comm: Any) -> SyncBatchNorm:
        layer = SyncBatchNorm(4, comm, decay=0.7, dtype=np.float64, unbiased_running_var=unbiased)
        layer.forward(parts_of(x, 1, 3)[comm.Get_rank()])
        return layer

    for layer in run(3, train):
        np.testing.assert_allclose(layer.running_mean, alone.running_mean, rtol=1e-14)
        np.testing.assert_allclose(layer.running_var, alone.running_var, rtol=1e-14)
        np.testing.assert_array_equal(
            layer.forward(x, training=False),
            fs.batch_norm_inference(x, np.ones(4), np.zeros(4), layer.running_mean, layer.running_var),
        )


def test_an_error_in_one_process_is_one_in_all() -> None:
    def train(comm: Any) -> str:
        layer = SyncBatchNorm(4, comm)
        bad = comm.Get_rank() == 1
        with pytest.raises(ValueError if bad else RuntimeError, match="x has 3 channels, expected 4") as error:
            layer.forward(np.ones((2, 3 if bad else 4), np.float32))
        assert (layer.running_mean == 0).all()
        return str(error.value)

    assert run(2, train)[0].startswith("process 1: ValueError: ")


def test_no_elements_in_any_process() -> None:
    with pytest.raises(ValueError, match="no elements in any process"):
        SyncBatchNorm(4, Serial()).forward(np.ones((0, 4), np.float32))


def test_out() -> None:
    layer, x = SyncBatchNorm(4, Serial()), np.arange(12, dtype=np.float32).reshape(3, 4)
    out = np.empty_like(x)
    assert layer.forward(x, out=out) is out
    np.testing.assert_array_equal(out, SyncBatchNorm(4, Serial()).forward(x))
    assert layer.backward(x, out=out) is out
    with pytest.raises(ValueError, match="out shares memory with x"):
        layer.forward(x, out=x)
    with pytest.raises(ValueError, match=r"out has shape \(2, 4\)"):
        layer.forward(x, out=np.empty((2, 4), np.float32))
