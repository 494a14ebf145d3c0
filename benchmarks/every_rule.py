"""Every rule, and every form of one that has other states, beside the limit for its bytes and PyTorch's own."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import peers
from benchmarks.limit import Limit
from benchmarks.turns import Sides, Work
from benchmarks.workloads import LIMIT, arrays

WORK = "40000000"
TORCH = "PyTorch"
LR = 1e-3


@dataclass(frozen=True)
class Form:
    """A rule with the options that choose its states.

    Attributes:
        cls: The class of fusedstep.
        options: Its arguments.
        reads: The arrays that are read once more, by the passes that take norms.
        torch: PyTorch's class and its arguments, if it has the rule.
    """

    cls: str
    options: dict[str, Any]
    reads: int = 0
    torch: tuple[str, dict[str, Any]] | None = None


FORMS: dict[str, Form] = {
    "SGD": Form("SGD", {}, torch=("SGD", {})),
    "SGD, momentum": Form("SGD", {"momentum": 0.9}, torch=("SGD", {"momentum": 0.9})),
    "SGD, Nesterov": Form(
        "SGD", {"momentum": 0.9, "nesterov": True}, torch=("SGD", {"momentum": 0.9, "nesterov": True})
    ),
    "Momentum": Form("Momentum", {}),
    "Nesterov": Form("Nesterov", {}),
    "ASGD": Form("ASGD", {"t0": 0.0}, torch=("ASGD", {"t0": 0.0})),
    "SignSGD": Form("SignSGD", {}),
    "Signum": Form("Signum", {}),
    "Lion": Form("Lion", {}),
    "Rprop": Form("Rprop", {}, torch=("Rprop", {})),
    "AdaGrad": Form("AdaGrad", {}, torch=("Adagrad", {})),
    "Adadelta": Form("Adadelta", {}, torch=("Adadelta", {})),
    "FTRL": Form("FTRL", {"l1": 0.01}),
    "RMSProp": Form("RMSProp", {}, torch=("RMSprop", {})),
    "RMSProp, centered, momentum": Form(
        "RMSProp", {"centered": True, "momentum": 0.9}, torch=("RMSprop", {"centered": True, "momentum": 0.9})
    ),
    "Adam": Form("Adam", {}, torch=("Adam", {})),
    "Adam, AMSGrad": Form("Adam", {"amsgrad": True}, torch=("Adam", {"amsgrad": True})),
    "AdamW": Form("AdamW", {}, torch=("AdamW", {})),
    "Adamax": Form("Adamax", {}, torch=("Adamax", {})),
    "NAdam": Form("NAdam", {}, torch=("NAdam", {})),
    "RAdam": Form("RAdam", {}, torch=("RAdam", {})),
    "AdaBelief": Form("AdaBelief", {}),
    "Yogi": Form("Yogi", {}),
    "LaProp": Form("LaProp", {}),
    "ADOPT": Form("ADOPT", {}),
    "AdEMAMix": Form("AdEMAMix", {}),
    "Adan": Form("Adan", {}),
    "ScheduleFreeSGD": Form("ScheduleFreeSGD", {}),
    "ScheduleFreeAdamW": Form("ScheduleFreeAdamW", {}),
    "LAMB": Form("LAMB", {}, reads=4),
    "LARS": Form("LARS", {}, reads=2),
    "StableAdamW": Form("StableAdamW", {}, reads=2),
    "Adafactor": Form("Adafactor", {}, reads=3, torch=("Adafactor", {})),
}


def _problem(size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A matrix, which Adafactor's factors need."""
    columns = 4000 if size >= 1_000_000 else 500
    params, grads = ([a] for a in (arrays([(size // columns, columns)], np.float32, seed)[0] for seed in (1, 2)))
    return {"W": params[0]}, {"W": grads[0]}


def limit(name: str, size: int, threads: list[int]) -> Sides:
    """The limit and our update, of the same arrays."""
    form = FORMS[name]
    params, grads = _problem(size)
    optimizer = getattr(fs, form.cls)(LR, **form.options)
    for _ in range(8):  # past the first steps, and RAdam's that are not rectified
        optimizer.update(params, grads)
    state = {
        key: {letter: array for letter, array in own.items() if array.shape == params[key].shape}
        for key, own in optimizer.state.items()
    }
    least = Limit(tuple(state.get("W", {})), {"W": state.get("W", {})}, reads=form.reads).prepare(params, grads)
    ours = partial(optimizer.update, params, grads)
    return [Work(least, n) for n in threads], [Work(ours, n) for n in threads]


def torch(name: str, size: int, threads: list[int]) -> Sides:
    """PyTorch's default form on the CPU and our update, of arrays that have the same place in memory in turn."""
    form = FORMS[name]
    assert form.torch is not None
    cls, options = form.torch
    params, grads = _problem(size)
    parameters = peers.torch_parameters(list(params.values()), list(grads.values()))
    theirs = getattr(importlib.import_module("torch.optim"), cls)(parameters, lr=LR, **options)
    optimizer = getattr(fs, form.cls)(LR, **form.options)
    step: Callable[[], Any] = theirs.step
    ours = partial(optimizer.update, params, grads)
    step()
    ours()
    return [Work(step, n) for n in threads], [Work(ours, n) for n in threads]


def works(row: str, name: str, size: int, threads: list[int]) -> Sides:
    """A row of the report."""
    return (limit if row == LIMIT else torch)(name, size, threads)
