"""fusedstep.flower beside Flower's own strategies, with both of Flower's interfaces."""

import copy
import inspect
import pickle
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="compares with Flower where that is installed")

from flwr.app import ConfigRecord
from flwr.serverapp.strategy import fedavg

from flower_rounds import (
    MOMENTUM,
    Current,
    Older,
    Reply,
    assert_same,
    drawn,
    interfaces,
    kept,
    named,
    record,
    reply,
    result,
    rounded,
    strategies,
    trained,
)

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("FedAvg", {}),
    ("FedAdam", {}),
    ("FedAdam", {"eta": 1, "beta_1": 0.0, "beta_2": 0.5, "tau": 1e-5}),
    ("FedYogi", {}),
    ("FedYogi", {"eta": 0.3, "beta_1": 0, "beta_2": 0.9, "tau": 1e-4}),
    ("FedAdagrad", {}),
    ("FedAdagrad", {"eta": 0.5, "tau": 0.5}),
    ("FedAvgM", {}),
    ("FedAvgM", {"server_learning_rate": 0.3}),
    ("FedAvgM", MOMENTUM),
    ("FedAvgM", {"server_momentum": 1, "server_learning_rate": 0}),
]

settings = pytest.mark.parametrize(("name", "given"), SETTINGS, ids=named)


@interfaces
@settings
@pytest.mark.parametrize("n", [2, 3, 10])
def test_rounds(
    interface: Any, name: str, given: dict[str, Any], n: int, dtype: Any, rng: Any, flower_steps: list[bool]
) -> None:
    """With NumPy 2, FedAdam of Flower returns float64 for float32; ours is that, rounded, in each round."""
    model = drawn(rng, dtype)
    ours, theirs = (interface.made(module, name, model, given) for module in (interface.ours, interface.theirs))
    mean = interface.made(interface.ours, "FedAvg", model, {})
    for server_round in range(1, 6):
        clients = trained(rng, model, n)
        of_theirs = clients
        if (
            isinstance(interface, Older) and name != "FedAvgM"
        ):  # whose mean in float32 has other roundings; test_means compares it
            of_theirs = [(interface.aggregated(mean, server_round, clients), 1)]
        model = interface.aggregated(ours, server_round, clients)
        right = rounded(interface.aggregated(theirs, server_round, of_theirs), dtype)
        states, expected = (interface.state(each, list(model)) for each in (ours, theirs))
        assert states.keys() == expected.keys()
        assert_same(model, right)
        for key, state in interface.state(theirs, list(model)).items():
            assert_same(states[key], state)
        if isinstance(interface, Older) or name != "FedAvgM":
            for each in (ours, theirs):
                interface.set_model(each, right)
    has_step = name not in ("FedAvg", "FedAvgM") or given != {}
    assert flower_steps == [True] * (5 if has_step else 0)


@interfaces
@pytest.mark.parametrize("name", ["FedAdam", "FedYogi", "FedAdagrad", "FedAvgM"])
def test_large_arrays(interface: Any, name: str, threads: int, rng: Any) -> None:
    model = drawn(rng, np.float64, {"w": (700, 300), "b": (300,), "e": (50_000,)})
    given = MOMENTUM if name == "FedAvgM" else {}
    ours, theirs = (interface.made(module, name, model, given) for module in (interface.ours, interface.theirs))
    for server_round in (1, 2):
        clients = [(trained(rng, model, 1)[0][0], 1)] * 2  # a mean without roundings
        own, expected = (interface.aggregated(each, server_round, clients) for each in (ours, theirs))
        assert_same(own, expected)


@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("inplace", [True, False])
def test_means_of_the_older_interface(n: int, inplace: bool, dtype: Any, rng: Any) -> None:
    """In float32, Flower multiplies by factors in float64 if it works in place.

    It rounds n times, products and sums; ours n + 1 times, because factors are in float32.
    """
    interface, model = Older(), drawn(rng, dtype)
    clients = trained(rng, model, n)
    ours, theirs = (
        interface.made(module, "FedAvg", model, {"inplace": inplace}) for module in (interface.ours, interface.theirs)
    )
    mean, expected = (interface.aggregated(strategy, 1, clients) for strategy in (ours, theirs))
    if dtype is np.float64 or not inplace:
        assert_same(mean, expected)
    total = sum(examples for _, examples in clients)
    for key, x in mean.items():
        size = sum(examples / total * np.abs(own[key]).astype(float) for own, examples in clients)
        assert (np.abs(x - expected[key].astype(float)) <= (n + 1) * np.finfo(dtype).eps * size).all()


@interfaces
@strategies
def test_arrays_of_others_are_not_written(name: str, interface: Any, rng: Any, flower_steps: list[bool]) -> None:
    """Messages, models before and after a round, and state that a user has set; our own state is written."""
    model = drawn(rng, np.float32)
    given = MOMENTUM if name == "FedAvgM" else {}
    strategy, other = (interface.made(interface.ours, name, model, given) for _ in range(2))
    models, copies = [model], [kept(model)]
    for server_round in (1, 2, 3):
        clients = trained(rng, model, 2)
        state = {key: kept(own) for key, own in interface.state(strategy, list(model)).items()}
        given_copies = {key: kept(own) for key, own in state.items()}
        interface.set_state(other, state)
        for each in (strategy, other):
            interface.set_model(each, models[-1])
        own_state = interface.state(strategy, list(model))
        new = interface.aggregated(strategy, server_round, clients)
        for key, arrays in own_state.items():
            if (name, key) != ("FedAdagrad", "m_t"):
                assert all(interface.state(strategy, list(model))[key][each] is x for each, x in arrays.items())
        assert_same(interface.aggregated(other, server_round, clients), new)
        for key, own in state.items():
            assert_same(own, given_copies[key])
        held = getattr(strategy, "current_weights", None)
        models.append(new if held is None else dict(zip(model, held, strict=True)))
        copies.append(kept(new))
    for own, expected in zip(models, copies, strict=True):
        assert_same(own, expected)
    assert flower_steps == [True] * (0 if name == "FedAvg" else 6)


