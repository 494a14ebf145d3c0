"""Storage types: narrow parameters and gradients have the bits of the reference, and conversions those of integers."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, SIZES, Row, assert_same_state
from fusedstep import reference

ml_dtypes = pytest.importorskip("ml_dtypes")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STORAGES = (np.dtype(np.float16), BFLOAT16)
Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(params=STORAGES, ids=str)
def narrow(request: pytest.FixtureRequest) -> Any:
    return request.param


def assert_same_bits(ours: Array, theirs: Array) -> None:
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(np.ascontiguousarray(ours).view(np.uint16), np.ascontiguousarray(theirs).view("u2"))


@pytest.mark.parametrize("row", ALL_ROWS)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}], ids=str)
def test_bits(row: Row, options: dict[str, Any], isa: str, narrow: Any, threads: int, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(lr=0.1, **options), row.reference(lr=0.1, **options)
    params = {size: rng.standard_normal(size).astype(narrow) for size in SIZES}
    expected = {size: w.copy() for size, w in params.items()}
    for _ in range(3):
        grads = {size: rng.standard_normal(size).astype(narrow) for size in SIZES}
        before = {size: g.copy() for size, g in grads.items()}
        ours.update(params, grads)
        theirs.update(expected, grads)
        for size in SIZES:
            assert_same_bits(params[size], expected[size])
            assert_same_bits(grads[size], before[size])
    assert_same_state(ours, theirs)
    assert all(arrays[name].dtype == np.float32 for arrays in ours.state.values() for name in ours._state_names)


# A parameter's type, and the gradient's.
MIXED = [
    (p, g) for p in (np.float32, np.float64, *STORAGES) for g in (np.float32, np.float64, *STORAGES, np.longdouble)
]


@pytest.mark.parametrize(("of_param", "of_grad"), MIXED, ids=str)
@pytest.mark.parametrize("row", [ALL_ROWS[0], ALL_ROWS[5]])
def test_every_pair_of_types_in_every_layout(
    row: Row, of_param: Any, of_grad: Any, isa: str, rng: np.random.Generator
) -> None:
    def shaped(dtype: Any) -> list[Array]:
        whole = rng.standard_normal((74, 94)).astype(dtype)
        odd = np.zeros(37 * 47 * whole.itemsize + 1, np.uint8)[1:].view(dtype).reshape(37, 47)
        odd[...] = whole[::2, ::2]
        return [whole[:37, :47].copy(), whole[:37, :47], whole[::2, 1::2], whole.T[:37, :47], whole[36::-1, :47], odd]

    ours, theirs = row.optimizer(lr=0.1, weight_decay=0.1), row.reference(lr=0.1, weight_decay=0.1)
    pairs = [(w, g) for w in range(6) for g in range(6)]
    params = [shaped(of_param)[w] for w, _ in pairs]
    expected = [w.copy() for w in params]
    for _ in range(2):
        grads = [shaped(of_grad)[g] for _, g in pairs]
        ours.update(params, grads)
        theirs.update(expected, grads)
        for pair, w, e in zip(pairs, params, expected, strict=True):
            np.testing.assert_array_equal(w.view(), e, err_msg=str(pair))


@pytest.mark.parametrize("row", ALL_ROWS)
def test_an_array_without_dimensions(row: Row, narrow: Any) -> None:
    ours, theirs = row.optimizer(lr=50.0), row.reference(lr=50.0)
    w = np.array(1.5, narrow)
    expected = w.copy()
    for _ in range(2):
        ours.update([w], [np.array(0.75, narrow)])
        theirs.update([expected], [np.array(0.75, narrow)])
    assert w != 1.5
    np.testing.assert_array_equal(w, expected, strict=True)


def loaded(bits: Array, dtype: Any, to: Any) -> Array:
    """All bit patterns as gradients, which SGD with lr 1 subtracts from zero."""
    w: Array = np.zeros(bits.shape, to)
    fs.SGD(lr=1.0).update(w, bits.view(dtype))
    return -w


@pytest.mark.parametrize("to", [np.float32, np.float64])
def test_every_narrow_number_is_read(isa: str, narrow: Any, to: Any) -> None:
    fs.set_flush_subnormals(False)
    bits = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # some NaN signal
        expected = bits.view(narrow).astype(np.float32).astype(to)
    np.testing.assert_array_equal(loaded(bits, narrow, to), expected)


def rounded(values: Array, narrow: Any) -> Array:
    """What is stored for float32 numbers, which SGD with lr 1 subtracts from zero; so -0 gives 0."""
    w: Array = np.zeros(values.shape, narrow)
    fs.SGD(lr=1.0).update(w, -values)
    return w


def test_numbers_are_rounded_to_nearest_even(isa: str, narrow: Any) -> None:
    # Around each narrow number: itself, the ties to both neighbours, and the float32 numbers next to these.
    fs.set_flush_subnormals(False)
    all_bits = np.arange(1 << 16, dtype=np.uint16)
    numbers = all_bits.view(narrow).astype(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    magnitudes = np.unique(np.abs(numbers)).astype(np.float64)
    ties = ((magnitudes[1:] + magnitudes[:-1]) / 2).astype(np.float32)
    points = np.concatenate([magnitudes.astype(np.float32), ties])
    points = np.concatenate([points, np.nextafter(points, np.float32(0)), np.nextafter(points, np.float32(np.inf))])
    points = np.concatenate(
        [points, -points[points != 0], np.array([np.inf, -np.inf, np.nan, 65519.9, 65520.0, 3.4e38], np.float32)]
    )
    expected = np.full(points.shape, 7, narrow)
    if narrow == BFLOAT16:
        expected = reference.float32_to_bfloat16(points).view(BFLOAT16)
        with np.errstate(over="ignore"):
            second_opinion = points.astype(BFLOAT16).astype(np.float32)
        np.testing.assert_array_equal(expected.astype(np.float32), second_opinion)
    else:
        with np.errstate(over="ignore"):
            expected = points.astype(np.float16)
    ours = rounded(points, narrow)
    assert (np.isnan(ours) == np.isnan(expected)).all()
    assert_same_bits(ours[~np.isnan(ours)], expected[~np.isnan(expected)])


def test_a_nan_stays_one(isa: str) -> None:
    # Its payload may be in the half that is cut off.
    bits = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F80FFFF] * 20, np.uint32)
    for narrow in STORAGES:
        assert np.isnan(rounded(bits.view(np.float32), narrow).astype(np.float32)).all()
    assert np.isnan(reference.bfloat16_to_float32(reference.float32_to_bfloat16(bits.view(np.float32)))).all()


def test_sixteen_bit_integers_are_no_floats() -> None:
    advice = r"; bits of bfloat16 are numbers after .view\(ml_dtypes.bfloat16\)$"
    for w in (np.zeros(3, np.uint16), np.zeros(3, "V2")):
        with pytest.raises(
            TypeError, match=r"^params has dtype (uint16|\|V2), expected .*float16 or bfloat16" + advice
        ):
            fs.SGD().update(w, np.ones(3))
        with pytest.raises(TypeError, match=r"^grads has dtype (uint16|\|V2), expected a floating-point type" + advice):
            fs.SGD().update(np.zeros(3), w)
        fs.SGD().update(w.view(BFLOAT16), np.ones(3))
    other = np.zeros(3, ml_dtypes.float8_e4m3fn)
    with pytest.raises(TypeError, match=r"^params has dtype float8_e4m3fn, expected "):
        fs.SGD().update(other, np.ones(3))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_tensors_are_updated_where_they_are(dtype: str, requires_grad: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="shares memory with PyTorch where that is installed")
    kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    values = rng.standard_normal((40, 60)).astype(kind)
    expected, bits = values.copy(), f"i{kind.itemsize}"
    tensor = torch.from_numpy(values.view(bits).copy()).view(getattr(torch, dtype)).requires_grad_(requires_grad)
    ours, theirs = fs.Adam(0.1), reference.Adam(0.1)
    for shown in (tensor, tensor.t(), tensor[::2, ::3]):
        for _ in range(2):
            gradient = rng.standard_normal(tuple(shown.shape)).astype(np.float32)
            ours.update({"W": shown}, {"W": torch.from_numpy(gradient)})
            mine = expected.T if shown.shape[0] == 60 else expected[::2, ::3] if shown.shape[0] == 20 else expected
            theirs.update({"W": mine}, {"W": gradient})
        ours.state.clear()
        theirs.state.clear()
    np.testing.assert_array_equal(
        tensor.detach().view(getattr(torch, f"int{8 * kind.itemsize}")).numpy().view(kind), expected
    )
