"""Same bits: every rule, option, instruction set, type, number of threads, size and layout against the reference."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_CASES, ALL_ROWS, KINDS, ROWS, SIZES, Row, assert_same_state
from layouts import GRADIENT_LAYOUTS, LAYOUTS, other_type_transposed, stepped, transposed

Array = np.ndarray[Any, Any]


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_every_optimizer_has_a_row() -> None:
    public = {cls for cls in subclasses(fs.Optimizer) if cls.__module__ == "fusedstep.optimizers"}
    assert public == {row.optimizer for row in ROWS} | {fs.Muon}  # which takes matrices alone: test_muon.py
    assert all(getattr(fs, cls.__name__) is cls for cls in public)


@pytest.mark.parametrize(("row", "options"), ALL_CASES)
def test_bits(row: Row, options: dict[str, Any], isa: str, dtype: Any, threads: int, rng: np.random.Generator) -> None:
    ours, theirs = row.optimizer(**options), row.reference(**options)
    params = {size: rng.standard_normal(size).astype(dtype) for size in SIZES}
    expected = {size: w.copy() for size, w in params.items()}
    for _ in range(3):
        grads = {size: rng.standard_normal(size).astype(dtype) for size in SIZES}
        before = {size: g.copy() for size, g in grads.items()}
        ours.update(params, grads)
        theirs.update(expected, grads)
        for size in SIZES:
            np.testing.assert_array_equal(params[size], expected[size], strict=True)
            np.testing.assert_array_equal(grads[size], before[size])
    assert_same_state(ours, theirs)
    assert ours.iterations == 3


@pytest.mark.parametrize("row", KINDS)
@pytest.mark.parametrize("shape", [(6, 5), (331, 307)], ids=str)
def test_layouts(
    row: Row, shape: tuple[int, int], isa: str, dtype: Any, threads: int, rng: np.random.Generator
) -> None:
    draw = rng.standard_normal

    def contiguous(_: Any, r: int, c: int, t: Any) -> Any:
        return draw((r, c)).astype(t)

    pairs: list[tuple[Any, Any]] = [(contiguous, layout) for layout in (*LAYOUTS, *GRADIENT_LAYOUTS)]
    pairs += [(layout, contiguous) for layout in LAYOUTS]
    pairs += [(layout, layout) for layout in LAYOUTS] + [(transposed, stepped), (stepped, other_type_transposed)]

    def make(layout: Callable[..., Array]) -> Array:
        return layout(lambda *sizes: draw(sizes), *shape, dtype)

    ours, theirs = row.optimizer(weight_decay=0.1), row.reference(weight_decay=0.1)
    params = [make(of_param) for of_param, _ in pairs]
    expected = [w.copy() for w in params]
    for _ in range(3):
        grads = [make(of_grad) for _, of_grad in pairs]
        before = [g.copy() for g in grads]
        ours.update(params, grads)
        theirs.update(expected, grads)
        for pair, w, e, g, b in zip(pairs, params, expected, grads, before, strict=True):
            np.testing.assert_array_equal(w, e, err_msg=str(pair))
            np.testing.assert_array_equal(g, b, err_msg=str(pair))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("row", ALL_ROWS)
def test_what_lies_between_strided_elements_is_not_touched(row: Row, dtype: Any, rng: np.random.Generator) -> None:
    base = rng.standard_normal((40, 60)).astype(dtype)
    before = base.copy()
    optimizer = row.optimizer()
    for _ in range(2):  # ADOPT's first update moves nothing
        optimizer.update(base[::2, 1::3], np.ones((20, 20), dtype))
    changed = base != before
    assert changed[::2, 1::3].all()
    assert changed.sum() == 400


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_half_as_gradient(order: str, dtype: Any) -> None:
    g = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(f"{order}f2")
    w: Any = np.zeros(g.shape, dtype)
    fs.SGD(lr=1.0).update(w, g)
    with np.errstate(invalid="ignore"):  # some NaN signal
        np.testing.assert_array_equal(w, 0 - g.astype(dtype))


@pytest.mark.parametrize("row", ALL_ROWS)
def test_many_dimensions(row: Row, dtype: Any, rng: np.random.Generator) -> None:
    shape = (2, 1, 3, 4, 1, 5)
    ours, theirs = row.optimizer(), row.reference()
    w = rng.standard_normal(shape).astype(dtype).transpose(3, 1, 5, 0, 4, 2)
    expected = w.copy()
    for _ in range(2):
        g = rng.standard_normal(shape[::-1]).astype(dtype).transpose(2, 4, 0, 5, 1, 3)
        ours.update(w, g)
        theirs.update(expected, g)
    np.testing.assert_array_equal(w, expected)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("row", ALL_ROWS)
def test_special_values_go_through(row: Row, isa: str, dtype: Any) -> None:
    fs.set_flush_subnormals(False)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    w, g = (a.ravel().copy() for a in np.meshgrid(special, special))
    expected = w.copy()
    ours, theirs = row.optimizer(), row.reference()
    with np.errstate(all="ignore"):
        for _ in range(2):
            ours.update(w, g)
            theirs.update(expected, g)
    np.testing.assert_array_equal(w, expected)
    np.testing.assert_array_equal(np.signbit(w)[~np.isnan(w)], np.signbit(expected)[~np.isnan(expected)])


@pytest.mark.parametrize("row", ALL_ROWS)
def test_subnormals_when_they_are_kept(row: Row, isa: str, dtype: Any, threads: int, rng: np.random.Generator) -> None:
    tiny = np.finfo(dtype).tiny
    start = (rng.standard_normal(200_000) * tiny).astype(dtype)
    grads = [(rng.standard_normal(200_000) * tiny).astype(dtype) for _ in range(3)]
    results = []
    for flush in (False, True):
        fs.set_flush_subnormals(flush)
        ours, w = row.optimizer(weight_decay=0.1), start.copy()
        for g in grads:
            ours.update(w, g)
        results.append((ours, w))
    theirs, expected = row.reference(weight_decay=0.1), start.copy()
    for g in grads:
        theirs.update(expected, g)
    (kept, w), (_, flushed) = results
    np.testing.assert_array_equal(w, expected)
    assert_same_state(kept, theirs)
    assert (flushed != expected).any()


def test_subnormals_are_flushed(isa: str, dtype: Any, threads: int) -> None:
    tiny = np.finfo(dtype).tiny
    w = np.full(200_000, tiny / 4, dtype)
    fs.SGD(lr=0.5).update(w, np.full(200_000, tiny / 4, dtype))
    assert not w.any()


def test_chunks_of_one_call_may_hold_many_arrays(dtype: Any, threads: int, rng: np.random.Generator) -> None:
    sizes = rng.integers(0, 400, 3000)
    params = [rng.standard_normal(n).astype(dtype) for n in sizes]
    expected = [w.copy() for w in params]
    ours, theirs = fs.Adam(), fs.reference.Adam()
    for _ in range(2):
        grads = [rng.standard_normal(n).astype(dtype) for n in sizes]
        ours.update(params, grads)
        theirs.update(expected, grads)
    for w, e in zip(params, expected, strict=True):
        np.testing.assert_array_equal(w, e)
