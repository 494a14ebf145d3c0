"""The layer of dropout outside training, and in forked processes."""

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest

import fusedstep as fs


def bits(a: Any) -> Any:
    return a.view(f"u{a.dtype.itemsize}")


def test_outside_training_all_bits_are_copied(dtype: Any) -> None:
    x = np.array([np.finfo(dtype).smallest_subnormal, -0.0, np.inf, 1.5], dtype)
    x = (
        np.append(bits(x), bits(np.array(np.nan, dtype)) + bits(np.array(0, dtype)) + 5)
        .astype(bits(x).dtype)
        .view(dtype)
    )
    for out in (np.full_like(x, 7), np.full(2 * len(x), 7, dtype)[::2]):
        assert fs.Dropout(0.5).forward(x, training=False, out=out) is out
        np.testing.assert_array_equal(bits(out.copy()), bits(x))
    overlapping = np.append(x, x[:1])
    fs.Dropout(0.5).forward(overlapping[:-1], training=False, out=overlapping[1:])
    np.testing.assert_array_equal(bits(overlapping[1:].copy()), bits(x))
    bad: Any = (
        (np.ones(3, dtype), "^out has shape"),
        (np.ones(5, np.float16), "^out has dtype"),
        (np.broadcast_to(x[:1], (5,)), "^out is read-only"),
        (np.lib.stride_tricks.as_strided(x.copy(), (5,), (0,), writeable=True), "^out has elements that share memory"),
        ([1.0] * 5, "^out is a list"),
    )
    for out, message in bad:
        with pytest.raises((ValueError, TypeError), match=message):
            fs.Dropout(0.5).forward(x, training=False, out=out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_have_masks_of_their_own() -> None:
    x = np.ones(256)
    free, seeded, restored = fs.Dropout(), fs.Dropout(seed=3), fs.Dropout()
    restored.seed = 3
    copied = copy.deepcopy(free)
    before = free.forward(x)

    def in_child(layer: fs.Dropout) -> bytes:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                undone = layer.backward(x).tobytes() if layer is free else b""
                first = layer.forward(x)
                again = pickle.loads(pickle.dumps(layer))
                same = again.forward(x).tobytes() == layer.forward(x).tobytes()
                right = same and (layer is not free or undone == before.tobytes())
                os.write(writer, first.tobytes() if right else b"wrong")
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            mask = file.read()
        assert os.waitpid(child, 0)[1] == 0
        assert len(mask) == x.nbytes
        return mask

    masks = {in_child(free), in_child(free), free.forward(x).tobytes(), in_child(copied), in_child(copied)}
    assert len(masks) == 5
    assert in_child(seeded) == in_child(restored) == seeded.forward(x).tobytes()
