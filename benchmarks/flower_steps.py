"""Rounds of Flower's strategies as rows: its own, and fusedstep.flower's."""

import importlib
import logging
from typing import Any

import numpy as np

from benchmarks.turns import Sides, Work
from benchmarks.workloads import Shapes, arrays

LIBRARY, PACKAGE = "Flower", "flwr"
DTYPES = ("float32",)
RULES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedAdam": {},
    "FedYogi": {},
    "FedAdagrad": {},
    "FedAvgM": {"server_momentum": 0.9},
}
CLIENTS = 10

# Of models: a small network, and 60 arrays with 11 million numbers.
WORKS: dict[str, Shapes] = {"small": [(64, 32), (32,), (32, 10), (10,)], "11 million": [(430, 430)] * 60}


class Reply:
    """What a strategy reads of a client's message."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def has_error(self) -> bool:
        return False


class Server:
    """Makes rounds with the same replies, and from the second on with the same model, so that no state vanishes."""

    def __init__(self, module: str, strategy: str, model: Any, replies: list[Reply]) -> None:
        made = getattr(importlib.import_module(module), strategy)
        self.strategy = made(fraction_train=0.0, **RULES[strategy])  # which samples no nodes, so it needs none
        self.replies = replies
        self.model = self.round(model)

    def round(self, model: Any = None) -> Any:
        from flwr.app import ConfigRecord

        self.strategy.configure_train(2, model or self.model, ConfigRecord(), None)
        return self.strategy.aggregate_train(2, self.replies)[0]


def works(rule: str, work: str, dtype: str, threads: list[int]) -> Sides:
    """Flower's round and ours, after two of each that have given the same numbers."""
    flwr = importlib.import_module("flwr.app")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    records = [flwr.ArrayRecord(arrays(WORKS[work], dtype, seed)) for seed in range(CLIENTS + 1)]
    contents = [
        {"arrays": own, "metrics": flwr.MetricRecord({"num-examples": 10 + i})} for i, own in enumerate(records)
    ]
    replies = [Reply(flwr.RecordDict(content)) for content in contents[1:]]
    modules = ("flwr.serverapp.strategy", "fusedstep.flower")
    servers = [Server(module, rule, records[0], replies) for module in modules]
    for own, expected in zip(*(server.round().to_numpy_ndarrays() for server in servers[::-1]), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)
    return [Work(servers[0].round, 1)], [Work(servers[1].round, n) for n in threads]
