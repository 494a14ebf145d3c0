"""fusedstep.dezero beside DeZero's own optimizers: the same bits in parameters, gradients and state."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from dezero_trials import (
    SHAPES,
    Parameter,
    Target,
    Variable,
    assert_same,
    bits,
    dezero,
    drawn,
    everything,
    names,
    of_all_sizes,
    ours,
    parameters,
    theirs,
)

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"lr": 1}),
    ("MomentumSGD", {}),
    ("MomentumSGD", {"lr": 0.1, "momentum": 0}),
    ("AdaGrad", {}),
    ("AdaGrad", {"lr": 0.1, "eps": 1e-3}),
    ("Adam", {}),
    ("Adam", {"alpha": 0.1, "beta1": 0.0, "beta2": 0.5, "eps": 1e-3}),
]


def named(value: Any) -> str:
    return ",".join(f"{key}={own}" for key, own in value.items()) if isinstance(value, dict) else str(value)


settings = pytest.mark.parametrize(("name", "given"), SETTINGS, ids=named)


@settings
def test_bits(name: str, given: dict[str, Any], isa: str, dtype: Any, fused: list[int]) -> None:
    def make(module: Any) -> Any:
        params = parameters(dtype)
        return getattr(module, name)(**given).setup(Target(params)), params

    assert_same(make, of_all_sizes, 300)
    assert fused == [len(SHAPES)] * 300


@pytest.mark.parametrize("threads", [1, 2])
@names
def test_bits_of_large_arrays(name: str, threads: int, dtype: Any, fused: list[int]) -> None:
    fs.set_num_threads(threads)

    def make(module: Any) -> Any:
        params = parameters(dtype, [(700, 300), (300,)])
        return getattr(module, name)().setup(Target(params)), params

    assert_same(make, of_all_sizes, 4)
    assert fused == [2] * 4


@names
def test_attributes_that_change(name: str, dtype: Any) -> None:
    def make(module: Any) -> Any:
        params = parameters(dtype)
        return getattr(module, name)().setup(Target(params)), params

    def draw(t: int, params: list[Any], optimizer: Any) -> None:
        of_all_sizes(t, params, optimizer)
        params[t % 3].cleargrad()
        params[3].data = params[3].data * 2  # another array
        for key in ("lr", "alpha", "momentum", "beta1", "eps"):
            if key in vars(optimizer):
                setattr(optimizer, key, vars(optimizer)[key] * (0.9 if t % 2 else 1.05))
        if t == 7:
            optimizer.t = 1000

    assert_same(make, draw, 12)


def same_parameter() -> list[Any]:
    p, q = parameters(np.float64, [(5, 3)] * 2)
    return [p, q, p]


def shared_arrays() -> list[Any]:
    array = drawn(0)
    return [Parameter(array), Parameter(array[1:3]), Parameter(array)]


LAYOUTS: dict[str, Callable[[], list[Any]]] = {
    "column-major": lambda: [Parameter(drawn(0, (3, 5)).T)],
    "strided": lambda: [Parameter(drawn(0, (10, 6))[::2, ::-2])],
    "twice": same_parameter,
    "shared": shared_arrays,
}
GRADIENTS: dict[str, Callable[[Any, int], Any]] = {
    "plain": lambda p, t: drawn(t, p.data.shape),
    "column-major": lambda p, t: drawn(t, p.data.shape[::-1]).T,
    "read-only": lambda p, t: np.broadcast_to(drawn(t, 3), p.data.shape),
    "the data": lambda p, t: p.data,
    "overlaps the data": lambda p, t: p.data[::-1],
}


@pytest.mark.parametrize("gradients", GRADIENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@names
def test_layouts_and_shared_memory(name: str, layout: str, gradients: str, fused: list[int]) -> None:
    def make(module: Any) -> Any:
        params = LAYOUTS[layout]()
        return getattr(module, name)(0.1).setup(Target(params)), params

    def draw(t: int, params: list[Any], _: Any) -> None:
        for p in params:
            p.grad = Variable(GRADIENTS[gradients](p, t))

    assert_same(make, draw)
    assert len(fused) == 5


@names
def test_subnormal_state(name: str, dtype: Any) -> None:
    steps = {np.float32: 1500, np.float64: 8000}[dtype]
    for flush in (True, False):
        fs.set_flush_subnormals(flush)
        sides = []
        for module in (ours, theirs):
            p = Parameter(np.ones(3, dtype))
            optimizer = getattr(module, name)().setup(Target([p]))
            for t in range(steps):
                p.grad = Variable(np.full(3, t == 0, dtype))
                optimizer.update()
            sides.append((optimizer, [p]))
        assert bits(sides[0][1][0].data) == bits(sides[1][1][0].data)
        if not flush:
            assert everything(*sides[0]) == everything(*sides[1])


class Recurrent(dezero.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.rnn = dezero.layers.LSTM(7)
        self.fc = dezero.layers.Linear(1)

    def forward(self, x: Any) -> Any:
        self.rnn.reset_state()
        for step in x.T:
            y = self.fc(self.rnn(step[:, None]))
        return y


functions = dezero.functions
MODELS: dict[str, tuple[Callable[[], Any], Any]] = {
    "MLP": (
        lambda: dezero.models.MLP((20, 10), activation=functions.relu),
        functions.softmax_cross_entropy,
    ),
    "LSTM": (Recurrent, lambda y, t: functions.mean_squared_error(y, t[:, None])),
    "layer": (lambda: dezero.layers.Linear(10, in_size=6, nobias=True), functions.softmax_cross_entropy),
}


@pytest.mark.parametrize("model", MODELS)
@names
def test_training(name: str, model: str, dtype: Any, fused: list[int]) -> None:
    make, loss_of = MODELS[model]
    x, t = drawn(1, (12, 6), dtype), np.arange(12) % 10
    results = []
    for module in (ours, theirs):
        np.random.seed(3)  # noqa: NPY002, which DeZero draws weights with
        net = make()
        optimizer = getattr(module, name)().setup(net)
        assert isinstance(optimizer, getattr(theirs, name))
        optimizer.add_hook(module.WeightDecay(1e-4))
        for _ in range(8):
            loss = loss_of(net(x), t)
            net.cleargrads()
            loss.backward()
            optimizer.update()
        results.append(everything(optimizer, [*net.params()]))
    assert results[0] == results[1]
    assert len(fused) == 8
    assert min(fused) > 0


@names
def test_copies_and_pickles(name: str) -> None:
    for copied in (copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):

        def make(module: Any, copied: Any = copied) -> Any:
            params = parameters(np.float64)
            optimizer = getattr(module, name)().setup(Target(params))
            of_all_sizes(50, params, None)
            optimizer.update()
            again = copied(optimizer)
            assert vars(again).keys() == vars(getattr(theirs, name)()).keys()
            # The state stays that of the old parameters' ids, in DeZero, too.
            return again, again.target.parameters

        assert_same(make, of_all_sizes)


def test_the_module_has_the_names_of_dezeros() -> None:
    own = {key for key, value in vars(theirs).items() if getattr(value, "__module__", "") == theirs.__name__}
    assert own <= vars(ours).keys()
    for key in ("ClipGrad", "FreezeParam", "Optimizer", "WeightDecay"):
        assert getattr(ours, key) is getattr(theirs, key)
