"""Trains a policy that balances a pole, with the Adam of PyTorch and of fusedstep in turns.

With stable-baselines3 and Gymnasium it is PPO on CartPole-v1, unmodified but for `optimizer_class`; without them a
small actor-critic of this script, whose gradients fusedstep clips in its step. Both sides get the same seeds. Networks
this small take as long to step as to differentiate.
"""

from lib.command_line import Parser, main, whole

# isort: split
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from tqdm import tqdm

import fusedstep as fs
from lib.style import COLOURS, GREY, slide

SIDES = {"PyTorch": COLOURS[1], "fusedstep": COLOURS[0]}
NEEDED = ("stable_baselines3", "gymnasium")


def _adam(side: str) -> Any:
    import torch

    import fusedstep.torch

    return fusedstep.torch.Adam if side == "fusedstep" else torch.optim.Adam


def train_ppo(side: str, steps: int, seed: int, report: Callable[[int], Any]) -> Any:
    """PPO (Schulman et al. 2017, arXiv:1707.06347) of stable-baselines3; the time is that of its `train`."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    from lib.actor_critic import Run

    run = Run()

    class Report(BaseCallback):  # type: ignore[misc]
        def _on_step(self) -> bool:
            report(1)
            for info in self.locals["infos"]:
                if "episode" in info:
                    run.steps.append(self.num_timesteps)
                    run.rewards.append(float(info["episode"]["r"]))
            return True

    class Timed(PPO):  # type: ignore[misc]
        def train(self) -> None:
            before = time.perf_counter()
            super().train()
            run.seconds += time.perf_counter() - before
            run.updates += 1

    model = Timed("MlpPolicy", "CartPole-v1", seed=seed, policy_kwargs={"optimizer_class": _adam(side)}, device="cpu")
    model.learn(steps, callback=Report())
    return run


def train_own(side: str, steps: int, seed: int, report: Callable[[int], Any]) -> Any:
    """The actor-critic of this script; the time is that of its updates."""
    import torch

    from lib import actor_critic

    def make_step(parameters: list[Any]) -> Callable[[], Any]:
        if side == "fusedstep":
            ours: Callable[[], Any] = _adam(side)(parameters, actor_critic.LR, max_norm=actor_critic.MAX_NORM).step
            return ours
        theirs = _adam(side)(parameters, actor_critic.LR)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(parameters, actor_critic.MAX_NORM)
            theirs.step()

        return step

    return actor_critic.train(steps, seed, make_step, report)


def _draw_rewards(ax: Axes, runs: dict[str, list[Any]], steps: int) -> None:
    # From where every run has had an episode.
    begin = max((run.steps[0] for each in runs.values() for run in each if run.steps), default=steps)
    ends = np.linspace(begin, steps, 25)
    for side, colour in SIDES.items():
        curves = []
        for run in runs[side]:
            at, rewards = np.array(run.steps), np.array(run.rewards)
            if not at.size:
                continue
            curves.append([float(np.mean(rewards[at <= end][-20:])) for end in ends])
            ax.plot(ends, curves[-1], color=colour, alpha=0.3, linewidth=1)
        if curves:
            width = 2 if side == "fusedstep" else 5  # seen where the curves coincide
            ax.plot(ends, np.median(curves, 0), color=colour, linewidth=width, label=side)
    ax.set(xlabel="steps in the environment", title="Reward of an episode, mean of the last 20", xlim=(0, steps))
    ax.set_ylim(0)
    if ax.lines:
        ax.legend(loc="upper left")


def _draw_times(ax: Axes, times: dict[str, list[float]]) -> None:
    for y, (side, colour) in enumerate(SIDES.items()):
        ax.barh(y, median(times[side]), 0.5, color=colour)
        ax.plot(times[side], [y] * len(times[side]), "|", color=GREY)
        ax.text(0, y - 0.33, f"{side}: {median(times[side]):.3g} ms", weight="bold", va="bottom")
    ax.set(yticks=[], ylim=(1.6, -0.7), xlabel="ms", title="An update of the networks")
    ax.spines["left"].set_visible(False)


def draw(out: Path, runs: dict[str, list[Any]], steps: int, subtitle: str) -> None:
    """Writes the picture."""
    times = {side: [1000 * run.seconds / run.updates for run in runs[side]] for side in SIDES}
    share = median(times["fusedstep"]) / median(times["PyTorch"])
    with slide(out, f"With fusedstep's Adam an update of the networks takes {share:.2f} of the time", subtitle) as f:
        _draw_rewards(f.add_axes((0.06, 0.12, 0.5, 0.66)), runs, steps)
        _draw_times(f.add_axes((0.64, 0.12, 0.33, 0.66)), times)


def _run() -> None:
    parser = Parser(__doc__, "torch_policy.png")
    parser.add_argument("--steps", type=whole(1, 10**9), default=20_000, help="in the environment (default: 20000)")
    parser.add_argument("--runs", type=whole(1, 1000), default=3, help="seeds for each side (default: 3)")
    parser.add_argument("--own", action="store_true", help="the script's actor-critic, stable-baselines3 or not")
    arguments = parser.parse_args()
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import torch

    # Networks this small are slower with more.
    torch.set_num_threads(1)
    fs.set_num_threads(1)
    has_ppo = not arguments.own and all(importlib.util.find_spec(name) is not None for name in NEEDED)
    train, name = (train_ppo, "PPO of stable-baselines3") if has_ppo else (train_own, "an actor-critic")
    runs: dict[str, list[Any]] = {side: [] for side in SIDES}
    with tqdm(total=arguments.runs * len(SIDES) * arguments.steps, unit="step", disable=None) as bar:
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            for side in SIDES:
                runs[side].append(train(side, arguments.steps, seed, bar.update))
    for side in SIDES:
        seconds, updates = (sum(getattr(run, what) for run in runs[side]) for what in ("seconds", "updates"))
        last = [reward for run in runs[side] for reward in run.rewards[-20:]]
        reward = f"{np.mean(last):.0f}" if last else "none"
        print(f"{side:<10} {1000 * seconds / max(updates, 1):7.2f} ms an update, reward of the last episodes {reward}")
    subtitle = f"{name} on CartPole, {arguments.runs} seeds, one thread\n"
    subtitle += "Thin lines, short marks: a seed each; thick lines, bars: the median of the seeds"
    draw(arguments.out, runs, arguments.steps, subtitle)


if __name__ == "__main__":
    sys.exit(main(_run))
