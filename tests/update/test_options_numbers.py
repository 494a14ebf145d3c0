"""Numbers that options treat in a way of their own: norms that are 0 or not finite, random rounding, sums, rows."""

import math
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, Row, assert_same_state
from fusedstep import reference
from memory import same_bits

ml_dtypes = pytest.importorskip("ml_dtypes")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STORAGES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), BFLOAT16)
Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("special", [0.0, math.inf, -math.inf, math.nan, 1e200, 1e-3], ids=str)
@pytest.mark.parametrize("row", KINDS)
def test_clipping_by_a_special_norm(
    row: Row, special: float, isa: str, dtype: Any, threads: int, rng: np.random.Generator
) -> None:
    if special == 1e200 and dtype == np.float32:
        special = 3e38  # whose square is finite in float64, and whose reciprocal is subnormal
    fs.set_flush_subnormals(False)
    ours, theirs = row.optimizer(clip_norm=1.0), row.reference(clip_norm=1.0)
    params = [rng.standard_normal(n).astype(dtype) for n in (3, 5000)]
    expected = [w.copy() for w in params]
    for _ in range(2):
        grads = [np.zeros(3, dtype), np.zeros(5000, dtype)]
        grads[1][4321] = special
        ours.update(params, grads)
        with np.errstate(all="ignore"):
            theirs.update(expected, grads)
        np.testing.assert_equal(ours.gradient_norm, theirs.gradient_norm)
        for w, e in zip(params, expected, strict=True):
            np.testing.assert_array_equal(w, e)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("place", [("first", 0), ("last", 70_000)], ids=str)
@pytest.mark.parametrize("row", KINDS)
def test_a_step_that_is_skipped_changes_nothing(
    row: Row, place: tuple[str, int], value: float, isa: str, threads: int, rng: np.random.Generator
) -> None:
    rates: list[int] = []

    def schedule(updates: int) -> float:
        rates.append(updates)
        return 0.1

    options = {"clip_norm": 1.0, "skip_nonfinite": True, "average": 0.9, "weight_decay": 0.1, "master": True}
    ours = row.optimizer(lr=schedule, **options, rounding="stochastic")
    params: dict[str, Any] = {"first": rng.standard_normal(10).astype(np.float16), "last": rng.standard_normal(70_001)}
    copies = {key: np.zeros(w.shape, np.float32) for key, w in params.items()}
    params["number"] = 0.5

    def grads() -> dict[str, Any]:
        return {key: np.asarray(rng.standard_normal(np.shape(w))) for key, w in params.items()}

    def contents() -> Any:
        state = {(key, name): array.copy() for key, of_one in ours.state.items() for name, array in of_one.items()}
        arrays = {key: np.copy(w) for key, w in params.items()} | {("copy", key): a.copy() for key, a in copies.items()}
        return state, arrays, dict(ours.steps), ours.iterations, {key: id(w) for key, w in params.items()}

    before = contents()
    for n in range(2):  # a first step, without state, then one with it
        bad = grads()
        bad[place[0]][place[1]] = value
        ours.update(params, bad, zero_grads=True, copies=copies | {"number": None})
        np.testing.assert_equal(contents(), before)
        assert ours.skipped == n + 1
        assert ours.gradient_norm is not None
        assert not math.isfinite(ours.gradient_norm)
        assert not any(g.any() for g in bad.values())
        ours.update(params, grads(), copies=copies | {"number": None})
        assert ours.iterations == n + 1
        assert ours.gradient_norm > 0
        before = contents()
    assert rates == [0, 0, 1, 1]


