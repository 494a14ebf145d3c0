"""Averages of the weights: where they are, how they begin, and the parameters that have their values for a while."""

import io
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusedstep as fs
from fusedstep import schedules


def trained(params: Any, **options: Any) -> fs.Adam:
    """An optimizer after three updates; the averages differ from the parameters."""
    optimizer = fs.Adam(0.1, **{"average": 0.5, **options})
    for step in range(3):
        if isinstance(params, dict):
            optimizer.update(params, {key: np.full(np.shape(w), 1.0 + step) for key, w in params.items()})
        else:
            optimizer.update(params, [np.full(np.shape(w), 1.0 + step) for w in params])
    return optimizer


def test_by_hand() -> None:
    asked = []

    def decay(t: int) -> float:
        asked.append(t)
        return 0.5

    w = np.zeros(2)
    optimizer = fs.SGD(1.0, average=decay)
    assert optimizer.averages() == {}
    for expected in (-1.0, -1.5, -2.25):  # of -1, -2, -3
        optimizer.update([w], [np.ones(2)])
        assert optimizer.averages()[0].tolist() == [expected] * 2
    assert asked == [0, 1, 2]
    assert optimizer.averages()[0] is optimizer.state[0]["average"]
    optimizer.average = 0.0
    optimizer.update([w], [np.ones(2)])
    assert optimizer.averages()[0].tolist() == [-4.0] * 2
    optimizer.average = 1.0
    optimizer.update([w], [np.ones(2)])
    assert optimizer.averages()[0].tolist() == [-4.0] * 2
    optimizer.average = None  # it stays
    optimizer.update([w], [np.ones(2)])
    assert optimizer.averages()[0].tolist() == [-4.0] * 2
    del optimizer.state[0]
    optimizer.average = 0.5
    optimizer.update([w], [np.ones(2)])
    assert optimizer.averages()[0].tolist() == [-7.0] * 2


def test_the_usual_warm_up() -> None:
    warm_up = schedules.AverageWarmup(0.99)
    w, mean = np.zeros(1), 0.0
    optimizer = fs.SGD(1.0, average=warm_up)
    for t in range(20):
        optimizer.update(w, np.ones(1))
        mean = w[0] if t == 0 else mean + (1 - (1 + t) / (10 + t)) * (w[0] - mean)
        assert optimizer.averages()[0] == mean


KINDS: dict[str, Any] = {
    "dict": {"W": np.ones((3, 4), np.float32), "b": np.ones(4)},
    "list": [np.ones((3, 4), np.float32), np.ones(())],
    "tuple": (np.ones(5), np.ones((0, 3))),
    "strided": [np.ones((6, 8))[::2, ::-1], np.ones((4, 5), order="F")],
    "bfloat16": [np.ones(100, ml_dtypes.bfloat16), np.ones(3, np.float16)],
}