@interfaces
@strategies
def test_state_is_copied_with_a_strategy(name: str, interface: Any, rng: Any, flower_steps: list[bool]) -> None:
    model = drawn(rng, np.float32)
    strategy = interface.made(interface.ours, name, model, MOMENTUM if name == "FedAvgM" else {})
    interface.aggregated(strategy, 1, trained(rng, model, 2))
    copied = copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))
    clients = trained(rng, model, 2)
    expected = interface.aggregated(strategy, 2, clients)
    for each in copied:
        assert_same(interface.aggregated(each, 2, clients), expected)
        for key, state in interface.state(strategy, list(model)).items():
            assert_same(interface.state(each, list(model))[key], state)


@interfaces
@strategies
def test_they_are_flowers(name: str, interface: Any, rng: Any) -> None:
    ours, theirs = getattr(interface.ours, name), getattr(interface.theirs, name)
    assert issubclass(ours, theirs)
    assert issubclass(ours, interface.ours.FedAvg)
    assert inspect.signature(ours) == inspect.signature(theirs)
    strategies = [
        interface.made(module, name, drawn(rng, np.float32), {}) for module in (interface.ours, interface.theirs)
    ]
    assert vars(strategies[0]).keys() == vars(strategies[1]).keys()
    if isinstance(interface, Older):
        assert repr(strategies[0]) == repr(strategies[1])


@dataclass
class Sent:
    """What nodes read of a message; Flower's own needs the identity of a running task."""

    content: Any
    message_type: str
    dst_node_id: int


class Grid:
    """Nodes that train in this process."""

    def get_node_ids(self) -> list[int]:
        return list(range(1, 8))

    def send_and_receive(self, messages: list[Sent], timeout: float) -> list[Reply]:
        replies = []
        for message in messages:
            config = next(iter(message.content.config_records.values()))
            rng = np.random.default_rng([message.dst_node_id, config["server-round"]])
            model = {key: array.numpy() for key, array in next(iter(message.content.array_records.values())).items()}
            ((own, examples),) = trained(rng, rounded(model, np.float32), 1)
            replies.append(reply(own, examples))
        return replies


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Grid:
    monkeypatch.setattr(fedavg, "Message", Sent)
    return Grid()


@strategies
def test_trainings(name: str, grid: Grid, rng: Any, flower_steps: list[bool], caplog: pytest.LogCaptureFixture) -> None:
    """Bits of models in float64, as FedAdam's are with Flower and NumPy 2; metrics and log lines."""
    arrays = record(drawn(rng, np.float64))
    given = {"weighted_by_key": "num-examples", "fraction_train": 0.6, **(MOMENTUM if name == "FedAvgM" else {})}
    results, lines = [], []
    for module in (Current.ours, Current.theirs):
        caplog.clear()
        random.seed(3)
        results.append(getattr(module, name)(**given).start(grid, arrays, num_rounds=3))
        lines.append([line for line in caplog.messages if " finished in " not in line and "execution" not in line])
    assert lines[0] == lines[1]
    own, expected = results
    assert (own.train_metrics_clientapp, own.evaluate_metrics_clientapp) == (
        expected.train_metrics_clientapp,
        expected.evaluate_metrics_clientapp,
    )
    assert own.arrays.object_id == expected.arrays.object_id
    assert flower_steps == [True] * (0 if name == "FedAvg" else 3)


@pytest.mark.parametrize("name", ["FedAdam", "FedAvgM"])
def test_metrics_and_failures_of_the_older_interface(name: str, rng: Any) -> None:
    model = drawn(rng, np.float64)
    calls: list[Any] = []

    def aggregated(metrics: Any) -> dict[str, float]:
        calls.append(metrics)
        return {"loss": sum(n * own["loss"] for n, own in metrics)}

    results = [result(*client) for client in trained(rng, model, 3)]
    for failures, accept in (([], True), ([ValueError()], True), ([ValueError()], False)):
        outcomes = []
        for module in (Older.ours, Older.theirs):
            given = {"fit_metrics_aggregation_fn": aggregated, "accept_failures": accept}
            strategy = Older().made(module, name, model, given | (MOMENTUM if name == "FedAvgM" else {}))
            outcomes.append(strategy.aggregate_fit(1, results, failures))
        assert outcomes[0][1] == outcomes[1][1]
        assert (outcomes[0][0] is None) == (outcomes[1][0] is None) == (not accept)
    assert len(calls) == 4
    assert calls[0] == calls[1]


def test_memory_of_messages(grid: Grid, rng: Any) -> None:
    """The model of a round is where its message is, so that no array is loaded, and none can be written there."""
    arrays = record(drawn(rng, np.float32))
    strategy = Current.ours.FedAdam()
    strategy.configure_train(1, arrays, ConfigRecord(), grid)
    for key, array in arrays.items():
        assert strategy.current_arrays[key].base is array.data
        np.testing.assert_array_equal(strategy.current_arrays[key], array.numpy(), strict=True)
    with pytest.raises(ValueError, match="read-only"):
        strategy.current_arrays["w"][0, 0] = 1
