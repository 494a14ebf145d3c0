"""Initial weights: their distribution, fans, generators, and what they do to the activations of twenty layers."""

import copy
import functools
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import initializers

# Name: the function, and its variance by hand.
VARIANCES: dict[str, tuple[Callable[..., Any], Callable[[int, int], float]]] = {
    "lecun_normal": (initializers.lecun_normal, lambda n_in, n_out: 1 / n_in),
    "lecun_uniform": (initializers.lecun_uniform, lambda n_in, n_out: 1 / n_in),
    "xavier_normal": (initializers.xavier_normal, lambda n_in, n_out: 1 / (0.5 * n_in + 0.5 * n_out)),
    "xavier_uniform": (initializers.xavier_uniform, lambda n_in, n_out: 1 / (0.5 * n_in + 0.5 * n_out)),
    "he_normal": (initializers.he_normal, lambda n_in, n_out: 2 / n_in),
    "he_uniform": (initializers.he_uniform, lambda n_in, n_out: 2 / n_in),
    "he_normal fan_out": (functools.partial(initializers.he_normal, mode="fan_out"), lambda n_in, n_out: 2 / n_out),
    "he_uniform fan_out": (functools.partial(initializers.he_uniform, mode="fan_out"), lambda n_in, n_out: 2 / n_out),
}
FUNCTIONS = tuple(name for name in VARIANCES if " " not in name)

# Name: the shape, its axes, fan_in and fan_out. The two differ by a quarter and more, and there are some 1e5 weights.
LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, int], int, int]] = {
    "dense": ((400, 300), {}, 400, 300),
    "PyTorch's Linear": ((400, 300), {"in_axis": 1, "out_axis": 0}, 300, 400),
    "1-D": ((90, 120, 9), {}, 1080, 810),
    "2-D": ((40, 60, 5, 7), {}, 2100, 1400),
    "Keras' 1-D": ((9, 120, 90), {"in_axis": -2, "out_axis": -1}, 1080, 810),
    "Keras' 2-D": ((5, 7, 60, 40), {"in_axis": -2, "out_axis": -1}, 2100, 1400),
    "3-D": ((20, 40, 5, 5, 5), {}, 5000, 2500),
}
every_initializer = pytest.mark.parametrize("name", VARIANCES)
every_function = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.mark.parametrize(
    ("shape", "axes", "fan_in", "fan_out"),
    [
        *LAYOUTS.values(),
        ((784, 100), {}, 784, 100),
        ([1, 1], {}, 1, 1),
        (np.array([3, 5]), {}, 3, 5),
        ((3, 5), {"in_axis": 0, "out_axis": 1}, 3, 5),
        ((3, 5), {"in_axis": -1, "out_axis": -2}, 5, 3),
        ((30, 1, 5, 5), {}, 25, 750),  # the book's first convolution
        ((64, 3, 7, 7), {}, 147, 3136),
        ((2, 3, 5), {"in_axis": 2, "out_axis": 0}, 15, 6),
        ((2, 3, 5), {"in_axis": np.int64(0), "out_axis": -1}, 6, 15),
        ((10**6, 10**6, 10**6, 10**6), {}, 10**18, 10**18),
        ((10**6, 10**5, 10**10, 10**10), {}, 10**25, 10**26),
    ],
    ids=str,
)
def test_fans_by_hand(shape: Any, axes: dict[str, Any], fan_in: int, fan_out: int) -> None:
    found = initializers.fans(shape, **axes)
    assert found == (fan_in, fan_out)
    assert (found.fan_in, found.fan_out) == (fan_in, fan_out)


@every_initializer
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_moments(name: str, layout: str, gain: float, dtype: Any, rng: np.random.Generator) -> None:
    function, variance_of = VARIANCES[name]
    shape, axes, fan_in, fan_out = LAYOUTS[layout]
    w = function(shape, gain=gain, dtype=dtype, rng=rng, **axes)
    assert w.dtype == dtype
    assert w.shape == shape
    assert w.flags.c_contiguous
    assert w.flags.writeable
    z = w.astype(np.float64).ravel() / (gain * math.sqrt(variance_of(fan_in, fan_out)))
    # z has variance 1. The mean of N values of z^k has variance (E z^2k - (E z^k)^2) / N. E z^2, z^4, z^6 and z^8 are
    # 1, 3, 15, 105 if z is normal, and 3^(k / 2) / (k + 1) = 1, 9/5, 27/7, 9 if it is uniform from -sqrt(3) to sqrt(3).
    # Five standard deviations; the rounding to float32, 6e-8, is nothing beside them.
    second, fourth, sixth, eighth = (1, 9 / 5, 27 / 7, 9) if "uniform" in name else (1, 3, 15, 105)
    for power, expected, variance in (
        (1, 0, second),
        (2, second, fourth - second**2),
        (3, 0, sixth),
        (4, fourth, eighth - fourth**2),
    ):
        assert abs(np.mean(z**power) - expected) < 5 * math.sqrt(variance / z.size), power


