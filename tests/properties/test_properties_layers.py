"""Properties of batch normalisation and dropout: wherever arrays lie, the same bits, near the exact result."""

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import fusedstep as fs
from batch_norm_cases import BOUND, Array, deviations
from fusedstep import reference
from memory import Memory, View, numbers, same_bits
from strategies import NO_OR_YES, SEEDS, TYPES, draw_each, draw_process, draw_shape, draw_view, share

# Where a result is to go: "across" is into the memory of an argument, but not where that lies.
OUTS = ("none", "own", "x", "dout", "across", "across")


def filled(memory: Memory, view: View, values: Array) -> Array:
    array = memory.array(view)
    array[...] = values
    return array


def is_dense(view: View) -> bool:
    """Whether there are neither gaps nor turns between the elements, in whatever order the axes are."""
    low, high = view.span()
    size = int(np.prod(view.shape)) * view.item_size
    steps = [stride for n, stride in zip(view.shape, view.strides, strict=True) if n > 1]
    return high - low == size and all(step > 0 for step in steps) and low % view.item_size == 0


def as_processed(array: Array, view: View) -> Array:
    """A new array whose axes have the order that decides in which order sums are made."""
    return np.array(array, order="K" if is_dense(view) else "C")


@share(0.25)
@given(st.data(), SEEDS)
def test_batch_norm_has_the_same_bits_wherever_arrays_lie(data: st.DataObject, seed: int) -> None:
    shape = draw_shape(data.draw)
    assume(shape)
    dtype, axis, over = draw_each(data.draw, TYPES, range(len(shape)), OUTS)
    assume(np.prod(shape) > 0)
    views: list[View] = []
    for others in ([], [], views if over == "across" else []):  # of x, dout, out
        views.append(draw_view(data.draw, len(views), shape, dtype, others, written=True, always=True))
    assume(not any(view.overlaps_itself() for view in views))
    rng = np.random.default_rng(seed)
    memory = Memory(views, rng)
    channels = shape[axis]
    gamma, beta = rng.standard_normal(channels), rng.standard_normal(channels)
    x_values, dout_values = (numbers(rng, shape, dtype, special=False) for _ in range(2))
    x, dout = filled(memory, views[0], x_values), filled(memory, views[1], dout_values)
    plain_x, plain_dout = as_processed(x, views[0]), dout.copy()
    fs.set_num_threads(1)
    fs.use_isa(fs.isas()[0])
    y, mean, inv_std = fs.batch_norm(plain_x, gamma, beta, channel_axis=axis)
    var = 1 / inv_std**2
    inference = fs.batch_norm_inference(plain_x, gamma, beta, mean, var, channel_axis=axis)
    dx, dgamma, dbeta = fs.batch_norm_backward(plain_dout, plain_x, gamma, mean, inv_std, axis)

    draw_process(data.draw).apply(may_flush=True)
    expected = memory.copy()
    targets = {"none": (None, None), "x": (x, views[0]), "dout": (dout, views[1])}
    out, written = targets.get(over, (memory.array(views[2]), views[2]))

    def check(got: Any, values: Array) -> None:
        """That the result is right, lies in out, and nothing else has changed; x and dout are then as before."""
        assert same_bits(np.array(got, order="C"), np.array(values, order="C"))
        if written:
            assert got is out
            expected.array(written)[...] = values
        memory.assert_same(expected, ())
        filled(memory, views[0], x_values), filled(memory, views[1], dout_values)
        filled(expected, views[0], x_values), filled(expected, views[1], dout_values)

    got = fs.batch_norm(x, gamma, beta, channel_axis=axis, out=out)
    assert same_bits(got[1], mean)
    assert same_bits(got[2], inv_std)
    check(got[0], y)
    check(fs.batch_norm_inference(x, gamma, beta, mean, var, channel_axis=axis, out=out), inference)
    got = fs.batch_norm_backward(dout, x, gamma, mean, inv_std, axis, out=out)
    assert same_bits(got[1], dgamma)
    assert same_bits(got[2], dbeta)
    check(got[0], dx)


