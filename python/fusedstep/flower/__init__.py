"""Flower's strategies with our step: the clients' mean in one pass, and the server's optimizer in another.

Change the import:

    from fusedstep.flower import FedAdam

The classes take the place of strategies in `flwr.serverapp.strategy`; `fusedstep.flower.server` is for the older
interface, `flwr.server.strategy`. Mean and step are ours, everything else is Flower's own. The module needs Flower,
which the rest of fusedstep doesn't.
"""

from typing import Any, NamedTuple

from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp import strategy as original
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from numpy.typing import NDArray

from fusedstep.flower import _steps
from fusedstep.flower._arrays import FORMAT, are_averaged, saved, view
from fusedstep.optimizers.stateless import weighted_mean

__all__ = ["FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedYogi"]


class _Means(NamedTuple):
    """The means of a round, which are given to `FedAvg.aggregate_train` in place of the replies."""

    arrays: dict[str, NDArray[Any]] | None
    metrics: Any


def _record(arrays: dict[str, NDArray[Any]]) -> Any:
    return ArrayRecord({key: Array(str(x.dtype), x.shape, FORMAT, saved(x)) for key, x in arrays.items()})


def _view(array: Any) -> NDArray[Any] | None:
    return view(array.data) if array.stype == FORMAT else None


def _averaged(contents: list[Any], weighted_by_key: str) -> dict[str, NDArray[Any]]:
    """The weighted means of the clients' arrays. Those of integers, for example, Flower's own function makes."""
    records = [next(iter(content.array_records.values())) for content in contents]
    metrics = [next(iter(content.metric_records.values())) for content in contents]
    keys = list(records[0])
    lists = [[_view(record[key]) for key in keys] for record in records]
    weights = [own[weighted_by_key] for own in metrics]
    is_ours = are_averaged(lists, weights)
    ours = [[x for x, chosen in zip(arrays, is_ours, strict=True) if chosen] for arrays in lists]
    means = iter(weighted_mean(ours, weights) if ours[0] else [])
    rest = [key for key, chosen in zip(keys, is_ours, strict=True) if not chosen]
    others = {}
    if rest:
        parts = [
            RecordDict({"arrays": ArrayRecord({key: record[key] for key in rest}), "metrics": own})
            for record, own in zip(records, metrics, strict=True)
        ]
        others = aggregate_arrayrecords(parts, weighted_by_key)
    return {key: others[key].numpy() if key in others else next(means) for key in keys}


class FedAvg(original.FedAvg):
    """Flower's FedAvg, with the weighted mean of the clients' arrays in one pass over them.

    The bits are Flower's.
    """

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """The mean of the arrays in the replies, and the aggregated metrics."""
        means, metrics = replies if isinstance(replies, _Means) else self._means(server_round, replies)
        return None if means is None else _record(means), metrics

    def _means(self, server_round: int, replies: Any) -> _Means:
        inherited = super().aggregate_train
        if inherited.__func__ is not original.FedAvg.aggregate_train:  # a base of a user's class has another mean
            record, metrics = inherited(server_round, replies)
            return _Means(record and {key: array.numpy() for key, array in record.items()}, metrics)
        valid, _ = self._check_and_log_replies(replies, is_train=True)
        if not valid:
            return _Means(None, None)
        contents = [reply.content for reply in valid]
        means = _averaged(contents, self.weighted_by_key)
        return _Means(means, self.train_metrics_aggr_fn(contents, self.weighted_by_key))


class _FedOpt(_steps.FedOpt, FedOpt, FedAvg):
    current_arrays: Any

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        """The messages of a round; current_arrays are views of its arrays, and read-only."""
        views = {key: _view(array) for key, array in arrays.items()}
        self.current_arrays = {key: arrays[key].numpy() if x is None else x for key, x in views.items()}
        return super(FedOpt, self).configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """New arrays after a step towards the mean of the arrays in the replies, and the aggregated metrics."""
        means, metrics = given = self._means(server_round, replies)
        current = self.current_arrays
        states = (self.m_t, self.v_t)
        is_ours = type(self)._compute_deltat_and_mt is FedOpt._compute_deltat_and_mt
        if is_ours and means and current and all(own.keys() == means.keys() for own in (current, *states) if own):
            lists: Any = [own and [own[key] for key in current] for own in (current, means, *states)]
            made = self._stepped(server_round, *lists)
            if made is not None:
                new, self.m_t, self.v_t = (dict(zip(current, arrays, strict=True)) for arrays in made)
                return _record(new), metrics
        return super().aggregate_train(server_round, given)


class FedAdam(_steps.Adam, _FedOpt, original.FedAdam):
    """Flower's FedAdam.

        d = mean - x
        m = beta_1 m + (1 - beta_1) d
        v = beta_2 v + (1 - beta_2) d^2
        x = x + eta_norm m / (sqrt(v) + tau)
        eta_norm = eta sqrt(1 - beta_2^t) / (1 - beta_1^t), t = server_round + 1

    The bits are Flower's, except that the new arrays have the type of the old ones: with NumPy 2 Flower's are float64
    for a model in float32, and here they are those, rounded to float32.
    """


class FedYogi(_steps.Yogi, _FedOpt, original.FedYogi):
    """Flower's FedYogi.

        d = mean - x
        m = beta_1 m + (1 - beta_1) d
        v = v - (1 - beta_2) d^2 sign(v - d^2)
        x = x + eta m / (sqrt(v) + tau)

    The bits are Flower's.
    """


class FedAdagrad(_steps.Adagrad, _FedOpt, original.FedAdagrad):
    """Flower's FedAdagrad.

        d = mean - x
        v = v + d^2
        x = x + eta d / (sqrt(v) + tau)

    The bits are Flower's. If the attribute beta_1 is set to another value than 0, the step is Flower's own.
    """


class FedAvgM(_steps.Momentum, original.FedAvgM, FedAvg):
    """Flower's FedAvgM.

        v = server_momentum v + (x - mean)
        x = x - server_learning_rate v

    The bits are Flower's.
    """

    current_arrays: Any

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """New arrays after a step towards the mean of the arrays in the replies, and the aggregated metrics."""
        means, metrics = given = self._means(server_round, replies)
        if self.server_opt and means and self.current_arrays:
            current = [_view(array) for array in self.current_arrays.values()]
            has_velocities = self.server_momentum > 0
            made = self._stepped(current, list(means.values()), self.momentum_vector if has_velocities else None)
            if made is not None:
                new, velocities = made
                if has_velocities:
                    self.momentum_vector = velocities
                self.current_arrays = _record(dict(zip(means, new, strict=True)))
                return self.current_arrays, metrics
        return super().aggregate_train(server_round, given)
