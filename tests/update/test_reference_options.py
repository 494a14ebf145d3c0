"""The options of the reference: steps worked by hand, PyTorch's clipping, exact counts of random rounding."""

import math
from typing import Any

import numpy as np
import pytest

from fusedstep import reference
from fusedstep.reference.dropout import random_halves

# As in test_reference.py: w = 1 with the gradients 2 and -1.5, and fewer than sixteen roundings.
TOLERANCE = 16 * np.finfo(np.float64).eps
Array = np.ndarray[Any, np.dtype[Any]]


def halved(clip_norm: float, norm: float) -> float:
    """What clipping multiplies by; PyTorch's 1e-6 is part of it."""
    return clip_norm / (norm + 1e-6)


WORKED: dict[str, tuple[reference.Optimizer, dict[str, Any], list[float], dict[str, float]]] = {
    # 1 + .2;  1.2 - .15
    "maximize": (reference.SGD(0.1, maximize=True), {}, [1.2, 1.05], {}),
    # 1 - .1;  .9 + .075
    "scale": (reference.SGD(0.1), {"scale": 0.5}, [0.9, 0.975], {}),
    # g = -1 + .5 * 1: 1 + .05;  g = .75 + .525: 1.05 - .1275
    "maximize leaves the decay": (
        reference.SGD(0.1, maximize=True, weight_decay=0.5),
        {"scale": 0.5},
        [1.05, 0.9225],
        {},
    ),
    # 1 - .1;  .9 + .1
    "clip_value": (reference.SGD(0.1, clip_value=1.0), {}, [0.9, 1.0], {}),
    # g = 1 + .5: 1 - .15;  g = -1 + .425: .85 + .0575
    "clip_value before L2": (reference.SGD(0.1, clip_value=1.0, weight_decay=0.5), {}, [0.85, 0.9075], {}),
    # 1.8 is below the norm of 2 and above that of 1.5: 1 - .2 c;  1 - .2 c + .15
    "clip_norm": (reference.SGD(0.1, clip_norm=1.8), {}, [1 - 0.2 * halved(1.8, 2), 1.15 - 0.2 * halved(1.8, 2)], {}),
    # Norms of 1 and .75 after scale: 1 - .1 c;  1 - .1 c + .075
    "clip_norm after scale": (
        reference.SGD(0.1, clip_norm=0.8),
        {"scale": 0.5},
        [1 - 0.1 * halved(0.8, 1), 1.075 - 0.1 * halved(0.8, 1)],
        {},
    ),
    # A norm of 8 that is given is taken, and scale is for it too: c = 2 / 4;  both gradients are quartered.
    "norm": (
        reference.SGD(0.1, clip_norm=2.0),
        {"scale": 0.5, "norm": 8.0},
        [1 - 0.1 * halved(2, 4), 1 - 0.025 * halved(2, 4)],
        {},
    ),
    # Both are clipped to about 1 by norm, then to .5 by value: 1 - .05;  .95 + .05
    "clip_norm before clip_value": (reference.SGD(0.1, clip_norm=1.0, clip_value=0.5), {}, [0.95, 1.0], {}),
    # v = -.2, w = .95 - .2;  v = -.18 + .15 = -.03, w = .75 * .95 - .03
    "decoupled": (reference.Momentum(0.1, weight_decay=0.5, decoupled=True), {}, [0.75, 0.6825], {"v": -0.03}),
    # w = .8, .95: the average is .8, and moves by a quarter of .15
    "average": (reference.SGD(0.1, average=0.75), {}, [0.8, 0.95], {"average": 0.8375}),
    # The schedule gets 0 and 1: .8, then half of .15 more
    "average by schedule": (reference.SGD(0.1, average=lambda n: n / 2), {}, [0.8, 0.95], {"average": 0.875}),
    # The rate of the group: 1 - 2 * .2;  .6 + .3
    "groups": (reference.SGD(0.1, groups=[(1, {"lr": 9.0}), ({0, 1}, {"lr": 0.2})]), {}, [0.6, 0.9], {}),
    # The first that matches, and its schedule, which gets 0 and 1: 1 - 0;  1 + .15
    "groups by predicate": (
        reference.SGD(0.3, groups=[(lambda key, w: w.ndim == 1, {"lr": lambda n: n / 10}), (0, {"lr": 9.0})]),
        {},
        [1.0, 1.15],
        {},
    ),
}