@share(0.15)
@given(st.data(), SEEDS)
def test_batch_norm_is_near_the_exact_result(data: st.DataObject, seed: int) -> None:
    shape = draw_shape(data.draw)
    assume(shape and np.prod(shape) > 0)
    dtype, axis, shift, scale = draw_each(data.draw, TYPES, range(len(shape)), (0.0, 3.0, -30.0), (1.0, 0.25, 16.0))
    rng = np.random.default_rng(seed)
    x, dout = ((numbers(rng, shape, dtype, special=False)) for _ in range(2))
    x = (x * scale + shift).astype(dtype)
    gamma, beta = (rng.standard_normal(shape[axis]).astype(dtype) for _ in range(2))
    draw_process(data.draw).apply(may_flush=False)
    found = deviations(x, dout, gamma, beta, axis)
    assert {name: d for name, d in found.items() if d > BOUND[name]} == {}


@share(0.15)
@given(st.data(), SEEDS)
def test_batch_norm_of_any_magnitude_is_near_the_exact_result(data: st.DataObject, seed: int) -> None:
    assume(np.finfo(np.longdouble).maxexp > 1024)  # the oracle
    shape = draw_shape(data.draw)
    assume(shape and np.prod(shape) > 0)
    dtype, axis, beginning, distance = draw_each(
        data.draw, TYPES, range(len(shape)), (0.0, 0.0, 0.01, 0.1, 0.3), (1e1, 1e2, 1e4, 1e6)
    )
    top = np.finfo(dtype).maxexp - 50
    exponent, dout_exponent = data.draw(st.integers(-top, top)), data.draw(st.integers(-top // 2, top // 2))
    assume(abs(dout_exponent - exponent) < top)  # dx
    rng = np.random.default_rng(seed)
    x, dout = rng.standard_normal(shape), rng.standard_normal(shape)
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis])
    rows[: int(np.ceil(len(rows) * beginning))] += distance
    x = np.moveaxis(rows.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
    x, dout = np.ldexp(x, exponent).astype(dtype), np.ldexp(dout, dout_exponent).astype(dtype)
    assume(np.isfinite(x).all())
    gamma, beta = (rng.standard_normal(shape[axis]).astype(dtype) for _ in range(2))
    draw_process(data.draw).apply(may_flush=False)
    names = "y mean inv_std dx dgamma dbeta"
    found = deviations(x, dout, gamma, beta, axis, names, data.draw(st.sampled_from((1e-5, 1e-5, 1e-12))))
    assert {name: d for name, d in found.items() if not d <= BOUND[name]} == {}


@share(0.25)
@given(st.data(), SEEDS)
def test_dropout_has_the_bits_of_the_reference(data: st.DataObject, seed: int) -> None:
    shape = draw_shape(data.draw)
    dtype, rate, special, over, broadcast = draw_each(
        data.draw,
        TYPES,
        (0.5, 0.0, 0.1, 0.3, 0.999, 1e-6),
        NO_OR_YES,
        ("none", "own", "x", "across", "across"),
        NO_OR_YES,
    )
    call, key = data.draw(SEEDS), data.draw(st.integers(0, 2**64 - 1))
    x_view = draw_view(data.draw, 0, shape, dtype, (), written=not broadcast)
    others = (x_view,) if over == "across" else ()
    out_view = draw_view(data.draw, 1, shape, dtype, others, written=True, always=True)
    assume(not out_view.overlaps_itself() and (over != "x" or not x_view.overlaps_itself()))
    rng = np.random.default_rng(seed)
    memory = Memory((x_view, out_view), rng)
    with np.errstate(all="ignore"):
        x = filled(memory, x_view, numbers(rng, shape, dtype, special))
        expected = memory.copy()
        values = reference.dropout(x.copy(), rate, seed=key, call=call)
    targets = {"none": (None, None), "x": (x, x_view)}
    out, written = targets.get(over, (memory.array(out_view), out_view))
    draw_process(data.draw).apply(may_flush=not (special or x_view.overlaps_itself()))
    got = fs.dropout(x, rate, seed=key, call=call, out=out)
    assert same_bits(np.array(got), np.array(values))
    if written:
        assert got is out
        expected.array(written)[...] = values
    memory.assert_same(expected, (written,) if written else ())
