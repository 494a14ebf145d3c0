"""The strategies of `flwr.server.strategy`, Flower's older interface, with our step.

Change the import:

    from fusedstep.flower.server import FedAdam
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from flwr.common import Parameters, parameters_to_ndarrays
from flwr.server import strategy as original
from flwr.server.strategy.aggregate import aggregate, aggregate_inplace
from flwr.server.strategy.fedopt import FedOpt

from fusedstep.flower import _steps
from fusedstep.flower._arrays import FORMAT, are_averaged, saved, view
from fusedstep.flower._steps import Arrays
from fusedstep.optimizers.stateless import accumulate, weighted_mean

__all__ = ["FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedYogi"]


class _Means(NamedTuple):
    """The means of a round, which are given to `FedAvg.aggregate_fit` in place of the results."""

    arrays: Arrays | None
    metrics: Any


def _parameters(arrays: Arrays) -> Any:
    return Parameters([saved(x) for x in arrays], FORMAT)


def _with_tensors(results: list[Any], is_chosen: list[bool]) -> list[Any]:
    """The results with a part of their tensors."""
    parts = []
    for client, result in results:
        tensors = [tensor for tensor, chosen in zip(result.parameters.tensors, is_chosen, strict=False) if chosen]
        parts.append((client, replace(result, parameters=replace(result.parameters, tensors=tensors))))
    return parts


def _averaged_by_flower(results: list[Any], is_inplace: bool) -> Any:
    if is_inplace:
        return aggregate_inplace(results)
    return aggregate([(parameters_to_ndarrays(result.parameters), result.num_examples) for _, result in results])


def _mean_of_sums(lists: Any, weights: list[Any]) -> Arrays:
    """The mean as Flower's `aggregate` makes it: the sum of products with numbers of examples, divided by their sum."""
    means: Arrays = weighted_mean(lists[:1], [1])
    for x in means:
        np.multiply(x, weights[0], out=x)
    for arrays, weight in zip(lists[1:], weights[1:], strict=True):
        accumulate(means, arrays, weight)
    for x in means:
        np.divide(x, sum(weights), out=x)
    return means


def _averaged(results: list[Any], is_inplace: bool) -> Any:
    """The weighted means. Those of integers, for example, Flower's own function makes."""
    lists = [[view(tensor) for tensor in result.parameters.tensors] for _, result in results]
    if len({len(arrays) for arrays in lists}) != 1:
        return _averaged_by_flower(results, is_inplace)
    weights = [result.num_examples for _, result in results]
    is_ours = are_averaged(lists, weights)
    ours = [[x for x, chosen in zip(arrays, is_ours, strict=True) if chosen] for arrays in lists]
    means = iter((weighted_mean if is_inplace else _mean_of_sums)(ours, weights) if ours[0] else [])
    others = iter(())
    if not all(is_ours):
        others = iter(_averaged_by_flower(_with_tensors(results, [not chosen for chosen in is_ours]), is_inplace))
    return [next(means if chosen else others) for chosen in is_ours]


class FedAvg(original.FedAvg):
    """Flower's FedAvg, with a faster mean of the clients' arrays.

    The bits are Flower's, except for float32 arrays if inplace is True, as it is by default: these agree within
    roundings, because Flower multiplies them in float64.
    """

    def aggregate_fit(self, server_round: int, results: Any, failures: list[Any]) -> Any:
        """The mean of the clients' arrays, and the aggregated metrics."""
        means, metrics = results if isinstance(results, _Means) else self._means(server_round, results, failures)
        return None if means is None else _parameters(means), metrics

    def _means(self, server_round: int, results: list[Any], failures: list[Any]) -> _Means:
        inherited = super().aggregate_fit
        if inherited.__func__ is not original.FedAvg.aggregate_fit:  # a base of a user's class has another mean
            parameters, metrics = inherited(server_round, results, failures)
            return _Means(parameters and parameters_to_ndarrays(parameters), metrics)
        # Flower's own method checks, aggregates metrics and logs; of the arrays it gets none.
        parameters, metrics = inherited(server_round, _with_tensors(results, []), failures)
        return _Means(None if parameters is None else _averaged(results, self.inplace), metrics)


class _FedOpt(_steps.FedOpt, FedOpt, FedAvg):
    current_weights: Any

    def aggregate_fit(self, server_round: int, results: Any, failures: list[Any]) -> Any:
        """New arrays after a step towards the mean of the clients' arrays, and the aggregated metrics."""
        means, metrics = given = self._means(server_round, results, failures)
        current = self.current_weights
        if means and current and len(means) == len(current):
            made = self._stepped(server_round, current, means, self.m_t, self.v_t)
            if made is not None:
                self.current_weights, self.m_t, self.v_t = made
                return _parameters(self.current_weights), metrics
        return super().aggregate_fit(server_round, given, failures)


class FedAdam(_steps.Adam, _FedOpt, original.FedAdam):
    """Flower's FedAdam, with the step of `fusedstep.flower.FedAdam` and the mean of `FedAvg`."""


class FedYogi(_steps.Yogi, _FedOpt, original.FedYogi):
    """Flower's FedYogi, with the step of `fusedstep.flower.FedYogi` and the mean of `FedAvg`."""


class FedAdagrad(_steps.Adagrad, _FedOpt, original.FedAdagrad):
    """Flower's FedAdagrad, with the step of `fusedstep.flower.FedAdagrad` and the mean of `FedAvg`."""


class FedAvgM(_steps.Momentum, original.FedAvgM, FedAvg):
    """Flower's FedAvgM, with the step of `fusedstep.flower.FedAvgM`. The bits are Flower's."""

    initial_parameters: Any

    def aggregate_fit(self, server_round: int, results: Any, failures: list[Any]) -> Any:
        """New arrays after a step towards the mean of the clients' arrays, and the aggregated metrics."""
        is_later = self.server_momentum > 0 and server_round > 1
        velocities = self.momentum_vector if is_later else None
        lacks_state = self.initial_parameters is None or (is_later and not velocities)
        is_refused = failures and not self.accept_failures
        examples = sum(result.num_examples for _, result in results)
        if is_refused or examples == 0 or (self.server_opt and lacks_state):
            return super().aggregate_fit(server_round, results, failures)
        new = _averaged(results, False)
        if self.server_opt:
            made = self._stepped([view(tensor) for tensor in self.initial_parameters.tensors], new, velocities)
            if made is None:
                return super().aggregate_fit(server_round, results, failures)
            new, velocities = made
            if self.server_momentum > 0:
                self.momentum_vector = velocities
        parameters = _parameters(new)
        if self.server_opt:
            self.initial_parameters = parameters
        _, metrics = original.FedAvg.aggregate_fit(self, server_round, _with_tensors(results, []), failures)
        return parameters, metrics