@pytest.mark.parametrize("name", WORKED)
def test_two_steps_by_hand(name: str) -> None:
    optimizer, given, steps, state = WORKED[name]
    w = np.array([1.0])
    for gradient, expected in zip((2.0, -1.5), steps, strict=True):
        optimizer.update(w, np.array([gradient]), **given)
        np.testing.assert_allclose(w, expected, rtol=TOLERANCE)
    assert optimizer.state.get(0, {}).keys() == state.keys()
    for letter, value in state.items():
        np.testing.assert_allclose(optimizer.state[0][letter], value, rtol=TOLERANCE)


def test_a_step_that_is_skipped() -> None:
    optimizer, g = reference.Adam(0.1, skip_nonfinite=True, average=0.5), np.array([2.0, math.nan])
    w = np.ones(2)
    optimizer.update(w, g, zero_grads=True)
    assert (w == 1).all()
    assert (g == 0).all()
    assert (optimizer.state, optimizer.steps, optimizer.iterations, optimizer.skipped) == ({}, {}, 0, 1)
    assert optimizer.gradient_norm is not None
    assert math.isnan(optimizer.gradient_norm)
    optimizer.update(w, np.array([2.0, 3.0]))
    assert (optimizer.iterations, optimizer.skipped, optimizer.gradient_norm) == (1, 1, math.sqrt(13))


def test_large_numbers_are_finite_even_if_their_norm_is_not() -> None:
    optimizer, w = reference.SGD(1e-200, skip_nonfinite=True), np.ones(1)
    optimizer.update(w, np.array([1e200]))
    assert (w[0], optimizer.gradient_norm, optimizer.skipped) == (0.0, math.inf, 0)


def test_masters_and_copies() -> None:
    # 1 + 2^-9 is half-way between the halves 1 + 2^-10 * {1, 3}; steps of 2^-12 are lost without a master.
    w, copy = np.ones(1, np.float16), np.zeros(1, np.float32)
    optimizer = reference.SGD(1.0, master=True, average=0.0)
    for n in (1, 2, 3):
        optimizer.update([w], [np.full(1, -(2**-12), np.float16)], copies=[copy])
        assert copy[0] == 1 + n * 2**-12
    assert w[0] == 1 + 2**-10
    assert {name: array[0] for name, array in optimizer.state[0].items()} == dict.fromkeys(
        ("master", "average"), 1 + 3 * 2**-12
    )


def test_repeated_rows_add_up(dtype: Any) -> None:
    w, dense = np.ones((4, 2), dtype), np.ones((4, 2), dtype)
    rows = reference.Rows(np.array([2, 0, 2]), np.arange(6, dtype=dtype).reshape(3, 2))
    optimizer, other = reference.AdaGrad(0.1, clip_norm=1.0), reference.AdaGrad(0.1, clip_norm=1.0)
    optimizer.update(w, rows)
    other.update(dense, np.array([[2, 3], [0, 0], [4, 6], [0, 0]], dtype))
    np.testing.assert_array_equal(w, dense)
    assert optimizer.gradient_norm == other.gradient_norm == math.sqrt(65)
    adam = reference.Adam(0.1, weight_decay=0.1)
    adam.update(w, rows)
    np.testing.assert_array_equal(w[[1, 3]], 1)
    assert adam.state[0]["m"][[0, 2]].all()
    assert not adam.state[0]["m"][[1, 3]].any()