# Options that change every two updates.
CHANGES: dict[str, list[dict[str, Any]]] = {
    "average": [{"average": 0.9}, {"average": None}, {"average": 0.5}],
    "master": [{"master": True}, {"master": False}, {"master": True}],
    "rounding": [{"rounding": "stochastic"}, {"rounding": "nearest"}, {"rounding": "stochastic", "seed": 7}],
    "clipping": [{"clip_norm": 1.0}, {"clip_norm": None, "clip_value": 0.1}, {"clip_value": None}],
    "decay": [{"weight_decay": 0.1}, {"decoupled": True}, {"maximize": True, "decoupled": False}],
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("row", KINDS)
def test_options_that_change(row: Row, name: str, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(), row.reference()
    w = rng.standard_normal(3000).astype(np.float16)
    expected = w.copy()
    for changed in CHANGES[name]:
        for option, value in changed.items():
            setattr(ours, option, value)
            setattr(theirs, option, value)
        for _ in range(2):
            g = rng.standard_normal(3000).astype(np.float16)
            ours.update(w, g)
            theirs.update(expected, g)
            assert same_bits(w, expected)
            assert ours.gradient_norm == theirs.gradient_norm
            assert_same_state(ours, theirs)


def test_large_numbers_are_finite_even_if_their_norm_is_not(isa: str) -> None:
    optimizer, w = fs.SGD(1e-200, skip_nonfinite=True), np.ones(3000)
    optimizer.update(w, np.full(3000, 1e200))
    assert not w.any()
    assert (optimizer.gradient_norm, optimizer.skipped) == (math.inf, 0)


def both_rounded(values: Array, narrow: Any) -> tuple[Array, Array]:
    """What random rounding stores for float32 numbers, which SGD with lr 1 subtracts from zero, and the reference."""
    results = []
    for module in (fs, reference):
        w: Array = np.zeros(values.shape, narrow)
        module.SGD(lr=1.0, rounding="stochastic", seed=2**64 - 1).update(w, -values)
        results.append(w)
    return results[0], results[1]


LOWER = np.arange(1 << 16, dtype=np.uint32)


@pytest.mark.parametrize("upper", [0x0001, 0x0080, 0x3F80, 0x3F81, 0x7F7E, 0x7F7F, 0xBF80])
def test_random_rounding_to_bfloat16(upper: int, isa: str, threads: int) -> None:
    fs.set_flush_subnormals(False)
    ours, theirs = both_rounded((upper << 16 | LOWER).view(np.float32), BFLOAT16)
    assert same_bits(ours, theirs)
    # Half of all are rounded up, but for chance and the largest finite number, which stays.
    ups = int((ours.view(np.uint16) != upper).sum())
    assert ups == 0 if upper == 0x7F7F else abs(ups - 32768) < 5 * math.sqrt((1 << 16) / 6)


@pytest.mark.parametrize("start", [0.0, 2.0**-24, 2.0**-15, 2.0**-14, 1.0, -1.5, 32768.0, 65472.0, 65504.0, 65536.0])
def test_random_rounding_to_float16(start: float, isa: str, threads: int) -> None:
    unit = 2.0 ** (max(math.frexp(start)[1] - 1, -14) - 10)
    values = (start + np.copysign(LOWER / 65536 * unit, start)).astype(np.float32)
    ours, theirs = both_rounded(values, np.dtype(np.float16))
    assert same_bits(ours, theirs)


def test_random_rounding_of_special_numbers(isa: str) -> None:
    largest = {"float16": 65504.0, "bfloat16": 2.0**128 - 2.0**120}
    # What is stored for a number, of whatever random bits; in float16 numbers from 65536 are infinite.
    stays = {math.inf: math.inf, -math.inf: -math.inf, math.nan: math.nan, 1.0: 1.0, -256.0: -256.0}
    more = {
        "float16": {
            65519.0: 65504.0,
            65520.0: 65504.0,
            -65535.9: -65504.0,
            65536.0: math.inf,
            3e38: math.inf,
            1e-30: 0.0,
        },
        "bfloat16": {3.4028235e38: largest["bfloat16"], -3.4028235e38: -largest["bfloat16"]},
    }
    for narrow in (np.dtype(np.float16), BFLOAT16):
        expected = stays | {largest[narrow.name]: largest[narrow.name]} | more[narrow.name]
        ours, theirs = both_rounded(np.repeat(np.array([*expected], np.float32), 70), narrow)
        assert same_bits(ours, theirs)
        np.testing.assert_array_equal(ours.astype(np.float64), np.repeat([*expected.values()], 70))


def test_second_moments_in_bfloat16_do_not_stand_still() -> None:
    # Rounded to nearest they stay at 0.25: test_reference_options.py. Their mean is 1 - .999^10000 = .99995.
    optimizer, w = fs.Adam(0.0, beta2=0.999, state_dtype="bfloat16", seed=5), np.ones(1000, np.float32)
    for _ in range(10_000):
        optimizer.update(w, np.ones(1000, np.float32))
    v = optimizer.state[0]["v"].astype(np.float64)
    # At a distance of k 2^-8 to 1 a step comes nearer by 2^-8 with probability k / 1000: 1 element of 90 isn't there
    # yet after 10 000 steps, and of 10 000 one lacks two steps.
    assert v.min() >= 1 - 3 * 2**-8
    assert v.max() == 1
    assert (v == 1).mean() > 0.95


SIZES = (0, 1, 7, 1000, 70_001)


@pytest.mark.parametrize("of_grads", STORAGES, ids=str)
@pytest.mark.parametrize("of_sums", STORAGES, ids=str)
def test_sums_of_gradients(of_sums: Any, of_grads: Any, isa: str, threads: int, rng: np.random.Generator) -> None:
    sums: dict[Any, Array] = {n: rng.standard_normal(n).astype(of_sums) for n in SIZES}
    sums |= {"T": np.ones((30, 40), of_sums).T, "0-d": np.array(0.5, of_sums), "None": np.ones(3, of_sums)}
    sums["rows"] = rng.standard_normal((90, 33)).astype(of_sums)
    expected = {key: array.copy() for key, array in sums.items()}
    for scale in (1.0, 0.37):
        grads: dict[Any, Any] = {key: rng.standard_normal(array.shape) for key, array in sums.items()}
        grads = {key: np.asarray(g).astype(of_grads) for key, g in grads.items()} | {"None": None}
        grads["rows"] = fs.Rows(rng.integers(0, 90, 20), rng.standard_normal((20, 33)).astype(of_grads))
        norm = fs.accumulate(sums, grads, scale)
        assert norm == reference.accumulate(expected, grads, scale)
        for key, array in sums.items():
            assert same_bits(array, expected[key]), key
        assert fs.gradient_norm(grads) == reference.gradient_norm(grads)


@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("shape", [(50,), (40, 7), (300, 3, 500)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"master": True, "rounding": "stochastic", "state_dtype": "bfloat16"}], ids=str
)
@pytest.mark.parametrize("row", KINDS)
def test_rows(
    row: Row, options: dict[str, Any], shape: tuple[int, ...], storage: Any, isa: str, rng: np.random.Generator
) -> None:
    if row.optimizer is fs.Adafactor:
        pytest.skip("refuses rows")
    if storage == np.float64:
        options = options | {"state_dtype": None}
    options = options | {"clip_norm": 1.0, "clip_value": 0.5, "average": 0.9, "weight_decay": 0.1}
    ours, theirs = row.optimizer(**options), row.reference(**options)
    first = rng.standard_normal(shape[::-1]).astype(storage)
    params = [np.ones(3, storage), first.T, first.T.copy()]
    expected = [w.copy() for w in params]
    for _ in range(3):
        indices = rng.integers(0, shape[0], 20)
        values = rng.standard_normal((20, *shape[1:])).astype(np.float32)
        grads = [np.ones(3, np.float32), fs.Rows(indices, values), fs.Rows(indices[:1], values[:1])]
        copies = [np.zeros(w.shape, BFLOAT16) for w in params]
        theirs_copies = [copy.copy() for copy in copies]
        ours.update(params, grads, scale=0.5, copies=copies)
        theirs.update(expected, grads, scale=0.5, copies=theirs_copies)
        assert ours.gradient_norm == theirs.gradient_norm
        for w, e in zip([*params, *copies], [*expected, *theirs_copies], strict=True):
            assert same_bits(w, e)
    assert_same_state(ours, theirs)