@pytest.mark.parametrize("name", [name for name in VARIANCES if "uniform" in name])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bounds_of_the_uniform_ones(name: str, layout: str, dtype: Any, rng: np.random.Generator) -> None:
    function, variance_of = VARIANCES[name]
    shape, axes, fan_in, fan_out = LAYOUTS[layout]
    w = function(shape, dtype=dtype, rng=rng, **axes)
    limit = math.sqrt(3 * variance_of(fan_in, fan_out))
    # Six roundings at most on both sides together, half an eps each. A value is above limit (1 - 40 / N) with
    # probability 20 / N, so none of N is with (1 - 20 / N)^N < e^-20 = 2e-9.
    assert np.abs(w).max() <= limit * (1 + 3 * np.finfo(dtype).eps)
    assert w.max() >= limit * (1 - 40 / w.size)
    assert w.min() <= -limit * (1 - 40 / w.size)


@every_initializer
def test_neighbours_are_independent(name: str, rng: np.random.Generator) -> None:
    z = VARIANCES[name][0]((400, 300), dtype=np.float64, rng=rng)
    z /= z.std()
    # The mean of N products of independent values of variance 1 has variance 1 / N.
    for products in (z[1:] * z[:-1], z[:, 1:] * z[:, :-1]):
        assert abs(np.mean(products)) < 5 / math.sqrt(products.size)


@every_initializer
@pytest.mark.parametrize("gain", [0.0, 0.5, 4.0])
def test_gain_multiplies(name: str, gain: float, dtype: Any) -> None:
    function, _ = VARIANCES[name]
    plain = function((30, 20), dtype=dtype, rng=3)
    # powers of two, so nothing is rounded
    np.testing.assert_array_equal(function((30, 20), gain=gain, dtype=dtype, rng=3), gain * plain)


@every_initializer
def test_float32_is_float64_rounded(name: str) -> None:
    function, _ = VARIANCES[name]
    double = function((30, 20), dtype=np.float64, rng=3)
    single = function((30, 20), rng=3)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))
    assert np.any(double != single)


@every_initializer
def test_a_layout_changes_the_scale_alone(name: str) -> None:
    function, variance_of = VARIANCES[name]
    ours = function((30, 20), dtype=np.float64, rng=3)
    theirs = function((30, 20), dtype=np.float64, rng=3, in_axis=1, out_axis=0)
    ratio = math.sqrt(variance_of(20, 30) / variance_of(30, 20))
    # six roundings of half an eps on either side
    np.testing.assert_allclose(theirs, ratio * ours, rtol=6 * float(np.finfo(np.float64).eps))


SEEDS: dict[str, Callable[[], Any]] = {
    "int": lambda: 3,
    "NumPy int": lambda: np.int64(3),
    "sequence": lambda: [3],
    "array": lambda: np.array([3]),
    "SeedSequence": lambda: np.random.SeedSequence(3),
    "BitGenerator": lambda: np.random.PCG64(3),
    "Generator": lambda: np.random.default_rng(3),
}


@every_function
@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_reproduces(name: str, seed: str) -> None:
    function, _ = VARIANCES[name]
    w = function((30, 20), rng=3)
    np.testing.assert_array_equal(function((30, 20), rng=SEEDS[seed]()), w)
    assert np.all(function((30, 20), rng=4) != w)


def test_the_numbers_are_the_generators() -> None:
    # a deviation of 1/2 and a limit of 1, which round nothing
    normal = initializers.lecun_normal((4, 3), dtype=np.float64, rng=3)
    np.testing.assert_array_equal(normal, np.random.default_rng(3).standard_normal((4, 3)) / 2)
    uniform = initializers.lecun_uniform((3, 4), dtype=np.float64, rng=3)
    np.testing.assert_array_equal(uniform, np.random.default_rng(3).uniform(-1, 1, (3, 4)))


@every_function
def test_a_generator_advances(name: str) -> None:
    function, _ = VARIANCES[name]
    rng = np.random.default_rng(3)
    first, second = function((30, 20), rng=rng), function((30, 20), rng=rng)
    # both draws as one, which has the same fans with the first axis in the kernel
    both = function((2, 30, 20), rng=3, in_axis=1, out_axis=2, gain=math.sqrt(2))
    # the square root and the two divisions round, each at half an eps of float64, so float32 differs by one eps at most
    np.testing.assert_allclose(both, np.stack((first, second)), rtol=float(np.finfo(np.float32).eps))