def test_optimizers_that_split_the_parameters() -> None:
    adam, sgd = reference.Adam(0.1), reference.SGD(0.5)
    split = reference.Split([(lambda key, w: w.ndim == 2, adam), (lambda *_: True, sgd)], clip_norm=2.5)
    params = {"W": np.ones((1, 1)), "b": np.ones(1)}
    split.update(params, {"W": np.full((1, 1), 3.0), "b": np.full(1, 4.0)})
    assert split.gradient_norm == 5
    np.testing.assert_allclose(params["b"], 1 - 0.5 * 4 * halved(2.5, 5), rtol=TOLERANCE)
    np.testing.assert_allclose(params["W"], 0.9, rtol=1e-8)  # but for epsilon
    assert (adam.iterations, sgd.iterations, list(adam.state), sgd.state) == (1, 1, ["W"], {})


SPECIAL = {"ordinary": 1.0, "short": 1e-3, "zero": 0.0, "inf": math.inf, "NaN": math.nan}


@pytest.mark.parametrize("name", SPECIAL)
def test_norms_are_clipped_as_by_pytorch(name: str, dtype: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
    grads = [rng.standard_normal(n).astype(dtype) for n in (5, 3000)]
    grads[1][7] = SPECIAL[name]
    if name in ("zero", "short"):
        grads = [(g * SPECIAL[name]).astype(dtype) for g in grads]
    tensors = [torch.zeros(len(g), requires_grad=True) for g in grads]
    for tensor, g in zip(tensors, grads, strict=True):
        tensor.data = tensor.data.to(torch.from_numpy(g).dtype)
        tensor.grad = torch.from_numpy(g.copy())
    norm = torch.nn.utils.clip_grad_norm_(tensors, 1.0).item()
    optimizer, params = reference.SGD(1.0, clip_norm=1.0), [np.zeros_like(g) for g in grads]
    with np.errstate(invalid="ignore"):
        optimizer.update(params, grads)
    # PyTorch adds in dtype, in an order of its own: 3005 roundings at most. The coefficient is rounded once more.
    eps = np.finfo(dtype).eps
    assert optimizer.gradient_norm is not None
    np.testing.assert_allclose(optimizer.gradient_norm, norm, rtol=3005 * eps)
    for w, tensor in zip(params, tensors, strict=True):
        np.testing.assert_allclose(-w, tensor.grad.numpy(), rtol=3005 * eps)


def test_values_are_clipped_as_by_pytorch(dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
    g = np.array([0.0, -0.0, 0.1, 0.7, -0.7, 0.5, -0.5, math.inf, -math.inf, math.nan], dtype)
    tensor = torch.zeros(len(g), requires_grad=True)
    tensor.data = tensor.data.to(torch.from_numpy(g).dtype)
    tensor.grad = torch.from_numpy(g.copy())
    torch.nn.utils.clip_grad_value_([tensor], 0.5)
    w: Array = np.zeros_like(g)
    reference.SGD(1.0, clip_value=0.5).update(w, g)
    np.testing.assert_array_equal(-w, tensor.grad.numpy())


def test_averages_are_those_of_the_usual_loop(rng: np.random.Generator) -> None:
    def decay(n: int) -> float:
        return min(0.9, (1 + n) / (10 + n))

    optimizer, w = reference.SGD(0.1, average=decay), rng.standard_normal(100)
    optimizer.update(w, rng.standard_normal(100))
    shadow = w.copy()
    for n in range(1, 50):
        optimizer.update(w, rng.standard_normal(100))
        shadow = decay(n) * shadow + (1 - decay(n)) * w
    (mean,) = optimizer.averages().values()
    # Three roundings a step of numbers below 4, each of which the decay shrinks in the next: 1 / (1 - .9) steps' worth.
    np.testing.assert_allclose(mean, shadow, atol=10 * 3 * 4 * np.finfo(np.float64).eps)


def test_squares_of_many_arrays_make_one_sum(dtype: Any, rng: np.random.Generator) -> None:
    arrays = [rng.standard_normal(n).astype(dtype) for n in (1, 0, 1000, 5000)]
    squares = [x * x for array in arrays for x in array.astype(np.float64).tolist()]
    # 128 additions to a lane, three of lanes; the tiles' are compensated.
    assert reference.sum_of_squares(*arrays) == pytest.approx(math.fsum(squares), rel=132 * 2**-53)
    assert reference.gradient_norm([*arrays, None]) == math.sqrt(reference.sum_of_squares(*arrays))
    assert reference.sum_of_squares() == 0.0
    # Beside 2^62 the eight tiles' terms of 256 would be lost one by one.
    assert reference.sum_of_squares(np.array([2.0**31]), np.full(8 * 1024, 0.5, dtype)) == 2.0**62 + 2048


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([math.inf], math.inf),
        ([1.0] * 2000 + [-math.inf], math.inf),
        ([math.inf, math.nan], math.nan),
        ([1e200], math.inf),
    ],
)
def test_sums_that_are_not_finite(values: list[float], expected: float) -> None:
    for arrays in ([np.array(values)], [np.ones(3), np.array(values), np.ones(3000)]):
        np.testing.assert_equal(reference.sum_of_squares(*arrays), expected)