def values(params: Any) -> list[Any]:
    return [np.array(w) for w in (params.values() if isinstance(params, dict) else params)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", [False, True], ids=["", "an exception"])
def test_parameters_have_their_averages_for_a_while(kind: str, fails: bool) -> None:
    params = KINDS[kind]
    optimizer = trained(params)
    before, state = values(params), optimizer.state_dict()
    means = [array.astype(w.dtype) for array, w in zip(optimizer.averages().values(), before, strict=True)]
    assert all((w != mean).all() for w, mean in zip(before, means, strict=True))
    try:
        with optimizer.averaged(params):
            np.testing.assert_equal(values(params), means)
            np.testing.assert_equal(optimizer.state_dict(), state)
            if fails:
                raise RuntimeError("in between")
    except RuntimeError:
        assert fails
    np.testing.assert_equal(values(params), before)
    np.testing.assert_equal(optimizer.state_dict(), state)


def test_a_single_array_and_numbers() -> None:
    w = np.zeros(2)
    optimizer = fs.SGD(1.0, average=0.5)
    params: Any = {"a": 0.0, "b": np.float32(0)}
    numbers = fs.SGD(1.0, average=0.5)
    for _ in range(2):
        optimizer.update(w, np.ones(2))
        numbers.update(params, {"a": 1.0, "b": 1.0})
    with optimizer.averaged(w), numbers.averaged(params):
        assert w.tolist() == [-1.5, -1.5]
        assert params == {"a": -1.5, "b": -1.5}
        assert type(params["b"]) is np.float32
    assert w.tolist() == [-2, -2]
    assert params == {"a": -2, "b": -2}
    assert (type(params["a"]), type(params["b"])) == (float, np.float32)


def test_nested_containers() -> None:
    params: Any = {"a": [np.zeros(2), [np.zeros(1), 0.0]]}
    optimizer = fs.SGD(1.0, average=0.5)
    for _ in range(2):
        optimizer.update(params, {"a": [np.ones(2), [np.ones(1), 1.0]]})
    assert optimizer.averages().keys() == {("a", 0), ("a", 1, 0), ("a", 1, 1)}
    with optimizer.averaged(params):
        assert [np.max(w) for w in (params["a"][0], *params["a"][1])] == [-1.5] * 3
    assert [np.max(w) for w in (params["a"][0], *params["a"][1])] == [-2] * 3


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    params = {"W": torch.zeros(3, requires_grad=True), "b": torch.zeros(2, dtype=torch.bfloat16)}
    optimizer = fs.SGD(1.0, average=0.5)
    for _ in range(2):
        optimizer.update(params, {key: torch.ones_like(w) for key, w in params.items()})
    with optimizer.averaged(params):
        assert [w.tolist() for w in params.values()] == [[-1.5] * 3, [-1.5] * 2]
    assert [w.tolist() for w in params.values()] == [[-2.0] * 3, [-2.0] * 2]


def test_a_master_is_averaged_and_the_parameter_comes_back() -> None:
    w = np.ones(4, ml_dtypes.bfloat16)
    optimizer = fs.SGD(2**-12, average=0.5, master=True)
    for _ in range(5):
        optimizer.update([w], [np.ones(4)])
    master, mean = optimizer.state[0]["master"], optimizer.averages()[0]
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(master, np.full(4, 1 - 5 * 2**-12, np.float32))
    assert (mean > master).all()
    before = w.copy()
    with optimizer.averaged([w]):
        np.testing.assert_array_equal(w, mean.astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(w, before)


def test_only_the_parameters_that_are_given_and_have_an_average() -> None:
    first: dict[str, Any] = {"a": np.zeros(1)}
    second: dict[str, Any] = {"b": np.zeros(1), "c": np.zeros(1)}
    optimizer = fs.SGD(1.0, average=0.5, groups=[("c", {"average": None})])
    for params in (first, second, first, second):
        optimizer.update(params, {key: np.ones(1) for key in params})
    with optimizer.averaged(second):
        assert (first["a"], second["b"], second["c"]) == (-2, -1.5, -2)
    assert (first["a"], second["b"], second["c"]) == (-2, -2, -2)


def test_those_of_a_split() -> None:
    split = fs.Split([("a", fs.SGD(1.0, average=0.5)), ("b", fs.Momentum(1.0, average=0.0)), ("c", fs.SGD(1.0))])
    params: dict[str, Any] = {key: np.zeros(1) for key in "abc"}
    for _ in range(2):
        split.update(params, {key: np.ones(1) for key in "abc"})
    assert {key: float(mean[0]) for key, mean in split.averages().items()} == {"a": -1.5, "b": -2.9}
    assert split.averages()["a"] is split.pairs[0][1].state["a"]["average"]
    with split.averaged(params):
        assert (params["a"], params["b"], params["c"]) == (-1.5, -2.9, -2)
    assert (params["a"], params["b"], params["c"]) == (-2, -2.9, -2)


def test_state_is_saved_as_usual_meanwhile() -> None:
    params = {"W": np.ones(3)}
    optimizer, other, file = trained(params), fs.Adam(), io.BytesIO()
    with optimizer.averaged(params):
        fs.save_state(file, optimizer)
    file.seek(0)
    fs.load_state(file, other)
    np.testing.assert_equal(other.state_dict(), optimizer.state_dict())


def test_what_has_no_averages_is_refused_and_nothing_changes() -> None:
    params = {"W": np.ones(3), "b": np.ones(2)}
    for optimizer in (fs.SGD(average=0.5), trained(params, average=None), fs.Split([("W", fs.SGD())])):
        with pytest.raises(ValueError, match=r"^there are no averages"), optimizer.averaged(params):
            pytest.fail("the body is not run")
    optimizer = trained(params)
    wrong: tuple[tuple[Any, type[Exception]], ...] = (
        (params | {"b": np.ones(3)}, ValueError),
        (params | {"b": np.ones(2, int)}, TypeError),
        (params | {"b": np.frombuffer(bytes(16))}, ValueError),
        ({"W": params["W"], "b": "b"}, TypeError),
        ("W", TypeError),
    )
    before = params["W"].copy()
    for given, error in wrong:
        with pytest.raises(error), optimizer.averaged(given):
            pytest.fail("the body is not run")
        np.testing.assert_array_equal(params["W"], before)
    with optimizer.averaged(params):
        assert (params["W"] != before).any()
