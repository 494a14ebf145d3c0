"""What type checkers infer for callers: mypy reads this, nothing runs it. An error that is ignored must be one."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, assert_type

import numpy as np
from numpy.typing import DTypeLike, NDArray

import fusedstep as fs

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Exporter:
    def __dlpack__(self, *, stream: Any = None, copy: bool | None = None) -> object:
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def functions(x: Singles, y: Doubles, either: NDArray[np.float32 | np.float64], other: Exporter) -> None:
    assert_type(fs.batch_norm(x, [1.0], [0.0]), tuple[Singles, Doubles, Doubles])
    assert_type(fs.batch_norm(y, x, y, out=y), tuple[Doubles, Doubles, Doubles])
    assert_type(fs.batch_norm(other, other, 0.0, out=other), tuple[Any, Doubles, Doubles])
    assert_type(fs.batch_norm_inference(x, y, y, y, y), Singles)
    assert_type(fs.batch_norm_backward(y, x, y, y, y), tuple[Singles, Singles, Singles])
    assert_type(fs.dropout(x, seed=1), Singles)
    assert_type(fs.dropout(either, seed=1), NDArray[np.float32 | np.float64])
    assert_type(fs.dropout(memoryview(b""), seed=1), Any)
    fs.dropout([1.0], seed=1)  # type: ignore[call-overload]
    fs.dropout(x)  # type: ignore[call-overload]
    fs.batch_norm([[1.0]], y, y)  # type: ignore[call-overload]


def layers(x: Singles, y: Doubles, dtype: DTypeLike) -> None:
    norm = fs.BatchNorm(3)
    assert_type(norm, fs.BatchNorm[np.float32])
    assert_type(norm.gamma, Singles)
    assert_type(norm.forward(x), Singles)
    assert_type(norm.backward(x, out=x), Singles)
    assert_type(fs.BatchNorm(3, dtype=np.float64).running_mean, Doubles)
    assert_type(fs.BatchNorm(3, 1e-5, 0.9, 1, np.dtype(np.float64)).forward(x), Singles)
    assert_type(fs.BatchNorm(3, dtype=dtype), fs.BatchNorm[Any])
    make: Callable[[int], fs.BatchNorm[np.float32]] = fs.BatchNorm
    assert_type(make(3).beta, Singles)
    assert_type(fs.Dropout().forward(x), Singles)
    fs.BatchNorm[np.int64](3)  # type: ignore[type-var]
    norm.gamma = y  # type: ignore[assignment]


def a_layer_of_any_type(norm: fs.BatchNorm, norms: dict[str, fs.BatchNorm]) -> None:
    assert_type(norm.gamma, NDArray[Any])
    norms["a"] = norm


def initial_weights(dtype: DTypeLike) -> None:
    assert_type(fs.initializers.he_normal((3, 4)), Singles)
    assert_type(fs.initializers.he_uniform((3, 4), mode="fan_out", dtype=np.float64), Doubles)
    assert_type(fs.initializers.lecun_normal((3, 4), dtype=np.dtype(np.float32), rng=1), Singles)
    assert_type(fs.initializers.xavier_uniform((3, 4), dtype=dtype), NDArray[Any])
    fs.initializers.he_normal((3, 4), mode="fan")  # type: ignore[call-overload]


def updates(x: Singles, y: Doubles, other: Exporter, optional: Singles | None) -> None:
    by_name: dict[str, Singles] = {"W": x}
    ordered: OrderedDict[int, Doubles] = OrderedDict({0: y})
    some: list[Singles | None] = [optional]
    floats: dict[str, float] = {"a": 1.0}
    exporters: list[Exporter] = [other]
    for optimizer in (fs.SGD(), fs.Adam(fs.schedules.Cosine(0.1, 10))):
        optimizer.update(by_name, by_name)
        optimizer.update(ordered, ordered)
        optimizer.update([x], some)
        optimizer.update((x, y), [None, y])
        optimizer.update(x, y)
        optimizer.update(floats, floats)
        optimizer.update(exporters, [x])
        optimizer.update(other, memoryview(b""))
        optimizer.update([(x, y), (x, 0.5)], [(x, y), None])
        optimizer.update({"conv": {"W": x, "b": [y, 1.0]}, "b": y}, {"conv": {"W": x, "b": None}, "b": None})
        optimizer.update([by_name, ordered], [by_name, None])
        optimizer.update({"W": [{1.0}]}, by_name)  # type: ignore[list-item]
        optimizer.update({1.0}, {1.0})  # type: ignore[arg-type]
        optimizer.update(some, some)  # type: ignore[arg-type]
        optimizer.update(by_name, {"W": fs.Rows([1, 2], x)}, scale=0.5, zero_grads=True, copies=by_name, norm=1.0)
        optimizer.update(x, fs.Rows(y.nonzero()[0], other), copies=other)
        optimizer.update(x, y, zeros=True)  # type: ignore[call-arg]
        with optimizer.averaged(by_name):
            assert_type(optimizer.averages()["W"], NDArray[Any])
        assert_type(optimizer.gradient_norm, float | None)
    assert_type(fs.Adam().state["W"]["m"], NDArray[Any])
    fs.Adam(lr="fast")  # type: ignore[arg-type]
    fs.Adam(lr=lambda: 0.1)  # type: ignore[arg-type, misc]


def options(by_name: dict[str, Singles], more: fs.Options) -> None:
    fs.SGD(0.1, clip_norm=1.0, clip_value=None, maximize=True, skip_nonfinite=True, decoupled=True)
    fs.Nesterov(0.1, **more)
    fs.Momentum(average=fs.schedules.AverageWarmup(0.9), master=True, rounding="stochastic", seed=3)
    fs.Adam(state_dtype="bfloat16", groups=[("W", {"lr": 0.5}), (lambda key, w: w.ndim < 2, {"weight_decay": 0.0})])
    adam = fs.AdamW(groups=[({"W", "b"}, {}), (["a"], {}), (("a", 0), {"average": None})])
    adam.average = lambda t: 0.5
    adam.groups = []
    split = fs.Split([("W", adam), (lambda key, w: True, fs.SGD())], clip_norm=1.0)
    split.update(by_name, by_name, zero_grads=True)
    assert_type(split.pairs[0][1], fs.Optimizer)
    assert_type(fs.step("sgd", by_name, by_name, None, lr=[0.1], average={"W": 0.5}, seed=1), fs.StepResult)
    assert_type(fs.step("sgd", by_name, by_name, None, clip_norm=1.0).gradient_norm, float | None)
    assert_type(fs.accumulate(by_name, by_name, 0.5) + fs.gradient_norm(by_name), float)
    fs.SGD(clip=1.0)  # type: ignore[call-arg]
    fs.SGD(rounding="down")  # type: ignore[arg-type]
    fs.AdamW(state_dtype="float16")  # type: ignore[arg-type]
    fs.Adam(average="0.5")  # type: ignore[arg-type]
    fs.Adam(groups=[("W", 0.5)])  # type: ignore[list-item]
    fs.Split([("W", split)])  # type: ignore[list-item]
    fs.step("sgd", by_name, by_name, None, rounding="up")  # type: ignore[arg-type]
