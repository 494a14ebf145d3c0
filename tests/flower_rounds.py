"""Rounds of both of Flower's interfaces in one form: models are dicts, clients are models with numbers of examples."""

from dataclasses import dataclass
from typing import Any

import flwr.server.strategy
import flwr.serverapp.strategy
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from numpy.typing import NDArray

import fusedstep.flower
import fusedstep.flower.server
from fusedstep.flower import _steps

Model = dict[str, NDArray[Any]]
Clients = list[tuple[Model, float]]

SHAPES: dict[str, tuple[int, ...]] = {"w": (30, 20), "b": (20,), "scale": (), "empty": (0, 3)}
MOMENTUM = {"server_momentum": 0.9, "server_learning_rate": 0.5}

strategies = pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedYogi", "FedAdagrad", "FedAvgM"])


@dataclass
class Reply:
    """What a strategy reads of a message."""

    content: Any

    def has_error(self) -> bool:
        return False


def record(model: Model) -> Any:
    return ArrayRecord({key: Array(x) for key, x in model.items()})


def reply(model: Model, examples: float) -> Reply:
    return Reply(
        RecordDict({"arrays": record(model), "metrics": MetricRecord({"num-examples": examples, "loss": 0.3})})
    )


class Current:
    """flwr.serverapp.strategy: the server gives the model before each round, in configure_train."""

    ours: Any = fusedstep.flower
    theirs: Any = flwr.serverapp.strategy

    def made(self, module: Any, name: str, model: Model, given: dict[str, Any]) -> Any:
        strategy = getattr(module, name)(**given)
        self.set_model(strategy, model)
        return strategy

    def set_model(self, strategy: Any, model: Model) -> None:
        if hasattr(strategy, "eta"):
            strategy.current_arrays = dict(model)
        elif hasattr(strategy, "server_opt"):
            strategy.current_arrays = record(model)

    def aggregated(self, strategy: Any, server_round: int, clients: Clients) -> Any:
        arrays, metrics = strategy.aggregate_train(server_round, [reply(*client) for client in clients])
        assert metrics is None or dict(metrics).keys() == {"loss"}
        return None if arrays is None else {key: array.numpy() for key, array in arrays.items()}

    def state(self, strategy: Any, keys: list[str]) -> dict[str, Model]:
        states = {name: getattr(strategy, name, None) for name in ("m_t", "v_t")}
        vector = getattr(strategy, "momentum_vector", None)
        states["momentum_vector"] = None if vector is None else dict(zip(keys, vector, strict=True))
        return {name: state for name, state in states.items() if state is not None}

    def set_state(self, strategy: Any, state: dict[str, Model]) -> None:
        for name, arrays in state.items():
            setattr(strategy, name, list(arrays.values()) if name == "momentum_vector" else dict(arrays))


class Older:
    """flwr.server.strategy: the strategy keeps the model, as a list."""

    ours: Any = fusedstep.flower.server
    theirs: Any = flwr.server.strategy
    keys: list[str]

    def made(self, module: Any, name: str, model: Model, given: dict[str, Any]) -> Any:
        self.keys = list(model)
        return getattr(module, name)(**given, initial_parameters=ndarrays_to_parameters(list(model.values())))

    def set_model(self, strategy: Any, model: Model) -> None:
        if hasattr(strategy, "eta"):
            strategy.current_weights = list(model.values())
        else:
            strategy.initial_parameters = ndarrays_to_parameters(list(model.values()))

    def aggregated(self, strategy: Any, server_round: int, clients: Clients) -> Any:
        parameters, _ = strategy.aggregate_fit(server_round, [result(*client) for client in clients], [])
        return None if parameters is None else dict(zip(self.keys, parameters_to_ndarrays(parameters), strict=True))

    def state(self, strategy: Any, keys: list[str]) -> dict[str, Model]:
        states = {name: getattr(strategy, name, None) for name in ("m_t", "v_t", "momentum_vector")}
        return {name: dict(zip(keys, own, strict=True)) for name, own in states.items() if own is not None}

    def set_state(self, strategy: Any, state: dict[str, Model]) -> None:
        for name, arrays in state.items():
            setattr(strategy, name, list(arrays.values()))


def result(model: Model, examples: float) -> tuple[None, FitRes]:
    parameters: Parameters = ndarrays_to_parameters(list(model.values()))
    return None, FitRes(Status(Code.OK, ""), parameters, examples, {"loss": 0.3})


interfaces = pytest.mark.parametrize("interface", [Current(), Older()], ids=["current", "older"])


def recorded_steps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A list to which each step from now on adds whether it was ours."""
    steps: list[bool] = []

    def recording(stepped: Any) -> Any:
        def recorded(*given: Any) -> Any:
            made = stepped(*given)
            steps.append(made is not None)
            return made

        return recorded

    for each in (_steps.FedOpt, _steps.Momentum):
        monkeypatch.setattr(each, "_stepped", recording(each._stepped))
    return steps


def named(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={own}" for key, own in value.items())
    return str(value)


def drawn(rng: Any, dtype: Any, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Model:
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}


def trained(rng: Any, model: Model, n: int) -> Clients:
    """Models of clients, with a few elements that are as in the model, and some that aren't near it."""
    clients: Clients = []
    for _ in range(n):
        own = {}
        for key, x in model.items():
            moved = 10.0 ** rng.integers(-5, 2) * rng.standard_normal(x.shape) * (rng.random(x.shape) > 0.2)
            own[key] = np.asarray(x + moved.astype(x.dtype, copy=False), x.dtype)
        clients.append((own, int(rng.integers(1, 1000))))
    return clients


def kept(arrays: Model) -> Model:
    return {key: x.copy() for key, x in arrays.items()}


def rounded(arrays: Model, dtype: Any) -> Model:
    return {key: x.astype(dtype) for key, x in arrays.items()}


def assert_same(own: Model, expected: Model) -> None:
    assert list(own) == list(expected)
    for key, x in own.items():
        np.testing.assert_array_equal(x, expected[key], strict=True)
