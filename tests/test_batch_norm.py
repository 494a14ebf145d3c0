"""Batch normalisation: the same bits everywhere, and a stated distance from the exact result."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference

Array = np.ndarray[Any, Any]

# (shape, channel axis): no block full, blocks and groups of rows full and not, more rows than a segment has, more columns
# than a panel has, planes shorter and longer than a lane, a block and a segment, channels that fit no cache.
SHAPES = (
    ((1, 5), 1),
    ((2, 1), 1),
    ((7, 3), 1),
    ((9, 300), 1),
    ((100, 100), -1),
    ((1100, 257), 1),
    ((9001, 6), 1),
    ((200_003, 1), 1),
    ((5,), 0),
    ((3, 4, 5), 1),
    ((2, 3, 7, 7), 1),
    ((1, 2, 63, 65), 1),
    ((6, 3, 33, 100), 1),
    ((5, 2, 200_003), 1),
    ((2, 700_003), 0),
    ((4, 10, 11, 6), 3),
    ((3, 40, 50, 129), -1),
)
IDS = [f"{shape}[{axis}]".replace(" ", "") for shape, axis in SHAPES]


def problem(shape: tuple[int, ...], axis: int, dtype: Any, offset: float = 3.0) -> tuple[Array, ...]:
    """x, dout, gamma, beta; the channels have different means and deviations."""
    rng = np.random.default_rng(len(shape))
    channels = np.moveaxis(np.empty(shape), axis, -1).shape[-1:]
    scale, shift = rng.uniform(0.5, 2, channels), rng.uniform(-1, 1, channels) * offset + offset
    x = np.moveaxis(np.moveaxis(rng.standard_normal(shape), axis, -1) * scale + shift, -1, axis)
    dout = rng.standard_normal(shape)
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    return (*(np.ascontiguousarray(a, dtype) for a in (x, dout)), gamma.astype(dtype), beta.astype(dtype))


def results(x: Array, dout: Array, gamma: Array, beta: Array, axis: int) -> dict[str, Array]:
    y, mean, inv_std = fs.batch_norm(x, gamma, beta, channel_axis=axis)
    dx, dgamma, dbeta = fs.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis=axis)
    inference = fs.batch_norm_inference(x, gamma, beta, mean, 1 / inv_std**2, eps=0.0, channel_axis=axis)
    return {"y": y, "mean": mean, "inv_std": inv_std, "dx": dx, "dgamma": dgamma, "dbeta": dbeta, "inf": inference}


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=IDS)
def test_same_bits_everywhere(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    arrays = problem(shape, axis, dtype)
    before = copy.deepcopy(arrays)
    expected: dict[str, Array] | None = None
    for isa in fs.isas():
        fs.use_isa(isa)
        for threads in (1, 2, 3, 7):
            fs.set_num_threads(threads)
            got = results(*arrays, axis)
            expected = expected or got
            for name, array in got.items():
                np.testing.assert_array_equal(array, expected[name], err_msg=f"{name}, {isa}, {threads}", strict=True)
    np.testing.assert_equal(arrays, before)


def deviations(x: Array, dout: Array, gamma: Array, beta: Array, axis: int) -> dict[str, float]:
    """Distances from the formulas in long double, in units of eps times what rounding the data alone may change."""
    got = results(x, dout, gamma, beta, axis)
    lx, ldout = (np.moveaxis(a, axis, -1).reshape(-1, len(gamma)).astype(np.longdouble) for a in (x, dout))
    n = len(lx)
    mean = lx.sum(axis=0) / n
    centred = lx - mean
    inv_std = 1 / np.sqrt((centred * centred).sum(axis=0) / n + np.longdouble(1e-5))
    xhat = centred * inv_std
    dbeta, dgamma = ldout.sum(axis=0), (ldout * xhat).sum(axis=0)
    scale = gamma * inv_std
    # What enters each result, by magnitude: its condition. The mean of float64 data is in one part, which is off by up to
    # half an eps of itself; that of float32 data is in two, which leaves the error of the sum of deviations.
    size = {
        "y": np.abs(gamma) * (1 + np.abs(xhat)) + np.abs(beta) + (np.abs(scale * mean) if x.dtype == np.float64 else 0),
        "mean": np.abs(lx).max(axis=0),
        "inv_std": inv_std,
        "dx": np.abs(scale) * (np.abs(ldout) + (np.abs(ldout).sum(axis=0) + np.abs(xhat) * np.abs(ldout * xhat).sum(axis=0)) / n),
        "dgamma": np.abs(ldout * xhat).sum(axis=0),
        "dbeta": np.abs(ldout).sum(axis=0),
    }
    exact = {
        "y": gamma * xhat + beta,
        "mean": mean,
        "inv_std": inv_std,
        "dx": scale * (ldout - (dbeta + xhat * dgamma) / n),
        "dgamma": dgamma,
        "dbeta": dbeta,
    }
    size["inf"], exact["inf"] = size["y"], exact["y"]
    eps = np.finfo(x.dtype).eps
    result = {}
    for name, array in got.items():
        flat = np.moveaxis(array, axis, -1).reshape(exact[name].shape) if array.shape == x.shape else array
        result[name] = float((np.abs(flat - exact[name]) / np.maximum(size[name], np.finfo(x.dtype).tiny)).max() / eps)
    return result


# y is made of six roundings of the data's type (the difference, the rest of the mean, two for scale and shift, product,
# sum), each half an eps of its size, dx of nine. A sum has at most 64 additions in the data's type one after the other,
# in lanes, which is 32 eps at worst and, rounding both ways, sqrt(64) / 2 = 4 at most in practice.
BOUND = {"y": 3.0, "inf": 3.0, "mean": 1.0, "inv_std": 4.0, "dx": 4.5, "dgamma": 4.0, "dbeta": 4.0}


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=IDS)
def test_distance_from_the_exact_result(shape: tuple[int, ...], axis: int, dtype: Any, isa: str) -> None:
    found = deviations(*problem(shape, axis, dtype), axis)
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@pytest.mark.parametrize(("shape", "axis"), [((64, 5), 1), ((5000, 7), 1), ((8, 3, 40, 50), 1), ((2, 2, 300_000), 1)])
def test_large_mean_in_float32_costs_no_digits(shape: tuple[int, ...], axis: int, isa: str) -> None:
    x, dout, gamma, beta = problem(shape, axis, np.float32, offset=0.0)
    x = (x + np.float32(1e4)).astype(np.float32)
    ratio = np.abs(x.mean(axis=(0, *range(2, x.ndim)), dtype=np.float64)) / x.std(
        axis=(0, *range(2, x.ndim)), dtype=np.float64
    )
    assert ratio.min() > 0.4e4
    found = deviations(x, dout, gamma, beta, axis)
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


def test_first_element_far_from_all_others(dtype: Any, isa: str) -> None:
    for shape in ((5000, 3), (4, 3, 2000)):
        x, dout, gamma, beta = problem(shape, 1, dtype)
        x[0, :, ...] = 1e4
        found = deviations(x, dout, gamma, beta, 1)
        assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


def test_blocks_with_different_means(dtype: Any, isa: str) -> None:
    for shape in ((6000, 3), (3, 3, 10_000)):
        x, dout, gamma, beta = problem(shape, 1, dtype)
        x += np.linspace(-1000, 1000, shape[0] * (shape[2] if len(shape) > 2 else 1)).astype(dtype).reshape(shape[0], 1, *shape[2:])
        found = deviations(x, dout, gamma, beta, 1)
        assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), 1), ((2, 3, 4, 5), 1), ((2, 3, 4), -1), ((1, 2, 3), 1)])
def test_gradient_by_central_differences(shape: tuple[int, ...], axis: int) -> None:
    x, dout, gamma, beta = problem(shape, axis, np.float64, offset=0.5)

    def loss() -> float:
        return float((fs.batch_norm(x, gamma, beta, eps=0.1, channel_axis=axis)[0] * dout).sum())

    _, mean, inv_std = fs.batch_norm(x, gamma, beta, eps=0.1, channel_axis=axis)
    gradients = fs.batch_norm_backward(dout, x, gamma, mean, inv_std, channel_axis=axis)
    # Truncation is of the order of h^2, rounding of eps / h; both are near 1e-10 for this h.
    h = 1e-5
    for array, gradient in zip((x, gamma, beta), gradients, strict=True):
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            old = array[index]
            array[index] = old + h
            above = loss()
            array[index] = old - h
            numeric[index] = (above - loss()) / (2 * h)
            array[index] = old
        np.testing.assert_allclose(gradient, numeric, rtol=1e-8, atol=1e-8)


LAYOUTS = {
    "channels last in memory": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "batch last in memory": lambda a: np.asfortranarray(a),
    "gaps": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
    "backwards": lambda a: np.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1],
    "misaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of", ["x", "dout", "both"])
def test_layouts(layout: str, of: str, dtype: Any) -> None:
    x, dout, gamma, beta = problem((3, 4, 5, 6), 1, dtype)
    expected = results(x, dout, gamma, beta, 1)
    turned = LAYOUTS[layout]
    got = results(turned(x) if of != "dout" else x, turned(dout) if of != "x" else dout, gamma, beta, 1)
    eps = np.finfo(dtype).eps
    for name, array in got.items():
        np.testing.assert_allclose(array, expected[name], rtol=8 * eps, atol=32 * eps, err_msg=name)


def test_dense_input_is_not_copied_and_the_result_lies_as_it(dtype: Any) -> None:
    x = np.zeros((3, 5, 6, 4), dtype).transpose(0, 3, 1, 2)
    y, _, _ = fs.batch_norm(x, np.ones(4), np.zeros(4))
    assert y.strides == x.strides


OUTS = {
    "own": np.empty_like,
    "gaps": lambda x: np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2],
    "other order": lambda x: np.empty_like(x, order="F"),
    "misaligned": lambda x: np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "x": lambda x: x,
    "across x": lambda x: x[::-1],
}


@pytest.mark.parametrize("shape", [(7, 4), (3, 4, 5, 6)], ids=str)
@pytest.mark.parametrize("kind", OUTS)
def test_out(kind: str, shape: tuple[int, ...], dtype: Any) -> None:
    x, dout, gamma, beta = problem(shape, 1, dtype)
    expected = results(x, dout, gamma, beta, 1)
    mean, inv_std = expected["mean"], expected["inv_std"]

    def poisoned(like: Array) -> Array:
        out = OUTS[kind](like)
        if not np.may_share_memory(out, like):
            out[...] = np.nan
        return out

    given = x.copy()
    out = poisoned(given)
    y, _, _ = fs.batch_norm(given, gamma, beta, out=out)
    assert y is out
    np.testing.assert_array_equal(y, expected["y"])

    given = x.copy()
    out = poisoned(given)
    assert fs.batch_norm_inference(given, gamma, beta, mean, 1 / inv_std**2, eps=0.0, out=out) is out
    np.testing.assert_array_equal(out, expected["inf"])

    for over in ("x", "dout"):
        arrays = {"x": x.copy(), "dout": dout.copy()}
        out = poisoned(arrays[over])
        dx, dgamma, dbeta = fs.batch_norm_backward(arrays["dout"], arrays["x"], gamma, mean, inv_std, out=out)
        assert dx is out
        np.testing.assert_array_equal(dx, expected["dx"])
        np.testing.assert_array_equal(dgamma, expected["dgamma"])
        np.testing.assert_array_equal(dbeta, expected["dbeta"])


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", [(1, 4), (10, 4), (6, 4, 3, 5)], ids=str)
def test_layer(shape: tuple[int, ...], unbiased: bool, dtype: Any, rng: np.random.Generator) -> None:
    options: Any = {"eps": 1e-3, "decay": 0.8, "dtype": dtype, "unbiased_running_var": unbiased}
    ours, theirs = fs.BatchNorm(4, **options), reference.BatchNorm(4, **{**options, "dtype": np.float64})
    np.testing.assert_array_equal(ours.running_mean, 0)
    np.testing.assert_array_equal(ours.running_var, 1)
    ours.gamma[...] = theirs.gamma[...] = rng.integers(1, 4, 4)
    ours.beta[...] = theirs.beta[...] = rng.integers(1, 4, 4)
    held = ours.running_mean
    # The numbers are of size 10 at most; the reference is in float64.
    close = {"rtol": 64 * np.finfo(dtype).eps, "atol": 64 * np.finfo(dtype).eps}
    for _ in range(3):
        x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        np.testing.assert_allclose(ours.forward(x), theirs.forward(x.astype(np.float64)), **close)
        np.testing.assert_allclose(ours.backward(dout), theirs.backward(dout.astype(np.float64)), **close)
        np.testing.assert_allclose(ours.dgamma, theirs.dgamma, **close)  # type: ignore[arg-type]
        np.testing.assert_allclose(ours.dbeta, theirs.dbeta, **close)  # type: ignore[arg-type]
        np.testing.assert_allclose(ours.running_mean, theirs.running_mean, **close)
        np.testing.assert_allclose(ours.running_var, theirs.running_var, **close)
    assert ours.running_mean is held
    x = rng.standard_normal(shape).astype(dtype)
    before = copy.deepcopy(ours.__dict__)
    y = ours.forward(x, training=False)
    np.testing.assert_allclose(y, theirs.forward(x.astype(np.float64), training=False), **close)
    np.testing.assert_equal(ours.__dict__, before)
    assert y.dtype == ours.dgamma.dtype == ours.gamma.dtype == dtype  # type: ignore[union-attr]
    other = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(other.forward(x), ours.forward(x))


def test_layer_and_functions_have_the_same_bits(dtype: Any) -> None:
    x, dout, gamma, beta = problem((50, 8, 9), 1, dtype)
    layer = fs.BatchNorm(8, dtype=dtype)
    layer.gamma[...], layer.beta[...] = gamma, beta
    expected = results(x, dout, gamma, beta, 1)
    out = np.full_like(x, np.nan)
    assert layer.forward(x, out=out) is out
    np.testing.assert_array_equal(out, expected["y"])
    np.testing.assert_array_equal(layer.backward(dout, out=out), expected["dx"])
    np.testing.assert_array_equal(layer.dgamma, expected["dgamma"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(layer.dbeta, expected["dbeta"])  # type: ignore[arg-type]


X = np.ones((4, 3), np.float32)
ONES, ZEROS = np.ones(3), np.zeros(3)
READ_ONLY = np.broadcast_to(np.float32(1), (4, 3))
ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "integers": (lambda: fs.batch_norm(np.ones((4, 3), int), ONES, ZEROS), TypeError, "^x has dtype int64, expected float"),
    "half": (lambda: fs.batch_norm(X.astype("f2"), ONES, ZEROS), TypeError, "^x has dtype float16, expected float32 or"),
    "list": (lambda: fs.batch_norm([[1.0]], ONES, ZEROS), TypeError, "^x is a list, expected an array$"),  # type: ignore[arg-type]
    "gamma": (lambda: fs.batch_norm(X, np.ones(4), ZEROS), ValueError, r"^gamma has shape \(4,\), x has 3 channels$"),
    "beta": (lambda: fs.batch_norm(X, ONES, np.zeros((3, 1))), ValueError, r"^beta has shape \(3, 1\), x has 3 channels$"),
    "words": (lambda: fs.batch_norm(X, ["a", "b", "c"], ZEROS), TypeError, "^gamma is a list, expected an array of floats$"),
    "axis": (lambda: fs.batch_norm(X, ONES, ZEROS, channel_axis=2), ValueError, r"^channel_axis is 2, x has shape \(4, 3\)$"),
    "axis below": (
        lambda: fs.batch_norm(X, ONES, ZEROS, channel_axis=-3),
        ValueError,
        r"^channel_axis is -3, x has shape \(4, 3\)$",
    ),
    "eps": (lambda: fs.batch_norm(X, ONES, ZEROS, eps=-1.0), ValueError, r"^eps is -1.0, expected a finite number >= 0$"),
    "empty": (lambda: fs.batch_norm(X[:0], ONES, ZEROS), ValueError, r"^x has shape \(0, 3\), which leaves no elements"),
    "out shape": (
        lambda: fs.batch_norm(X, ONES, ZEROS, out=np.ones((3, 4), np.float32)),
        ValueError,
        r"^out has shape \(3, 4\), x has \(4, 3\)$",
    ),
    "out type": (
        lambda: fs.batch_norm(X, ONES, ZEROS, out=np.ones((4, 3))),
        ValueError,
        "^out has dtype float64, x has float32$",
    ),
    "out read-only": (lambda: fs.batch_norm(X, ONES, ZEROS, out=READ_ONLY), ValueError, "^out is read-only$"),
    "dout shape": (
        lambda: fs.batch_norm_backward(X.T, X, ONES, ZEROS, ONES),
        ValueError,
        r"^dout has shape \(3, 4\), x has \(4, 3\)$",
    ),
    "dout type": (
        lambda: fs.batch_norm_backward(np.ones((4, 3), int), X, ONES, ZEROS, ONES),
        TypeError,
        "^dout has dtype int64, expected float32 or float64$",
    ),
    "mean": (
        lambda: fs.batch_norm_backward(X, X, ONES, np.ones(2), ONES),
        ValueError,
        r"^mean has shape \(2,\), x has 3 channels$",
    ),
    "layer features": (
        lambda: fs.BatchNorm(5).forward(X),
        ValueError,
        r"^gamma has shape \(5,\), x has 3 channels$",
    ),
    "layer out": (lambda: (lambda x: fs.BatchNorm(3).forward(x, out=x))(X.copy()), ValueError, "^out shares memory with x"),
    "layer backward": (lambda: fs.BatchNorm(3).backward(X), RuntimeError, "^backward needs a forward pass in training"),
    "layer decay": (lambda: fs.BatchNorm(3, decay=1.5), ValueError, "^decay is 1.5, expected a number from 0 to 1$"),
    "layer eps": (lambda: fs.BatchNorm(3, eps=np.nan), ValueError, "^eps is nan, expected a finite number >= 0$"),
    "layer dtype": (lambda: fs.BatchNorm(3, dtype=np.float16), TypeError, "^dtype is float16, expected float32 or float64$"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_a_failed_forward_leaves_the_running_averages() -> None:
    layer = fs.BatchNorm(3)
    layer.running_var = layer.running_var[:2]
    with pytest.raises(ValueError, match=r"^running_var has shape \(2,\), x has 3 channels$"):
        layer.forward(X)
    np.testing.assert_array_equal(layer.running_mean, 0)
    layer.running_var = np.broadcast_to(np.float32(1), (3,))
    with pytest.raises(ValueError, match=r"^running_var is read-only$"):
        layer.forward(X)
    np.testing.assert_array_equal(layer.running_mean, 0)


def test_empty_input_for_inference() -> None:
    assert fs.batch_norm_inference(X[:0], ONES, ZEROS, ZEROS, ONES).shape == (0, 3)
    assert fs.batch_norm(np.ones((4, 0), np.float32), [], [])[0].shape == (4, 0)


def test_constant_channels_are_shift_alone(dtype: Any) -> None:
    for shape in ((3000, 2), (4, 2, 3000)):
        y, mean, inv_std = fs.batch_norm(np.full(shape, 7.25, dtype), [2.0, 3.0], [0.5, -1.5], eps=0.25)
        np.testing.assert_array_equal(mean, 7.25)
        np.testing.assert_array_equal(inv_std, 2.0)
        np.testing.assert_array_equal(y[:, 0], 0.5)
        np.testing.assert_array_equal(y[:, 1], -1.5)
