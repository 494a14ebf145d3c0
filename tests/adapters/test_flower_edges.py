"""fusedstep.flower where rounds aren't plain: other types and numbers, errors, overridden parts, damaged messages."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs

pytest.importorskip("flwr", reason="compares with Flower where that is installed")

from flwr.app import Array, ArrayRecord
from flwr.common import ndarrays_to_parameters

from flower_rounds import (
    MOMENTUM,
    Clients,
    Current,
    Model,
    Older,
    assert_same,
    drawn,
    interfaces,
    kept,
    named,
    reply,
    rounded,
    strategies,
    trained,
)
from fusedstep.flower import _arrays

OTHERS: dict[str, Any] = {
    "counter": lambda x: np.asarray(3 + 10 * abs(x), np.int64),
    "small integers": lambda x: (100 * x).astype(np.int8),
    "flags": lambda x: x > 0,
    "half": lambda x: x.astype(np.float16),
    "other byte order": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
    "complex": lambda x: x.astype(np.complex64),
    "Fortran's order": lambda x: np.asfortranarray(np.outer(x, x)),
    "strings": lambda x: x.astype(str),
}


def outcome(function: Any, *given: Any) -> Any:
    """What a function returns, or its error."""
    try:
        return function(*given)
    except Exception as error:
        return repr(error)


@interfaces
@strategies
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # by NumPy, of small integers
def test_arrays_of_other_types(name: str, other: str, interface: Any, rng: Any) -> None:
    def extended(arrays: Model) -> Model:
        return {"first": OTHERS[other](arrays["b"]), **arrays}

    model = extended(drawn(rng, np.float64))
    ours, theirs = (interface.made(module, name, model, {}) for module in (interface.ours, interface.theirs))
    for server_round in range(1, 4):
        clients = [(extended(own), n) for own, n in trained(rng, drawn(rng, np.float64), 3)]
        own, expected = (outcome(interface.aggregated, each, server_round, clients) for each in (ours, theirs))
        if isinstance(expected, str):  # not even Flower takes them
            assert own == expected
        else:
            assert_same(own, expected)


@interfaces
@pytest.mark.parametrize("other", ["counter", "Fortran's order", "other byte order"])
def test_arrays_beside_others_are_stepped(other: str, interface: Any, rng: Any, flower_steps: list[bool]) -> None:
    model = {"first": OTHERS[other](rng.standard_normal(3)), **drawn(rng, np.float32)}
    strategy = interface.made(interface.ours, "FedAdam", model, {})
    for server_round in (1, 2):
        new = interface.aggregated(strategy, server_round, [(model, 3), (model, 1)])
        assert {x.dtype for x in list(new.values())[1:]} == {np.dtype(np.float32)}
    assert flower_steps == [True] * 2


@interfaces
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("FedAdam", {"eta": np.float64(0.1), "tau": np.float32(1e-3)}),
        ("FedYogi", {"eta": np.float64(0.1)}),
        ("FedAdagrad", {"eta": np.float64(0.1)}),
        ("FedAvgM", {"server_learning_rate": np.float64(0.1), "server_momentum": np.float64(0.5)}),
    ],
    ids=named,
)
def test_scalars_of_numpy_are_numbers(name: str, given: dict[str, Any], interface: Any, rng: Any) -> None:
    model = drawn(rng, np.float32)
    clients = trained(rng, model, 3)
    strategies = [
        interface.made(interface.ours, name, model, values)
        for values in (given, {key: float(value) for key, value in given.items()})
    ]
    for server_round in (1, 2):
        assert_same(*(interface.aggregated(strategy, server_round, clients) for strategy in strategies))


@interfaces
def test_a_model_in_float64_of_clients_in_float32(interface: Any, rng: Any, flower_steps: list[bool]) -> None:
    """The bits of Flower with NumPy 2, for those who want them: it makes such a model in the first round."""
    model = drawn(rng, np.float64)
    ours, theirs = (interface.made(module, "FedAdam", model, {}) for module in (interface.ours, interface.theirs))
    for server_round in (1, 2, 3):
        clients = [(rounded(own, np.float32), n) for own, n in trained(rng, model, 3)]
        if isinstance(interface, Older):
            clients = [(interface.aggregated(interface.made(interface.ours, "FedAvg", model, {}), 1, clients), 1)]
        model, expected = (interface.aggregated(each, server_round, clients) for each in (ours, theirs))
        assert_same(model, expected)
        for each in (ours, theirs):
            interface.set_model(each, model)
    assert flower_steps == [True] * 3


BEYOND: list[tuple[str, dict[str, Any]]] = [
    ("FedAdam", {"eta": -0.1}),
    ("FedAdam", {"eta": 1e-30}),
    ("FedAdam", {"beta_1": 1.5}),
    ("FedAdam", {"beta_2": -0.5}),
    ("FedAdam", {"tau": -1e-3}),
    ("FedYogi", {"tau": float("inf")}),
    ("FedYogi", {"eta": np.full(20, 0.1)}),
    ("FedAdagrad", {"beta_1": 0.5}),
    ("FedAvgM", {"server_learning_rate": -0.1}),
    ("FedAvgM", {"server_learning_rate": 0.5, "server_momentum": 1.5}),
    ("FedAvgM", {"server_momentum": float("nan")}),
]


@interfaces
@pytest.mark.parametrize(("name", "given"), BEYOND, ids=named)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_other_numbers_are_left_to_flower(
    name: str, given: dict[str, Any], interface: Any, rng: Any, flower_steps: list[bool]
) -> None:
    model = drawn(rng, np.float64, {"w": (30, 20), "b": (20,)})
    ours, theirs = (interface.made(module, name, model, {}) for module in (interface.ours, interface.theirs))
    for each in (ours, theirs):
        vars(each).update(given, server_opt=True)
    for server_round in range(1, 4):
        clients = trained(rng, model, 3)
        own, expected = (interface.aggregated(each, server_round, clients) for each in (ours, theirs))
        assert_same(own, expected)
    assert flower_steps == [False] * 3


@interfaces
def test_a_momentum_that_changes(interface: Any, rng: Any) -> None:
    model = drawn(rng, np.float64)
    ours, theirs = (interface.made(module, "FedAvgM", model, MOMENTUM) for module in (interface.ours, interface.theirs))
    for server_round, momentum in enumerate([0.9, 0, -0.5, 0.9, 0.5], 1):
        for each in (ours, theirs):
            each.server_momentum = momentum
        clients = trained(rng, model, 3)
        assert_same(*(interface.aggregated(each, server_round, clients) for each in (ours, theirs)))


@interfaces
@pytest.mark.parametrize("name", ["FedAdam", "FedAdagrad", "FedAvgM"])
@pytest.mark.parametrize("dtype_of_state", [np.float16, np.float64])
def test_state_of_another_type(
    name: str, dtype_of_state: Any, interface: Any, rng: Any, flower_steps: list[bool]
) -> None:
    model = drawn(rng, np.float32, {"w": (30, 20), "b": (20,)})
    given = MOMENTUM if name == "FedAvgM" else {}
    ours, theirs = (interface.made(module, name, model, given) for module in (interface.ours, interface.theirs))
    clients = [(trained(rng, model, 1)[0][0], 1)] * 2  # whose mean has no roundings
    for each in (ours, theirs):
        interface.aggregated(each, 1, clients)
        interface.set_model(each, model)
        state = interface.state(each, list(model))
        interface.set_state(each, {key: rounded(own, dtype_of_state) for key, own in state.items()})
    assert_same(*(interface.aggregated(each, 2, clients) for each in (ours, theirs)))
    assert flower_steps == [True, False]


@interfaces
@strategies
@pytest.mark.parametrize("types", [(np.float32, np.float64), (np.float64, np.float32), (np.int64, np.float64)], ids=str)
def test_clients_of_different_types(name: str, types: Any, interface: Any, rng: Any) -> None:
    model = drawn(rng, np.float64)
    ours, theirs = (interface.made(module, name, model, {}) for module in (interface.ours, interface.theirs))
    clients = [(rounded(own, dtype), n) for dtype, (own, n) in zip(types, trained(rng, model, 2), strict=True)]
    own, expected = (outcome(interface.aggregated, each, 1, clients) for each in (ours, theirs))
    if isinstance(expected, str):
        assert own == expected
    else:
        assert_same(own, expected)


def errors(model: Model) -> dict[str, tuple[Clients, Any]]:
    """Clients of each error, and what is set before."""
    wide = {**model, "w": np.zeros((31, 20), model["w"].dtype)}
    return {
        "keys": ([({**model, "other": model["b"]}, 1)] * 2, None),
        "fewer": ([({"w": model["w"]}, 1)] * 2, None),
        "of one": ([(model, 1), ({"w": model["w"]}, 1)], None),
        "shapes": ([(wide, 1)] * 2, None),
        "a shape of one": ([(model, 1), (wide, 1)], None),
        "a shape that NumPy broadcasts": ([({**model, "w": model["w"][:1]}, 1)] * 2, None),
        "fewer of the last": ([(model, 1), (model, 1), ({"w": model["w"]}, 1)], None),
        "none": ([(model, 1)] * 2, None),
        "weights": ([(model, 0)] * 2, None),
        "nothing": ([], None),
        "no model": ([(model, 1)] * 2, {"current_arrays": None, "current_weights": None, "initial_parameters": None}),
    }


@interfaces
@strategies
@pytest.mark.parametrize("case", errors({"w": np.zeros((30, 20)), "b": np.zeros(20)}))
@pytest.mark.parametrize("rounds_before", [0, 1])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_errors_are_flowers(name: str, case: str, rounds_before: int, interface: Any, rng: Any) -> None:
    model = drawn(rng, np.float64, {"w": (30, 20), "b": (20,)})
    given = MOMENTUM if name == "FedAvgM" else {}
    ours, theirs = (interface.made(module, name, model, given) for module in (interface.ours, interface.theirs))
    for each in (ours, theirs):
        for _ in range(rounds_before):
            interface.aggregated(each, 1, trained(np.random.default_rng(1), model, 3))
    before = {key: kept(own) for key, own in interface.state(ours, list(model)).items()}
    clients, values = errors(model)[case]
    for each in (ours, theirs):
        vars(each).update({key: value for key, value in (values or {}).items() if hasattr(each, key)})
    own, expected = (outcome(interface.aggregated, each, 2, clients) for each in (ours, theirs))
    if isinstance(expected, str) or expected is None:
        assert own == expected
        for key, state in before.items():
            assert_same(interface.state(ours, list(model))[key], state)
    else:
        for key, x in own.items():
            np.testing.assert_allclose(x, expected[key], 1e-12, 1e-12, strict=True)


def test_parts_that_users_override(rng: Any, flower_steps: list[bool]) -> None:
    interface, model = Current(), drawn(rng, np.float64)
    clients = trained(rng, model, 3)

    def classes(module: Any) -> list[Any]:
        class OwnMoments(module.FedAdam):  # type: ignore[misc]
            def _compute_deltat_and_mt(self, mean: Any) -> Any:
                delta, m, arrays = super()._compute_deltat_and_mt(mean)
                return {key: 2 * d for key, d in delta.items()}, m, arrays

        class OwnMean(Current.theirs.FedAvg):  # type: ignore[misc]
            def aggregate_train(self, server_round: int, replies: Any) -> Any:
                return replies[0].content["arrays"], None

        class WithOwnMean(module.FedYogi, OwnMean):  # type: ignore[misc]
            pass

        class FewerReplies(module.FedAdagrad):  # type: ignore[misc]
            def aggregate_train(self, server_round: int, replies: Any) -> Any:
                return super().aggregate_train(server_round, replies[1:])

        return [OwnMoments, WithOwnMean, FewerReplies]

    for own, theirs in zip(classes(Current.ours), classes(Current.theirs), strict=True):
        strategies = own(), theirs()
        for each in strategies:
            interface.set_model(each, model)
        assert_same(*(interface.aggregated(each, 1, clients) for each in strategies))
    assert flower_steps == [True, True]


def test_a_mean_that_users_override_in_the_older_interface(rng: Any) -> None:
    interface, model = Older(), drawn(rng, np.float64)
    clients = trained(rng, model, 3)

    class OwnMean(Older.theirs.FedAvg):  # type: ignore[misc]
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            return results[0][1].parameters, {}

    new = []
    for module in (Older.ours, Older.theirs):
        own = type("WithOwnMean", (module.FedAdam, OwnMean), {})
        interface.keys = list(model)
        strategy = own(initial_parameters=ndarrays_to_parameters(list(model.values())))
        new.append(interface.aggregated(strategy, 1, clients))
    assert_same(*new)


def test_damaged_messages() -> None:
    """NumPy's errors, as Flower raises them; of objects, too, whose addresses would be read from the message."""
    good, model = Array(np.ones(3, np.float32)), {"w": np.ones(3, np.float32)}
    as_objects = good.data.replace(b"'<f4'", b"'|O' ")
    of_version_3 = b"\x93NUMPY\x03\x00" + good.data[8:]
    for data in (b"", good.data[:6], good.data[:60], good.data[:-1], of_version_3, as_objects, good.data):
        stype = "another format" if data is good.data else "numpy.ndarray"
        damaged = ArrayRecord({"w": Array("float32", (3,), stype, data)})
        replies = [reply(model, 1) for _ in range(2)]
        replies[1].content["arrays"] = damaged
        own, expected = (
            outcome(module.FedAvg().aggregate_train, 1, replies) for module in (Current.ours, Current.theirs)
        )
        assert own == expected
        assert isinstance(own, str)


def test_bytes_are_those_of_numpy(rng: Any, dtype: Any) -> None:
    x = np.asarray(rng.standard_normal((3, 4, 5)), dtype)
    for array in (x, x[0, 0, 0:1], np.asarray(x[0, 0, 0]), x[:, :0], x.T, x[::2], x[:, ::-1].T, x.transpose(1, 0, 2)):
        data = Array(array).data
        assert _arrays.saved(array) == data
        np.testing.assert_array_equal(_arrays.view(data), array, strict=True)
        assert not _arrays.view(data).flags.writeable  # type: ignore[union-attr]


@interfaces
def test_subnormal_numbers(interface: Any) -> None:
    """They are flushed to zero in all that is computed here, unless they are kept everywhere."""
    model = {"w": np.full(3, 1e-40, np.float32)}
    for flush in (True, False):
        fs.set_flush_subnormals(flush)
        ours, theirs = (
            interface.made(module, "FedAdagrad", model, {}) for module in (interface.ours, interface.theirs)
        )
        own, expected = (interface.aggregated(each, 1, [(model, 1)] * 2) for each in (ours, theirs))
        assert_same(own, {"w": np.zeros(3, np.float32)} if flush else expected)
