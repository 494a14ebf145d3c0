"""Batch normalisation: what callers pass, the layer, and errors."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fusedstep as fs
from batch_norm_cases import Array, problem, results
from fusedstep import reference

LAYOUTS: dict[str, Any] = {
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


OUTS: dict[str, Any] = {
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

    def poisoned(like: Array) -> Any:
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
    before = {name: copy.deepcopy(getattr(ours, name)) for name in ours.__slots__}
    y = ours.forward(x, training=False)
    np.testing.assert_allclose(y, theirs.forward(x.astype(np.float64), training=False), **close)
    np.testing.assert_equal({name: getattr(ours, name) for name in ours.__slots__}, before)
    assert y.dtype == ours.dgamma.dtype == ours.gamma.dtype == dtype  # type: ignore[union-attr]
    other = pickle.loads(pickle.dumps(ours))
    with pytest.raises(RuntimeError, match="backward needs"):  # the batch is not in the pickle
        other.backward(x)
    np.testing.assert_array_equal(other.forward(x), ours.forward(x))


def test_out_may_lie_where_the_parameters_do() -> None:
    x, _, gamma, beta = problem((2, 600), 1, np.float64)
    expected, _, _ = fs.batch_norm(x, gamma, beta)
    buffer = np.empty(1800)
    buffer[300:900], buffer[1200:1800] = gamma, beta
    for threads in (1, 7):
        fs.set_num_threads(threads)
        got, _, _ = fs.batch_norm(x, buffer[300:900], buffer[1200:1800], out=buffer[:1200].reshape(2, 600))
        np.testing.assert_array_equal(got, expected)
        buffer[300:900] = gamma


def test_layer_and_functions_have_the_same_bits(dtype: Any) -> None:
    x, dout, gamma, beta = problem((50, 8, 9), 1, dtype)
    layer = fs.BatchNorm(8, dtype=dtype)
    layer.gamma[...], layer.beta[...] = gamma, beta
    expected = results(x, dout, gamma, beta, 1)
    out = np.full_like(x, np.nan)
    assert layer.forward(x, out=out) is out
    np.testing.assert_array_equal(out, expected["y"])
    np.testing.assert_array_equal(layer.backward(dout, out=out), expected["dx"])
    np.testing.assert_array_equal(layer.dgamma, expected["dgamma"])
    np.testing.assert_array_equal(layer.dbeta, expected["dbeta"])


X = np.ones((4, 3), np.float32)
ONES, ZEROS = np.ones(3), np.zeros(3)
READ_ONLY = np.broadcast_to(np.float32(1), (4, 3))
ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "integers": (
        lambda: fs.batch_norm(np.ones((4, 3), int), ONES, ZEROS),
        TypeError,
        "^x has dtype int64, expected float",
    ),
    "half": (
        lambda: fs.batch_norm(X.astype("f2"), ONES, ZEROS),
        TypeError,
        "^x has dtype float16, expected float32 or",
    ),
    "list": (lambda: fs.batch_norm([[1.0]], ONES, ZEROS), TypeError, "^x is a list, expected an array$"),  # type: ignore[call-overload]
    "gamma": (lambda: fs.batch_norm(X, np.ones(4), ZEROS), ValueError, r"^gamma has shape \(4,\), x has 3 channels$"),
    "beta": (
        lambda: fs.batch_norm(X, ONES, np.zeros((3, 1))),
        ValueError,
        r"^beta has shape \(3, 1\), x has 3 channels$",
    ),
    "words": (
        lambda: fs.batch_norm(X, ["a", "b", "c"], ZEROS),
        TypeError,
        "^gamma has dtype <U1, expected floats$",
    ),
    "complex": (lambda: fs.batch_norm(X, ONES * 1j, ZEROS), TypeError, "^gamma has dtype complex128, expected floats$"),
    "axis": (
        lambda: fs.batch_norm(X, ONES, ZEROS, channel_axis=2),
        ValueError,
        r"^channel_axis is 2, x has shape \(4, 3\)$",
    ),
    "axis below": (
        lambda: fs.batch_norm(X, ONES, ZEROS, channel_axis=-3),
        ValueError,
        r"^channel_axis is -3, x has shape \(4, 3\)$",
    ),
    "eps": (
        lambda: fs.batch_norm(X, ONES, ZEROS, eps=-1.0),
        ValueError,
        r"^eps is -1.0, expected a finite number >= 0$",
    ),
    "empty": (
        lambda: fs.batch_norm(X[:0], ONES, ZEROS),
        ValueError,
        r"^x has shape \(0, 3\), which leaves no elements",
    ),
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
    "layer out": (
        lambda: (lambda x: fs.BatchNorm(3).forward(x, out=x))(X.copy()),
        ValueError,
        "^out shares memory with x",
    ),
    "layer backward": (lambda: fs.BatchNorm(3).backward(X), RuntimeError, "^backward needs a forward pass in training"),
    "layer decay": (lambda: fs.BatchNorm(3, decay=1.5), ValueError, "^decay is 1.5, expected a number from 0 to 1$"),
    "layer eps": (lambda: fs.BatchNorm(3, eps=np.nan), ValueError, "^eps is nan, expected a finite number >= 0$"),
    "layer dtype": (
        lambda: fs.BatchNorm(3, dtype=np.float16),
        TypeError,
        "^dtype is <class 'numpy.float16'>, expected float32 or float64$",
    ),
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


def self_overlapping(kind: str) -> Array:
    """(4, 3) in float32 of which elements share memory."""
    strides = {"one row": (0, 4), "one number": (0, 0), "windows": (4, 4), "halves": (10, 4)}[kind]
    return as_strided(np.zeros(30, np.float32), (4, 3), strides, writeable=True)


@pytest.mark.parametrize("kind", ["one row", "one number", "windows", "halves"])
def test_out_whose_elements_share_memory(kind: str) -> None:
    out = self_overlapping(kind)
    for call in (
        lambda: fs.batch_norm(X, ONES, ZEROS, out=out),
        lambda: fs.batch_norm_inference(X, ONES, ZEROS, ZEROS, ONES, out=out),
        lambda: fs.batch_norm_backward(X, X, ONES, ZEROS, ONES, out=out),
    ):
        with pytest.raises(ValueError, match=r"^out has elements that share memory: shape \(4, 3\), strides \("):
            call()
    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("stride", [0, 1, 2, 3, -2])
def test_running_averages_whose_elements_share_memory(name: str, stride: int) -> None:
    layer = fs.BatchNorm(3)
    setattr(layer, name, as_strided(np.zeros(8, np.float32)[3:], (3,), (stride,), writeable=True))
    with pytest.raises(ValueError, match=f"^{name} has elements that share memory"):
        layer.forward(X)


def test_running_averages_that_share_memory_with_other_arrays() -> None:
    for name in ("running_mean", "running_var"):
        buffer = np.ones((4, 3), np.float32)
        for other in ("x", "out", "gamma", "beta"):
            layer = fs.BatchNorm(3)
            setattr(layer, name, buffer[1])
            arrays: dict[str, Any] = {"x": X, "out": None, "gamma": None, "beta": None} | {other: buffer}
            for parameter in ("gamma", "beta"):
                if arrays[parameter] is not None:
                    setattr(layer, parameter, buffer[1, ::-1])
            with pytest.raises(ValueError, match=f"^{name} shares memory with {other}$"):
                layer.forward(arrays["x"], out=arrays["out"])
            np.testing.assert_array_equal(buffer, 1)
    layer = fs.BatchNorm(3)
    layer.running_mean = layer.running_var
    with pytest.raises(ValueError, match=r"^running_var shares memory with running_mean$"):
        layer.forward(X)
    buffer = np.array([0, 1] * 3, np.float32)
    layer.running_mean, layer.running_var = buffer[::2], buffer[1::2]  # between each other, but apart
    layer.forward(X)
    np.testing.assert_allclose(buffer, [0.1, 0.9] * 3, rtol=1e-6)


def test_misaligned_running_averages(dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 3)).astype(dtype)
    plain, odd = fs.BatchNorm(3, dtype=dtype), fs.BatchNorm(3, dtype=dtype)
    for name in ("running_mean", "running_var"):
        array = np.frombuffer(bytearray(3 * x.itemsize + 1), dtype, 3, offset=1)
        array[...] = getattr(odd, name)
        assert not array.flags.aligned
        setattr(odd, name, array)
    for layer in (plain, odd):
        layer.forward(x)
    np.testing.assert_array_equal(odd.running_mean, plain.running_mean)
    np.testing.assert_array_equal(odd.running_var, plain.running_var)
