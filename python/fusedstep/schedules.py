"""Schedules, which every optimizer takes as its learning rate, or as the decay of its average, in place of a number.

A schedule is called with t, the number of updates made so far (0 at the first), and returns the number for the next
one. It counts updates, not epochs: with n = ceil(examples / batch size) updates an epoch, epoch e starts at update
n * e. So `StepDecay(0.1, [n * e for e in (30, 60, 90)])` decays after 30, 60 and 90 epochs, and `Cosine(0.1, n * 90)`
lasts for 90.

Schedules are values: they can't be changed, and can be compared, hashed, pickled and printed. The optimizer counts, so
several may share one schedule.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fusedstep._limits import checked, checked_count, checked_positive, shown

__all__ = ["AverageWarmup", "Cosine", "Exponential", "Joined", "LinearWarmup", "Polynomial", "StepDecay"]


def _checked_starts(value: Iterable[Any]) -> tuple[int, ...]:
    try:
        starts = tuple(value)
    except Exception as error:
        raise TypeError(f"at is {shown(value)}, expected a sequence of integers") from error
    starts = tuple(checked_count(f"at[{i}]", start, 1) for i, start in enumerate(starts))
    if any(later <= earlier for earlier, later in pairwise(starts)):
        raise ValueError(f"at is {shown(starts)}, expected strictly increasing numbers of updates")
    return starts


def _checked_decay(name: str, value: Any) -> float:
    return checked("decay", value, name)  # 1, which is no decay, is allowed


class _Schedule:
    """The base class of the schedules: checks t, and fields when they are set."""

    def __call__(self, t: int) -> float:
        """The number for the update after t others.

        Raises:
            ValueError: t is negative.
            TypeError: t is not an integer.
        """
        return self._rate(checked_count("t", t))

    def _rate(self, t: int) -> float:
        raise NotImplementedError

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the dataclasses are frozen


@dataclass(frozen=True)
class StepDecay(_Schedule):
    """A constant rate that is multiplied by a factor at certain updates.

        lr factor^k,  k being the number of updates in `at` that are t or less

    `StepDecay(0.1, (30, 60, 90))` is 0.1 for updates 0 to 29, 0.01 from 30, 0.001 from 60 and 0.0001 from 90 on.

    Arguments:
        lr: The rate at first.
        at: The updates at which it is multiplied once more: integers >= 1, strictly increasing. Kept as a tuple.
        factor: From 0 to 1.

    Raises:
        ValueError: A value is out of range, or `at` doesn't increase.
        TypeError: lr or factor is not a number, or `at` not a sequence of integers.
    """

    lr: float
    at: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        self._set(lr=checked("lr", self.lr), at=_checked_starts(self.at), factor=_checked_decay("factor", self.factor))

    def _rate(self, t: int) -> float:
        return self.lr * self.factor ** bisect_right(self.at, t)


@dataclass(frozen=True)
class Exponential(_Schedule):
    """A rate that decays by the same factor over every period.

        lr decay_rate^(t / every)

    Between the ends of the periods it decays smoothly; for steps, use `StepDecay`.

    Arguments:
        lr: The rate at first.
        decay_rate: The factor, from 0 to 1.
        every: The period in updates, > 0; need not be an integer.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is not a number.
    """

    lr: float
    decay_rate: float
    every: float = 1

    def __post_init__(self) -> None:
        self._set(
            lr=checked("lr", self.lr),
            decay_rate=_checked_decay("decay_rate", self.decay_rate),
            every=checked_positive("every", self.every),
        )

    def _rate(self, t: int) -> float:
        return self.lr * math.pow(self.decay_rate, t / self.every)


@dataclass(frozen=True)
class Polynomial(_Schedule):
    """A rate that goes from lr to end along a power of the remaining time; a line for power 1.

        end + (lr - end) (1 - t / steps)^power  before update `steps`, end from there on

    Arguments:
        lr: The rate at first.
        steps: The number of updates until `end`, >= 1.
        end: The rate from update `steps` on, >= 0. Above lr, the rate rises.
        power: > 0. Above 1, most of the change comes early.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is not a number, or steps not an integer.
    """

    lr: float
    steps: int
    end: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        self._set(
            lr=checked("lr", self.lr),
            steps=checked_count("steps", self.steps, 1),
            end=checked("end", self.end),
            power=checked_positive("power", self.power),
        )

    def _rate(self, t: int) -> float:
        if t >= self.steps:
            return self.end
        return _between(self.lr, self.end, ((self.steps - t) / self.steps) ** self.power)


@dataclass(frozen=True)
class Cosine(_Schedule):
    """Half a cosine wave from lr to end (Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5, without restarts).

        end + (lr - end) (1 + cos(pi t / steps)) / 2  before update `steps`, end from there on

    Arguments:
        lr: The rate at first.
        steps: The number of updates until `end`, >= 1.
        end: The rate from update `steps` on, >= 0. Above lr, the rate rises.

    Raises:
        ValueError: A value is out of range.
        TypeError: A value is not a number, or steps not an integer.
    """

    lr: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        self._set(lr=checked("lr", self.lr), steps=checked_count("steps", self.steps, 1), end=checked("end", self.end))

    def _rate(self, t: int) -> float:
        if t >= self.steps:
            return self.end
        return _between(self.lr, self.end, (1 + math.cos(math.pi * (t / self.steps))) / 2)


@dataclass(frozen=True)
class LinearWarmup(_Schedule):
    """A rate that grows linearly to lr and stays there (as in Goyal et al. 2017, arXiv:1706.02677, but from almost 0).

        lr (t + 1) / steps  before update `steps`, lr from there on

    The first update has lr / steps, because a rate of 0 would waste it, and update `steps` - 1 has lr. For another
    schedule after it, use `Joined`: `Joined((LinearWarmup(0.1, 500), Cosine(0.1, 9500)), (500,))`.

    Arguments:
        lr: The rate that is reached.
        steps: The number of updates until then, >= 1.

    Raises:
        ValueError: A value is out of range.
        TypeError: lr is not a number, or steps not an integer.
    """

    lr: float
    steps: int

    def __post_init__(self) -> None:
        self._set(lr=checked("lr", self.lr), steps=checked_count("steps", self.steps, 1))

    def _rate(self, t: int) -> float:
        return self.lr * (min(t + 1, self.steps) / self.steps)


@dataclass(frozen=True)
class AverageWarmup(_Schedule):
    """The decay of an average of weights that is short at first: for the option average, not for lr.

        min(decay, (1 + t) / (10 + t))

    At first the average forgets fast, so that it doesn't keep the initial weights; this is the num_updates of
    TensorFlow's ExponentialMovingAverage. For a decay of 0.999 the warm-up takes 8990 updates.

    Arguments:
        decay: The decay that is reached, from 0 to 1.

    Raises:
        ValueError: decay is out of range.
        TypeError: decay is not a number.
    """

    decay: float

    def __post_init__(self) -> None:
        self._set(decay=_checked_decay("decay", self.decay))

    def _rate(self, t: int) -> float:
        return min(self.decay, (1 + t) / (10 + t))


@dataclass(frozen=True)
class Joined(_Schedule):
    """One schedule after the other, each counting from 0 at its own start.

        schedules[0](t)              before update at[0]
        schedules[i](t - at[i - 1])  from update at[i - 1] on, until at[i]

    Arguments:
        schedules: One or more schedules: any callables that take t, or numbers, which are constant rates. Kept as a
            tuple.
        at: The updates at which all but the first start: integers >= 1, strictly increasing, one fewer than there are
            schedules. Kept as a tuple.

    Raises:
        ValueError: A number is out of range, `at` doesn't increase, or the lengths don't fit each other.
        TypeError: A schedule is neither a callable nor a number, or `at` is not a sequence of integers.
    """

    schedules: Sequence[Callable[[int], float] | float]
    at: Sequence[int]

    def __post_init__(self) -> None:
        try:
            given = tuple(self.schedules)
        except Exception as error:
            raise TypeError(f"schedules is {shown(self.schedules)}, expected a sequence of schedules") from error
        at = _checked_starts(self.at)
        if len(given) != len(at) + 1:
            raise ValueError(f"schedules has length {len(given)}, expected {len(at) + 1}, one more than at")
        self._set(schedules=tuple(_checked_schedule(i, value) for i, value in enumerate(given)), at=at)

    def _rate(self, t: int) -> float:
        i = bisect_right(self.at, t)
        schedule = self.schedules[i]
        if not callable(schedule):
            return schedule
        own = t - self.at[i - 1] if i else t
        return checked("lr", schedule(own), f"schedules[{i}]({own})")


def _checked_schedule(i: int, value: Any) -> Any:
    return value if callable(value) else checked("lr", value, f"schedules[{i}]")


def _between(start: float, end: float, weight: float) -> float:
    return start * weight + end * (1 - weight)  # exactly start for weight 1, unlike end + (start - end) weight
