"""Dropout against the NumPy reference, the published generator, and what independent masks look like."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native, reference

SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 1000, 1023, 1024, 1025, 16_384, 100_003)
# The last leaves about one element in 2^32; 1e-6 and 0.3 have lower halves that decide, 0.25 has none.
RATES = (0.0, 1e-6, 0.1, 0.25, 0.3, 0.5, 0.999, float(np.nextafter(1, 0)))
KEYS = ((0, 0), (1, 2), (2**32 + 5, 2**33 + 7), (2**64 - 1, 2**64 - 1))


def bits(a: Any) -> Any:
    return a.view(f"u{a.dtype.itemsize}")


@pytest.mark.parametrize(("rounds", "vector"), [(13, 0), (20, 1)])
@pytest.mark.parametrize("which", range(3))
def test_the_generator_is_the_published_one(rounds: int, vector: int, which: int) -> None:
    # Known answers that the authors of Threefry published for 4 x 32 bits: counter and key, then 13 and 20 rounds.
    counter, key, *answers = [
        (
            "00000000 " * 4,
            "00000000 " * 4,
            "531c7e4f 39491ee5 2c855a92 3d6abf9a",
            "9c6ca96a e17eae66 fc10ecd4 5256a7d8",
        ),
        (
            "ffffffff " * 4,
            "ffffffff " * 4,
            "c4189358 1c9cc83a d5881c67 6a0a89e0",
            "2a881696 57012287 f6c7446e a16a6732",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0 082efa98 ec4e6c89",
            "4aa71d8f 734738c2 431fc6a8 ae6debf1",
            "59cd1dbb b8879579 86b5d00c ac8b6d84",
        ),
    ][which]
    words = [[int(word, 16) for word in text.split()] for text in (counter, key, answers[vector])]
    found = reference.threefry4x32(np.array(words[0])[:, np.newaxis], words[1], rounds)
    assert found[:, 0].tolist() == words[2]


def test_elements_take_their_bits_from_the_counters_as_documented() -> None:
    seed, call, rate = 7, 2**40 + 3, 0.3
    mask = reference.dropout_mask((200,), rate, seed, call)
    for i in (0, 1, 8, 31, 32, 63, 64, 130, 199):
        group, place = divmod(i, 64)
        half, place = divmod(place, 32)
        word, lane = divmod(place, 8)
        random = 0
        for part in (0, 1):
            counter = np.array([[8 * group + lane], [0], [part], [0]])
            found = int(reference.threefry4x32(counter, [seed, 0, call % 2**32, call >> 32])[word, 0])
            random = random << 16 | (found >> 16 * half & 0xFFFF)
        assert mask[i] == (random / 2**32 >= rate)


@pytest.mark.parametrize("rate", RATES)
def test_bits(rate: float, isa: str, dtype: Any, threads: int, rng: Any) -> None:
    for n in SIZES:
        x = rng.standard_normal(n).astype(dtype)
        for seed, call in KEYS[:2] if n > 10_000 else KEYS:
            out = np.full_like(x, np.nan)
            assert fs.dropout(x, rate, seed=seed, call=call, out=out) is out
            np.testing.assert_array_equal(bits(out), bits(reference.dropout(x, rate, seed=seed, call=call)))
            np.testing.assert_array_equal(bits(fs.dropout(x, rate, seed=seed, call=call)), bits(out))


def test_where_the_upper_half_leaves_an_element_undecided(isa: str, dtype: Any) -> None:
    # At 0.3 the upper 16 bits decide but for one element in 65 536; among these some are kept and some dropped.
    x = np.ones(1 << 20, dtype)
    y = fs.dropout(x, 0.3, seed=3)
    kept = reference.dropout_mask(x.shape, 0.3, 3)
    np.testing.assert_array_equal(y != 0, kept)
    threshold = round(0.3 * 2**32)
    coarse_low, coarse_high = (threshold >> 16) / 65536, ((threshold >> 16) + 1) / 65536
    undecided = reference.dropout_mask(x.shape, coarse_low, 3) & ~reference.dropout_mask(x.shape, coarse_high, 3)
    assert 4 <= undecided.sum() <= 40  # 16 are expected
    assert 0 < (undecided & kept).sum() < undecided.sum()


def test_past_the_caches(isa: str, dtype: Any, threads: int) -> None:
    size = (16 << 20) // np.dtype(dtype).itemsize + 1001
    x: Any = np.arange(size, dtype=dtype)
    memory = np.empty(size + 16, dtype)
    expected = reference.dropout(x, 0.3, seed=9)
    for offset in (0, 1, 3, 8):
        out = memory[offset : offset + size]
        out[...] = np.nan
        np.testing.assert_array_equal(fs.dropout(x, 0.3, seed=9, out=out), expected)
    np.testing.assert_array_equal(fs.dropout(x, 0.3, seed=9, out=x), expected)


def layouts(a: Any) -> dict[str, Any]:
    """The same 5 x 6 x 7 numbers, however they may lie."""
    spread = np.zeros((10, 6, 21), a.dtype)
    spread[::2, :, ::3] = a
    memory = np.zeros(a.nbytes + 1, np.uint8)
    misaligned = memory[1:].view(a.dtype).reshape(a.shape)
    misaligned[...] = a
    read_only = a.copy()
    read_only.flags.writeable = False
    return {
        "plain": a.copy(),
        "strided": spread[::2, :, ::3],
        "transposed": a.transpose(2, 0, 1).copy().transpose(1, 2, 0),
        "fortran": np.asfortranarray(a),
        "reversed": a[::-1, :, ::-1].copy()[::-1, :, ::-1],
        "misaligned": misaligned,
        "read-only": read_only,
        "subclass": a.copy().view(type("Sub", (np.ndarray,), {})),
    }


@pytest.mark.parametrize("layout", layouts(np.zeros((5, 6, 7))))
def test_the_mask_goes_by_rows_wherever_elements_lie(layout: str, dtype: Any, rng: Any) -> None:
    a = rng.standard_normal((5, 6, 7)).astype(dtype)
    expected = fs.dropout(a, 0.4, seed=1)
    x = layouts(a)[layout]
    np.testing.assert_array_equal(fs.dropout(x, 0.4, seed=1), expected, strict=layout != "subclass")
    np.testing.assert_array_equal(x, a)
    if layout != "read-only":
        out = layouts(np.full_like(a, np.nan))[layout]
        assert fs.dropout(a, 0.4, seed=1, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert fs.dropout(x, 0.4, seed=1, out=x) is x
        np.testing.assert_array_equal(x, expected)


def test_broadcast_scalar_and_empty(dtype: Any) -> None:
    row = np.arange(1, 6, dtype=dtype)
    np.testing.assert_array_equal(
        fs.dropout(np.broadcast_to(row, (9, 5)), seed=1), fs.dropout(np.tile(row, (9, 1)), seed=1)
    )
    scalar = np.array(3, dtype)
    assert fs.dropout(scalar, seed=0).shape == ()
    assert {float(fs.dropout(scalar, seed=seed)) for seed in range(20)} == {0.0, 6.0}
    assert fs.dropout(np.empty((3, 0), dtype), seed=0).shape == (3, 0)


def test_out_that_lies_across_x(dtype: Any, rng: Any) -> None:
    memory = rng.standard_normal(5000).astype(dtype)
    expected = fs.dropout(memory[:4000].copy(), 0.5, seed=1)
    fs.dropout(memory[:4000], 0.5, seed=1, out=memory[3:4003])
    np.testing.assert_array_equal(memory[3:4003], expected)


def test_special_values_go_through_as_in_numpy(isa: str, dtype: Any) -> None:
    x = np.resize(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, np.finfo(dtype).max], dtype), 1000)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = reference.dropout(x, 0.5, seed=4)
    y = fs.dropout(x, 0.5, seed=4)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    numbers = ~np.isnan(y)
    np.testing.assert_array_equal(bits(y[numbers]), bits(expected[numbers]))


def test_subnormal_numbers(isa: str, dtype: Any) -> None:
    x = np.full(1000, np.finfo(dtype).smallest_subnormal * 8)
    assert not fs.dropout(x, 0.5, seed=4).any()
    fs.set_flush_subnormals(False)
    np.testing.assert_array_equal(fs.dropout(x, 0.5, seed=4), reference.dropout(x, 0.5, seed=4))


def test_one_parallel_region() -> None:
    fs.set_num_threads(2)
    x = np.ones(1_000_000, np.float32)
    before = _native.parallel_regions()
    fs.dropout(x, seed=1)
    assert _native.parallel_regions() == before + 1


def kept(rate: float, seed: int, call: int, n: int) -> Any:
    return fs.dropout(np.ones(n, np.float32), rate, seed=seed, call=call) != 0


# In what follows a statistic may miss its expectation by 5 standard deviations. Of the some 1500 of them, which depend
# on nothing but the seeds written here, one would miss it by chance with a probability of 1e-3.
DEVIATIONS = 5


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_rate(rate: float, seed: int) -> None:
    n = 1 << 22
    mask = kept(rate, seed, 0, n)
    # The number of elements kept is binomial; so it is in each of the 64 places of a group.
    assert abs(mask.sum() - n * (1 - rate)) < DEVIATIONS * np.sqrt(n * rate * (1 - rate))
    places = mask.reshape(-1, 64).sum(axis=0)
    assert np.abs(places - n / 64 * (1 - rate)).max() < DEVIATIONS * np.sqrt(n / 64 * rate * (1 - rate))
    # And so are the values: what is kept is scaled so that the sum is expected to stay the same.
    y = fs.dropout(np.ones(n), rate, seed=seed)
    assert abs(y.mean() - 1) < DEVIATIONS * np.sqrt(rate / (1 - rate) / n)


@pytest.mark.parametrize("stride", [1, 2, 8, 31, 32, 64, 1000])
def test_patterns_of_eight_elements(stride: int) -> None:
    n = 1 << 22
    mask = kept(0.5, 11, 0, n)
    mask = mask[: n // (8 * stride) * 8 * stride].reshape(-1, 8, stride).swapaxes(1, 2).reshape(-1, 8)
    counts = np.bincount(np.packbits(mask, axis=1)[:, 0], minlength=256)
    expected = len(mask) / 256
    # Chi-square with 255 degrees of freedom: mean 255, variance 510.
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < DEVIATIONS * np.sqrt(510)


def correlation(a: Any, b: Any) -> float:
    """Of two masks, in standard deviations: of n independent pairs it is normal with deviation 1 / sqrt(n)."""
    a, b = a - a.mean(), b - b.mean()
    return float(np.sqrt(len(a)) * (a @ b) / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_elements_are_independent(rate: float) -> None:
    mask = kept(rate, 5, 0, 1 << 19).astype(np.float64)
    lags = [*range(1, 200), 256, 512, 1000, 1024, 2048, 4096, 16_384, 65_536]
    worst = max((abs(correlation(mask[:-lag], mask[lag:])), lag) for lag in lags)
    assert worst[0] < DEVIATIONS, worst


@pytest.mark.parametrize("which", ["call", "seed"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_calls_and_seeds_are_independent(rate: float, which: str) -> None:
    # Neighbours, and numbers that differ in one bit.
    numbers = [*range(20), *(1 << bit for bit in range(5, 64, 3))]
    masks = [kept(rate, **{"seed": 1, "call": 1, which: number}, n=1 << 14).astype(np.float64) for number in numbers]
    worst = max(
        (abs(correlation(masks[i], masks[j])), numbers[i], numbers[j])
        for i in range(len(masks))
        for j in range(i + 1, len(masks))
    )
    assert worst[0] < DEVIATIONS, worst


def test_seed_and_call_are_not_exchanged() -> None:
    assert (kept(0.5, 3, 4, 1000) != kept(0.5, 4, 3, 1000)).any()


def test_layer(dtype: Any, rng: Any) -> None:
    x, dout = (rng.standard_normal((50, 20)).astype(dtype) for _ in range(2))
    layer, oracle = fs.Dropout(0.3, seed=8), reference.Dropout(0.3, seed=8)
    for call in range(3):
        assert layer.calls == call
        np.testing.assert_array_equal(layer.forward(x), oracle.forward(x), strict=True)
        np.testing.assert_array_equal(layer.forward(x, training=False), x)
        np.testing.assert_array_equal(layer.backward(dout), oracle.backward(dout), strict=True)
        np.testing.assert_array_equal(layer.backward(dout, out=dout.copy()), oracle.backward(dout))
    assert layer.calls == 3
    assert layer.forward(x, training=False) is x
    out = np.full_like(x, np.nan)
    assert layer.forward(x, training=False, out=out) is out
    np.testing.assert_array_equal(out, x)
    assert fs.Dropout().rate == 0.5
    assert repr(layer) == "Dropout(rate=0.3, seed=8)"


@pytest.mark.parametrize("times", [1.3, 2.5, 1])
def test_the_mean_stays_at_rates_near_one(times: float) -> None:
    """The share that is kept is a multiple of 2^-32, of which the factor is the inverse."""
    rate = 1 - times * 2**-22
    y = fs.dropout(np.ones(1 << 24), rate, seed=5)
    kept = 2**32 - round(rate * 2**32)
    assert set(y[y != 0].tolist()) == {2**32 / kept}
    np.testing.assert_array_equal(np.flatnonzero(y), np.flatnonzero(reference.dropout_mask(y.shape, rate, 5)))


def test_calls_from_several_threads_have_masks_of_their_own() -> None:
    for n, calls in ((20_000, 400), (100, 10_000)):
        layer, x = fs.Dropout(seed=4), np.ones(n, np.float32)
        with ThreadPoolExecutor(4) as threads:
            masks = list(threads.map(lambda _, layer=layer, x=x: layer.forward(x)[:200].tobytes(), range(calls)))
        assert len(set(masks)) == layer.calls == calls


def test_backward_is_the_gradient(rng: Any) -> None:
    layer = fs.Dropout(0.3, seed=2)
    x, dout = rng.standard_normal((2, 500))
    y = layer.forward(x)
    # The layer is linear in x, so the two products are equal but for their roundings: 500 additions of numbers of 1.
    assert layer.backward(dout) @ x == pytest.approx(dout @ y, abs=500 * 500 * np.finfo(float).eps)
    layer.rate, layer.seed = 0.9, 3  # the mask is that of the forward pass
    np.testing.assert_array_equal(layer.backward(np.ones(500)) != 0, y != 0)


def test_layers_without_a_seed_differ_and_those_with_one_go_on(rng: Any) -> None:
    x = rng.standard_normal(1000)
    first, second = fs.Dropout(), fs.Dropout()
    assert first.seed != second.seed
    assert (first.forward(x) != second.forward(x)).any()
    for duplicate in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        np.testing.assert_array_equal(duplicate.backward(x), first.backward(x))
        expected = copy.copy(first)
        np.testing.assert_array_equal(duplicate.forward(x), expected.forward(x))
    resumed = fs.Dropout(first.rate, first.seed)
    resumed.calls = first.calls
    np.testing.assert_array_equal(resumed.forward(x), first.forward(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate": 1.0}, ValueError, r"rate is 1.0, expected a number from 0 to below 1"),
        ({"rate": -0.1}, ValueError, r"rate is -0.1, expected"),
        ({"rate": np.nan}, ValueError, r"rate is nan, expected"),
        ({"rate": "half"}, TypeError, r"rate is 'half', expected a number"),
        ({"seed": -1}, ValueError, r"seed is -1, expected an integer from 0 to 2\*\*64 - 1"),
        ({"seed": 2**64}, ValueError, r"seed is 18446744073709551616, expected"),
        ({"seed": 1.5}, TypeError, r"seed is 1.5, expected an integer"),
        ({"call": -1}, ValueError, r"call is -1, expected"),
        ({"x": [1.0]}, TypeError, r"x is a list, expected an array"),
        ({"x": np.ones(3, int)}, TypeError, r"x has dtype int64, expected float32 or float64"),
        ({"x": np.ones(3, np.float16)}, TypeError, r"x has dtype float16"),
        ({"out": np.ones(4)}, ValueError, r"out has shape \(4,\), x has \(3,\)"),
        ({"out": np.ones(3, np.float32)}, ValueError, r"out has dtype float32, x has float64"),
        ({"out": np.broadcast_to(1.0, 3)}, ValueError, r"out is read-only"),
        (
            {"out": np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,), writeable=True)},
            ValueError,
            r"^out has elements that share memory: shape \(3,\), strides \(0,\)$",
        ),
    ],
    ids=str,
)
def test_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"x": np.ones(3), "seed": 1} | arguments
    with pytest.raises(error, match=message):
        fs.dropout(**given)


def test_errors_of_the_layer() -> None:
    for arguments, error in (((1.0,), ValueError), ((0.5, -1), ValueError), ((0.5, "a"), TypeError)):
        with pytest.raises(error):
            fs.Dropout(*arguments)
    layer = fs.Dropout(seed=1)
    with pytest.raises(RuntimeError, match="backward needs a forward pass in training before it"):
        layer.backward(np.ones(3))
    with pytest.raises(TypeError, match="x has dtype int64"):
        layer.forward(np.ones(3, int))
    assert layer.calls == 0
    layer.forward(np.ones(3))
    with pytest.raises(ValueError, match=r"dout has shape \(4,\), x has \(3,\)"):
        layer.backward(np.ones(4))
    layer.rate = 2.0
    with pytest.raises(ValueError, match=r"rate is 2.0"):
        layer.forward(np.ones(3))