def test_sums_of_gradients() -> None:
    sums: dict[str, Array] = {"a": np.array([1.0, 2.0], np.float32), "b": np.ones(1, np.float16), "c": np.ones(1)}
    norm = reference.accumulate(sums, {"a": np.array([1.0, -1.0]), "b": np.full(1, 2**-12), "c": None}, scale=2.0)
    np.testing.assert_array_equal(sums["a"], [3, 0])
    assert sums["b"][0] == 1  # 1 + 2^-11 is half-way to the next half
    assert sums["c"][0] == 1
    assert norm == math.sqrt(9 + (1 + 2**-11) ** 2 + 1)


ALL_BITS = np.arange(1 << 16)


def numbers_of(bits: Any) -> Array:
    return np.asarray(bits, np.uint32).view(np.float32)


@pytest.fixture(params=["float16", "bfloat16"])
def narrow(request: pytest.FixtureRequest) -> Any:
    return np.dtype(getattr(pytest.importorskip("ml_dtypes"), request.param, request.param))


@pytest.mark.parametrize("sign", [0, 1 << 31])
@pytest.mark.parametrize("upper", [0x3F80, 0x3F81, 0x0001, 0x0080, 0x7F7E])
def test_of_all_random_numbers_as_many_round_up_as_the_lower_half_says(upper: int, sign: int) -> None:
    bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    values = numbers_of(sign | upper << 16 | ALL_BITS)

    def ups(values: Array, random: Any) -> Array:
        return reference.stored_randomly(values, bfloat16, random).view(np.uint16).astype(int) - (sign >> 16 | upper)

    # Each lower half l with the two numbers around 65536 - l, and with the extremes ...
    np.testing.assert_array_equal(ups(values[1:], 65536 - ALL_BITS[1:]), 1)
    np.testing.assert_array_equal(ups(values, 65535 - ALL_BITS), 0)
    np.testing.assert_array_equal(ups(values, 0), 0)
    np.testing.assert_array_equal(ups(values, 65535), ALL_BITS > 0)
    # ... and some with all.
    for lower in range(0, 1 << 16, 4099):
        assert ups(np.full(1 << 16, values[lower]), ALL_BITS).sum() == lower


