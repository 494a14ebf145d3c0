"""A cart with a pole, and a small actor-critic that learns to balance it, by PyTorch."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]

GAMMA, LAMBDA, ENTROPY, MAX_NORM = 0.99, 0.95, 0.01, 0.5
CARTS, HORIZON, LR = 8, 16, 1e-3


@dataclass
class Run:
    """What a training gave.

    Attributes:
        steps: The number of steps in the environment at the end of each episode.
        rewards: The reward of each episode.
        seconds: The time in updates of the networks.
        updates: Their number.
    """

    steps: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    seconds: float = 0.0
    updates: int = 0


class CartPoles:
    """Carts with a pole each (Barto, Sutton & Anderson 1983), with the numbers of Gymnasium's CartPole-v1.

    A cart of 1 kg is pushed with 10 N to either side, 50 times a second, below a pole of 0.1 kg and 1 m. An episode
    ends when the pole is 12 degrees off, the cart 2.4 m away, or after 500 steps, each of which rewards 1.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.state = self._start(count)
        self._age = np.zeros(count, int)

    def _start(self, count: int) -> Array:
        return self._rng.uniform(-0.05, 0.05, (count, 4)).astype(np.float32)

    def step(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Pushes right for 1 and left for 0. Returns which episodes have ended, and how long all are."""
        _, v, angle, rate = self.state.T
        push = np.where(actions == 1, 10.0, -10.0) + 0.05 * rate**2 * np.sin(angle)
        turn = (9.8 * np.sin(angle) - np.cos(angle) * push / 1.1) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        along = push / 1.1 - 0.05 * turn * np.cos(angle) / 1.1
        moves = np.stack((v, along, rate, turn), 1)
        self.state = (self.state + 0.02 * moves).astype(np.float32)
        self._age += 1
        ages = self._age.copy()
        ended = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > np.pi / 15) | (ages >= 500)
        self.state[ended] = self._start(int(ended.sum()))
        self._age[ended] = 0
        return ended, ages


def networks() -> tuple[Any, Any]:
    """The policy and the value, of two hidden layers each: 12 tensors."""
    return tuple(
        torch.nn.Sequential(
            torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, out)
        )
        for out in (2, 1)
    )


def train(
    steps: int, seed: int, make_step: Callable[[list[Any]], Callable[[], Any]], report: Callable[[int], Any]
) -> Run:
    """Trains by advantages (Mnih et al. 2016, arXiv:1602.01783; Schulman et al. 2016, arXiv:1506.02438).

    Arguments:
        steps: How many steps to take in the environment.
        seed: For networks, environment and actions.
        make_step: Makes from the parameters what steps them, with clipping.
        report: Is told how many steps have been taken since it was last told.
    """
    torch.manual_seed(seed)
    policy, value = networks()
    parameters = [*policy.parameters(), *value.parameters()]
    step = make_step(parameters)
    carts, run = CartPoles(CARTS, seed), Run()
    for begin in range(0, steps, CARTS * HORIZON):
        states, actions, ends = [], [], []
        for t in range(HORIZON):
            state = torch.from_numpy(carts.state.copy())
            with torch.no_grad():
                action = (torch.rand(CARTS) < policy(state).softmax(-1)[:, 1]).long()
            ended, ages = carts.step(action.numpy())
            states.append(state)
            actions.append(action)
            ends.append(ended)
            for age in ages[ended]:
                run.steps.append(begin + (t + 1) * CARTS)
                run.rewards.append(float(age))
        states.append(torch.from_numpy(carts.state.copy()))
        before = time.perf_counter()
        _update(policy, value, parameters, step, states, actions, ends)
        run.seconds += time.perf_counter() - before
        run.updates += 1
        report(CARTS * HORIZON)
    return run


def _advantages(values: Array, ends: NDArray[np.bool_]) -> Array:
    """Of all steps; values has one more, of the states after them. Each step rewards 1."""
    advantages = np.zeros((HORIZON + 1, CARTS), np.float32)
    for t in reversed(range(HORIZON)):
        goes_on = ~ends[t]
        advantages[t] = 1 + goes_on * GAMMA * (values[t + 1] + LAMBDA * advantages[t + 1]) - values[t]
    return advantages[:-1]


def _update(
    policy: Any,
    value: Any,
    parameters: list[Any],
    step: Callable[[], Any],
    states: list[Any],
    actions: list[Any],
    ends: list[NDArray[np.bool_]],
) -> None:
    values = value(torch.stack(states))[..., 0]
    now = values.detach()
    advantages = torch.from_numpy(_advantages(now.numpy(), np.stack(ends)))
    choice = torch.distributions.Categorical(logits=policy(torch.stack(states[:-1])), validate_args=False)
    normal = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    gain = (choice.log_prob(torch.stack(actions)) * normal).mean()
    error = (values[:-1] - (now[:-1] + advantages)).pow(2).mean()
    for p in parameters:
        p.grad = None
    (0.5 * error - gain - ENTROPY * choice.entropy().mean()).backward()
    step()