@every_function
def test_without_a_seed_weights_differ(name: str) -> None:
    function, _ = VARIANCES[name]
    np.random.seed(0)  # noqa: NPY002
    w = function((30, 20), dtype=np.float64)
    np.random.seed(0)  # noqa: NPY002
    assert np.all(function((30, 20), dtype=np.float64) != w)


@every_function
def test_any_name_of_a_dtype(name: str) -> None:
    function, _ = VARIANCES[name]
    for given, dtype in ((float, "f8"), ("float32", "f4"), (np.dtype("f8"), "f8"), ("d", "f8")):
        assert function((3, 2), dtype=given).dtype == np.dtype(dtype)


GENERATOR = "expected a numpy.random.Generator, a seed >= 0 or None"
FLOATS = "expected float32 or float64$"
# Name: arguments, the error and its text.
BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no shape": (5, {}, TypeError, r"^shape is 5, expected a sequence of integers$"),
    "float length": ((3, 2.0), {}, TypeError, r"^shape is \(3, 2.0\), expected a sequence of integers$"),
    "text": ("32", {}, TypeError, r"^shape is '32', expected a sequence of integers$"),
    "no axis": ((), {}, ValueError, r"^shape is \(\), expected two axes or more$"),
    "one axis": ((3,), {}, ValueError, r"^shape is \(3,\), expected two axes or more$"),
    "negative": ((3, -2), {}, ValueError, r"^shape is \(3, -2\), expected lengths >= 0$"),
    "no inputs": ((0, 2), {}, ValueError, r"^shape is \(0, 2\), which makes fan_in 0, expected 1 or more$"),
    "no outputs": ((2, 0), {}, ValueError, r"^shape is \(2, 0\), which makes fan_out 0, expected 1 or more$"),
    "empty kernel": ((2, 3, 0), {}, ValueError, r"^shape is \(2, 3, 0\), which makes fan_in 0, expected 1 or more$"),
    "in_axis alone": (
        (3, 2),
        {"in_axis": 0},
        ValueError,
        r"^in_axis is 0 and out_axis is None, expected both or neither$",
    ),
    "out_axis alone": (
        (3, 2),
        {"out_axis": 1},
        ValueError,
        r"^in_axis is None and out_axis is 1, expected both or neither$",
    ),
    "one axis twice": (
        (3, 2),
        {"in_axis": 1, "out_axis": -1},
        ValueError,
        r"^in_axis is 1 and out_axis is -1, expected two different axes of shape \(3, 2\)$",
    ),
    "in_axis too large": (
        (3, 2),
        {"in_axis": 2, "out_axis": 0},
        ValueError,
        r"^in_axis is 2, expected -2 to 1 for shape \(3, 2\)$",
    ),
    "out_axis too small": (
        (3, 2, 1),
        {"in_axis": 0, "out_axis": -4},
        ValueError,
        r"^out_axis is -4, expected -3 to 2 for shape \(3, 2, 1\)$",
    ),
    "float axis": ((3, 2), {"in_axis": 0.0, "out_axis": 1}, TypeError, r"^in_axis is 0.0, expected an integer$"),
    "negative gain": ((3, 2), {"gain": -1}, ValueError, r"^gain is -1, expected a finite number >= 0$"),
    "infinite gain": ((3, 2), {"gain": math.inf}, ValueError, r"^gain is inf, expected a finite number >= 0$"),
    "NaN for a gain": ((3, 2), {"gain": math.nan}, ValueError, r"^gain is nan, expected a finite number >= 0$"),
    "text for a gain": ((3, 2), {"gain": "relu"}, TypeError, r"^gain is 'relu', expected a number$"),
    "half": ((3, 2), {"dtype": np.float16}, TypeError, rf"^dtype is <class 'numpy.float16'>, {FLOATS}"),
    "integers": ((3, 2), {"dtype": int}, TypeError, rf"^dtype is <class 'int'>, {FLOATS}"),
    "no dtype": ((3, 2), {"dtype": None}, TypeError, rf"^dtype is None, {FLOATS}"),
    "unknown dtype": ((3, 2), {"dtype": "single!"}, TypeError, rf"^dtype is 'single!', {FLOATS}"),
    "swapped dtype": (
        (3, 2),
        {"dtype": np.dtype(np.float32).newbyteorder().str},
        TypeError,
        rf"^dtype is '[<>]f4', {FLOATS}",
    ),
    "negative seed": ((3, 2), {"rng": -1}, ValueError, rf"^rng is -1, {GENERATOR}$"),
    "float seed": ((3, 2), {"rng": 0.5}, TypeError, rf"^rng is 0.5, {GENERATOR}$"),
    "NumPy's module": ((3, 2), {"rng": np.random}, TypeError, rf"^rng is <module 'numpy.random'.*>, {GENERATOR}$"),
}


