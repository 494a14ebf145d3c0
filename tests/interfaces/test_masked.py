"""Masked arrays are refused everywhere: what is behind the mask would be counted, or updated."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs


def masked(*shape: int) -> Any:
    return np.ma.array(np.ones(shape), mask=np.arange(np.prod(shape)).reshape(shape) % 2 == 1)


def layer(**arrays: Any) -> fs.BatchNorm[Any]:
    made = fs.BatchNorm(2)
    for name, array in arrays.items():
        setattr(made, name, array)
    return made


X, C = np.ones((4, 2)), np.ones(2)
CALLS: dict[str, Callable[[], Any]] = {
    "params": lambda: fs.SGD().update(masked(2), C),
    "params[0]": lambda: fs.SGD().update([masked(2)], [C]),
    "params['w']": lambda: fs.Adam().update({"w": masked(2)}, {"w": C}),
    "grads": lambda: fs.SGD().update(np.ones(2), masked(2)),
    "grads['w']": lambda: fs.SGD().update({"w": np.ones(2)}, {"w": np.ma.masked}),
    "state['v']": lambda: fs.step("momentum", np.ones(2), C, {"v": masked(2)}, t=1),
    "x": lambda: fs.batch_norm(masked(4, 2), C, C),
    "gamma": lambda: fs.batch_norm(X, masked(2), C),
    "beta": lambda: fs.batch_norm(X, C, masked(2)),
    "out": lambda: fs.batch_norm(X, C, C, out=masked(4, 2)),
    "mean": lambda: fs.batch_norm_inference(X, C, C, masked(2), C),
    "var": lambda: fs.batch_norm_inference(X, C, C, C, masked(2)),
    "dout": lambda: fs.batch_norm_backward(masked(4, 2), X, C, C, C),
    "inv_std": lambda: fs.batch_norm_backward(X, X, C, C, masked(2)),
    "running_mean": lambda: layer(running_mean=masked(2)).forward(X),
    "running_var": lambda: layer(running_var=masked(2)).forward(X),
    "gamma of a layer": lambda: layer(gamma=masked(2)).forward(X),
    "x of dropout": lambda: fs.dropout(masked(4, 2), 0.5, seed=1),
    "out of dropout": lambda: fs.dropout(X, 0.5, seed=1, out=masked(4, 2)),
}


@pytest.mark.parametrize("name", CALLS)
def test_masked_arrays_are_refused(name: str) -> None:
    argument = name.split(" of ")[0]
    with pytest.raises(TypeError) as caught:
        CALLS[name]()
    assert str(caught.value) == f"{argument} is a masked array, whose mask would be ignored; expected a plain array"


@pytest.mark.parametrize("make", [np.matrix, lambda a: a.view(np.recarray)], ids=["matrix", "recarray"])
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_other_subclasses_are_taken(make: Any) -> None:
    w = make(np.ones((2, 2)))
    fs.SGD(0.5).update(w, np.ones((2, 2)))
    np.testing.assert_array_equal(w, np.full((2, 2), 0.5))
