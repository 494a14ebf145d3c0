"""All rules, each with a learning rate for the digits and one for surfaces of two variables."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fusedstep as fs


@dataclass(frozen=True)
class Rule:
    """A rule and its learning rates.

    Attributes:
        make: Makes an optimizer with a learning rate.
        digits: That for the network of compare_optimizers.py.
        surface: That for the surfaces of trajectories.py.
    """

    make: Callable[[float], Any]
    digits: float
    surface: float


def _muon(lr: float) -> fs.Split:
    """Muon for the matrices, and AdamW for the biases."""
    return fs.Split([(lambda _, w: getattr(w, "ndim", 0) == 2, fs.Muon(lr)), (lambda *_: True, fs.AdamW(0.002))])


RULES: dict[str, Rule] = {
    "SGD": Rule(fs.SGD, 0.1, 0.1),
    "Momentum": Rule(fs.Momentum, 0.03, 0.1),
    "Nesterov": Rule(fs.Nesterov, 0.03, 0.1),
    "AdaGrad": Rule(fs.AdaGrad, 0.01, 0.5),
    "RMSProp": Rule(fs.RMSProp, 0.001, 0.05),
    "Adam": Rule(fs.Adam, 0.002, 0.3),
    "AdamW": Rule(fs.AdamW, 0.002, 0.3),
    "ADOPT": Rule(fs.ADOPT, 0.002, 0.3),
    "ASGD": Rule(fs.ASGD, 0.1, 0.1),
    "AdEMAMix": Rule(lambda lr: fs.AdEMAMix(lr, beta3=0.99, alpha=2.0), 0.001, 0.1),
    "AdaBelief": Rule(fs.AdaBelief, 0.002, 0.3),
    "Adadelta": Rule(fs.Adadelta, 3.0, 30.0),
    "Adafactor": Rule(lambda lr: fs.Adafactor(lr, relative_step=False, scale_parameter=False), 0.002, 0.1),
    "Adamax": Rule(fs.Adamax, 0.004, 0.3),
    "Adan": Rule(fs.Adan, 0.005, 0.3),
    "FTRL": Rule(lambda lr: fs.FTRL(lr, initial_accumulator=1e-8), 0.02, 0.5),  # with 0.1 first weights are forgotten
    "LAMB": Rule(fs.LAMB, 0.01, 0.1),
    "LARS": Rule(fs.LARS, 10.0, 30.0),
    "Lion": Rule(fs.Lion, 0.0002, 0.1),
    "Muon": Rule(_muon, 0.02, 0.1),
    "NAdam": Rule(fs.NAdam, 0.002, 0.3),
    "RAdam": Rule(fs.RAdam, 0.005, 0.3),
    "Rprop": Rule(fs.Rprop, 0.001, 0.1),
    "ScheduleFreeAdamW": Rule(fs.ScheduleFreeAdamW, 0.005, 0.3),
    "ScheduleFreeSGD": Rule(fs.ScheduleFreeSGD, 0.5, 0.3),
    "SignSGD": Rule(fs.SignSGD, 0.0005, 0.1),
    "Signum": Rule(fs.Signum, 0.0005, 0.1),
    "StableAdamW": Rule(fs.StableAdamW, 0.002, 0.3),
    "LaProp": Rule(fs.LaProp, 0.002, 0.1),
    "Yogi": Rule(fs.Yogi, 0.005, 0.3),
}


def chosen(text: str) -> tuple[str, ...]:
    """The type of an option that names rules."""
    if text == "all":
        return tuple(RULES)
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in RULES]:
        raise argparse.ArgumentTypeError(f"there is no rule {unknown[0]!r}; there are {', '.join(RULES)}")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a rule twice")
    return names


def add_rules(parser: argparse.ArgumentParser, default: tuple[str, ...], most: int) -> None:
    """Adds --rules."""

    def few(text: str) -> tuple[str, ...]:
        names = chosen(text)
        if len(names) > most:
            raise argparse.ArgumentTypeError(f"{len(names)} rules, more than the {most} that fit the picture")
        return names

    parser.add_argument(
        "--rules",
        type=few,
        default=default,
        metavar="NAME,...",
        help=f"rules to show, up to {most} of {', '.join(RULES)}"
        + ("; or all" if most >= len(RULES) else "")
        + f" (default: {','.join(default)})",
    )