@pytest.mark.parametrize(("exponent", "step"), [(0, 2**-10), (-14, 2**-24), (-15, 2**-24), (-24, 2**-24), (15, 32)])
def test_halves_round_up_as_often_as_their_fraction_says(exponent: int, step: float) -> None:
    # Every float32 between two neighbours, or every eighth where subnormal halves leave more than 13 binary digits.
    fractions = ALL_BITS / 65536
    values = (2.0**exponent + fractions * step).astype(np.float32)
    exact = (values.astype(np.float64) - 2.0**exponent) / step
    counts = np.floor(exact * 65536).astype(int)

    def ups(values: Array, random: Any) -> Array:
        rounded = reference.stored_randomly(values, np.dtype(np.float16), random)
        return (rounded.astype(np.float64) - 2.0**exponent) / step

    below_one = exact < 1  # the last values are rounded to the next half
    np.testing.assert_array_equal(ups(values, np.clip(65536 - counts, 0, 65535))[below_one & (counts > 0)], 1)
    np.testing.assert_array_equal(ups(values, 65535 - counts.clip(0, 65535))[below_one], 0)
    for i in range(0, 1 << 16, 4099):
        assert ups(np.full(1 << 16, values[i]), ALL_BITS).sum() == counts[i]


def test_special_numbers_have_stated_results(narrow: Any) -> None:
    largest = 65504.0 if narrow == np.float16 else 2.0**128 - 2.0**120
    next_power = 65536.0 if narrow == np.float16 else math.inf
    stay = [0.0, *range(-256, 257), largest, math.inf, 2.0**-24, -(2.0**-14)]
    for random in (0, 1, 32768, 65535):
        given = np.array(stay, np.float32)
        np.testing.assert_array_equal(reference.stored_randomly(given, narrow, random).astype(np.float32), given)
        below = np.nextafter(np.float32(next_power), np.float32(0))
        ends = np.array([below, -below, next_power, -next_power, math.nan, -0.0], np.float32)
        result = reference.stored_randomly(ends, narrow, random).astype(np.float32)
        np.testing.assert_array_equal(result, [largest, -largest, math.inf, -math.inf, math.nan, 0])
        assert np.signbit(result[-1])
        assert reference.stored_randomly(np.float32(1e-30), np.dtype(np.float16), np.array(random)) == 0
    quiet = reference.stored_randomly(numbers_of([0x7F800001]), narrow, 65535)
    assert np.isnan(quiet.astype(np.float32)).all()


def test_doubles_are_rounded_once(narrow: Any) -> None:
    last = 2.0**-10 if narrow == np.float16 else 2.0**-7
    above = 1 + last / 2 + 2.0**-40  # a float32 would be the tie, which is rounded down
    values = np.array([above, -above, 1 + last / 2, 0.0, math.inf, -math.inf, math.nan, 1e300, 1.5 * last])
    expected = [1 + last, -1 - last, 1, 0, math.inf, -math.inf, math.nan, math.inf, 1.5 * last]
    copy: Array = np.zeros(len(values), narrow)
    with np.errstate(invalid="ignore"):
        reference.SGD(0.0).update([values], [np.zeros(len(values))], copies=[copy])
    np.testing.assert_array_equal(copy.astype(np.float64), expected)


def test_random_bits_depend_on_seed_update_array_slot_and_element() -> None:
    def bits(seed: int = 1, update: int = 1, array: int = 0, slot: int = 1) -> Any:
        return random_halves(1000, (seed, update), array, slot)

    ways = [bits(), bits(seed=2), bits(seed=1 << 32 | 1), bits(update=2), bits(array=1), bits(slot=2)]
    for i, a in enumerate(ways):
        for b in ways[:i]:
            assert (a == b).mean() < 0.01
    # The first 16 bits of the mask's: as many are kept as are at or above half.
    mask = reference.dropout_mask((1000,), 0.5, 7, 3)
    np.testing.assert_array_equal(mask, random_halves(1000, (7, 3), 0) >= 32768)


BETA2, STEPS = 0.999, 10_000


def test_second_moments_stand_still_if_rounded_to_nearest() -> None:
    v = np.zeros(1, np.float32)
    for _ in range(STEPS):
        v = reference.bfloat16_to_float32(reference.float32_to_bfloat16(v + np.float32(1 - BETA2) * (1 - v)))
    assert v == 0.25  # whose neighbour is 2^-9 away; the step is .00075