@every_function
@pytest.mark.parametrize("what", BAD)
def test_bad_arguments(name: str, what: str) -> None:
    shape, arguments, error, message = BAD[what]
    rng = np.random.default_rng(3)
    before = copy.deepcopy(rng.bit_generator.state)
    with pytest.raises(error, match=message):
        VARIANCES[name][0](shape, **{"rng": rng} | arguments)
    assert rng.bit_generator.state == before
    if set(arguments) <= {"in_axis", "out_axis"}:
        with pytest.raises(error, match=message):
            initializers.fans(shape, **arguments)


@pytest.mark.parametrize("function", [initializers.he_normal, initializers.he_uniform], ids=lambda f: f.__name__)
@pytest.mark.parametrize("mode", ["fan_avg", "", None, 1])
def test_bad_mode(function: Callable[..., Any], mode: Any) -> None:
    with pytest.raises(ValueError, match=rf"^mode is {mode!r}, expected 'fan_in' or 'fan_out'$"):
        function((3, 2), mode=mode)


# Twenty layers, between widths that take turns.
WIDTHS = (600, 300) * 10 + (600,)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def identity(x: Any) -> Any:
    return x


def mean_squares(weights: Callable[..., Any], activation: Callable[[Any], Any], back: bool, start: float) -> float:
    """The mean square of the last layer over that of the first; with back, of what goes back through the transposes."""
    rng = np.random.default_rng(20101028)
    x = first = start * rng.standard_normal(WIDTHS[0])
    for n_in, n_out in pairwise(WIDTHS):
        x = x @ (weights((n_out, n_in), rng=rng).T if back else weights((n_in, n_out), rng=rng))
        x = activation(x)
    return float(np.mean(x**2) / np.mean(first**2))


# An output h of a linear unit has, given the inputs x, mean 0 and variance s = |x|^2 Var w, whatever the layers before
# did. E h^4 = 3 s^2 if the weights are normal and less if they are uniform, so h^2 has mean s and variance 2 s^2 at
# most. relu(h)^2 is h^2 for half of all h: mean s / 2, variance (3/2 - 1/4) s^2 = 5 (s / 2)^2. The mean over n outputs
# thus has a variance of c / n relative to its mean, c = 2 or 5, and to first order the logarithm of the product over
# all layers has the sum of c / n. Five standard deviations.
@pytest.mark.parametrize(
    ("weights", "activation", "back", "start", "c", "each_pair"),
    [
        (initializers.lecun_normal, identity, False, 1, 2, 1),
        (initializers.lecun_uniform, identity, False, 1, 2, 1),
        # tanh(h) = h (1 - h^2 / 3): at h = 1e-4 that is linear to 1e-8
        (initializers.lecun_normal, np.tanh, False, 1e-4, 2, 1),
        # Xavier's mean square grows by 2 n_in / (n_in + n_out), 4/3 and 2/3 in turn, forwards as backwards
        (initializers.xavier_normal, identity, False, 1, 2, 8 / 9),
        (initializers.xavier_uniform, identity, False, 1, 2, 8 / 9),
        (initializers.xavier_normal, identity, True, 1, 2, 8 / 9),
        (initializers.he_normal, relu, False, 1, 5, 1),
        (initializers.he_uniform, relu, False, 1, 5, 1),
        (functools.partial(initializers.he_normal, mode="fan_out"), relu, True, 1, 5, 1),
        (functools.partial(initializers.he_uniform, mode="fan_out"), relu, True, 1, 5, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_twenty_layers_keep_the_mean_square(
    weights: Callable[..., Any], activation: Callable[[Any], Any], back: bool, start: float, c: float, each_pair: float
) -> None:
    expected = 10 * math.log(each_pair)
    deviation = math.sqrt(sum(c / n for n in WIDTHS[1:]))
    assert abs(math.log(mean_squares(weights, activation, back, start)) - expected) < 5 * deviation


@pytest.mark.parametrize(("activation", "half"), [(identity, 1), (relu, 0.5)], ids=["identity", "relu"])
@pytest.mark.parametrize("std", [0.01, 1.0])
def test_twenty_layers_of_one_deviation_lose_it(std: float, activation: Callable[[Any], Any], half: float) -> None:
    def weights(shape: tuple[int, int], rng: np.random.Generator) -> Any:
        return fs.initializers.lecun_normal(shape, gain=std * math.sqrt(shape[0]), dtype=np.float64, rng=rng)

    # a layer's mean square is n_in std^2 times the last one's, or half of it: 0.06 and 0.03 in turn, or 600 and 300
    expected = sum(math.log(half * n * std**2) for n in WIDTHS[:-1])
    assert abs(expected) > 20 * math.log(10)
    deviation = math.sqrt(sum(5 / n for n in WIDTHS[1:]))
    assert abs(math.log(mean_squares(weights, activation, False, 1)) - expected) < 5 * deviation
