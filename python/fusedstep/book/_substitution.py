"""Replaces the book's classes in the reader's own modules by fusedstep's, and reports changes of numbers."""

import contextlib
import importlib.abc
import importlib.machinery
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fusedstep import book


class LegacyNesterov(book.Nesterov):
    """`fusedstep.book.Nesterov` in its legacy order, with the arguments of the book's class."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr, momentum, legacy=True)


# Three trials, each of which makes objects of a class and returns all results. The inputs have sizes at which a change
# of any constant of the book changes the results.
def _try_optimizer(make: Callable[..., Any]) -> list[Any]:
    wave = np.sin(np.arange(1.0, 13.0)).reshape(3, 4)
    first, other = wave + 2, wave[0] - 3
    optimizer = make()
    params: Any = [first, other]
    grads: Any = [np.zeros_like(first), np.zeros_like(other)]
    try:
        optimizer.update(params, grads)
    except Exception:  # the second volume has lists, the first dicts
        optimizer, keys = make(), ("W", "b")
        params, grads = dict(zip(keys, params, strict=True)), dict(zip(keys, grads, strict=True))
        optimizer.update(params, grads)
    for step in range(1, 6):
        for n, key in enumerate(params if isinstance(params, dict) else (0, 1)):
            grads[key][...] = np.cos(step * params[key]) * np.logspace(-8, 3, 4) * (n + 1)
        optimizer.update(params, grads)
    # If params has other arrays now, layers that hold the first ones have not learned.
    return [optimizer, first, other, *(params.values() if isinstance(params, dict) else params)]


def _try_batch_normalization(make: Callable[..., Any]) -> list[Any]:
    results = []
    wave = np.sin(np.arange(48.0) ** 2)
    for shape in ((4, 12), (4, 3, 2, 2)):
        layer = make(gamma=wave[:12] + 2, beta=wave[12:24])
        x = (wave.reshape(4, 12) * np.logspace(-4, 1, 12)).reshape(shape)
        for scale in (1.0, 3.0):
            results += [layer.forward(scale * x, True), layer.backward(np.cos(x)), layer.dgamma, layer.dbeta]
        results += [layer.forward(x, False), layer.running_mean, layer.running_var]
    return [layer, *results]


def _try_dropout(make: Callable[..., Any]) -> list[Any]:
    np.random.seed(0)  # noqa: NPY002, the state is restored
    layer, x = make(), np.arange(1.0, 61.0).reshape(3, 20)
    results = [layer.forward(x, True), layer.backward(2 * x), layer.forward(x, False)]
    return [layer, *results, np.random.rand()]  # noqa: NPY002


Trial = Callable[[Callable[..., Any]], list[Any]]
CLASSES: dict[str, dict[str, tuple[Trial, tuple[type[Any], ...]]]] = {
    "common.optimizer": {
        "SGD": (_try_optimizer, (book.SGD,)),
        "Momentum": (_try_optimizer, (book.Momentum,)),
        "Nesterov": (_try_optimizer, (book.Nesterov, LegacyNesterov)),
        "AdaGrad": (_try_optimizer, (book.AdaGrad,)),
        "RMSprop": (_try_optimizer, (book.RMSprop,)),
        "Adam": (_try_optimizer, (book.Adam,)),
    },
    "common.layers": {
        "BatchNormalization": (_try_batch_normalization, (book.BatchNormalization,)),
        "Dropout": (_try_dropout, (book.Dropout,)),
    },
}
# Attributes of the book's classes that ours lack: its batch normalisation keeps them for the backward pass.
_INTERNAL = {"xc", "xn", "std"}


def _note(message: str) -> None:
    print(f"fusedstep.book: {message}", file=sys.stderr)


def _arguments(cls: type[Any]) -> dict[str, Any]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.kind in named}


def _public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")} - _INTERNAL


class _LacksError(Exception):
    """The reader's class has something that a script may use and ours lacks."""


def _require(names: Sequence[str], verb: str) -> None:
    if names:
        raise _LacksError(f"{verb} {', '.join(names)}")


def _difference(theirs: type[Any], ours: type[Any], trial: Trial) -> str | None:
    """The difference between our class and the reader's, as the end of a sentence; None if there is none."""
    printed = io.StringIO()
    try:
        # As text, because a default may be an array.
        defaults = [
            {name: repr(_arguments(cls)[name]) for name in _arguments(theirs) if name in _arguments(cls)}
            for cls in (theirs, ours)
        ]
        if defaults[0] != defaults[1]:
            return "has other defaults than the book's"
        # The defaults are the same; other values show whether the arguments are used.
        options = {name: value / 2 for name, value in _arguments(theirs).items() if isinstance(value, float)}
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            made, *results = trial(lambda **data: theirs(**options, **data))
            own, *expected = trial(lambda **data: ours(**options, **data))
        # Formulas that differ in rounding alone are 1e-12 apart on these inputs, other constants 1e-6 and more.
        same = all(np.allclose(r, e, rtol=1e-9, atol=1e-9) for r, e in zip(results, expected, strict=True))
    except (Exception, SystemExit) as error:
        return f"raised {type(error).__name__} when tried"
    _require(sorted(_public(made) - _public(own)), "has")
    if not same:
        return "gives other numbers than the book's"
    return "prints" if printed.getvalue() else None


def _stand_in(theirs: type[Any], candidates: Sequence[type[Any]], trial: Trial) -> Any:
    """Our class for the reader's, and the difference between them."""
    ours = candidates[0]
    _require([name for name in _arguments(theirs) if name not in _arguments(ours)], "takes")
    _require(sorted(_public(theirs) - _public(ours) - set(_arguments(ours))), "has")
    differences = [_difference(theirs, ours, trial) for ours in candidates]
    best = differences.index(None) if None in differences else 0
    return candidates[best], differences[best]


def substitute(module: ModuleType) -> None:
    """Replaces the module's own classes by ours of the same name.

    If that changes the results of a script, a line on stderr says so. A class stays only if it has something that ours
    lacks: an argument, a method, an attribute. The state of NumPy's global generator is restored.
    """
    names = vars(module)
    if names.get("np", np) is not np:
        _note(f"keeps {module.__name__} as it is, which computes without NumPy")
        return
    random_state = np.random.get_state()  # noqa: NPY002
    for name, (trial, candidates) in CLASSES[module.__name__].items():
        theirs = names.get(name)
        if not inspect.isclass(theirs) or theirs.__module__ != module.__name__:
            continue
        which = f"the {name} of {module.__name__}"
        try:
            names[name], difference = _stand_in(theirs, candidates, trial)
        except _LacksError as lack:
            _note(f"keeps {which}, which {lack}")
            continue
        if difference is not None:
            _note(f"{which} {difference}; fusedstep's takes its place")
    np.random.set_state(random_state)  # noqa: NPY002


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        execute(module)
    except Exception as error:
        # Scripts need the other classes of common.layers, but common.optimizer has only known ones.
        if module.__name__ != "common.optimizer":
            raise
        _note(f"{module.__name__} raised {type(error).__name__}: {error}; fusedstep's takes its place")
        _provide(module)
    else:
        substitute(module)


def _provide(module: ModuleType) -> None:
    vars(module).update({name: ours[0] for name, (_, ours) in CLASSES[module.__name__].items()}, np=np)


class _Provider(importlib.abc.Loader):
    """Makes a module of the book that the reader doesn't have."""

    def exec_module(self, module: ModuleType) -> None:
        _provide(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the book's modules as Python does, and substitutes their classes as soon as they have run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of one of the book's modules, with a loader that substitutes; None for any other module."""
        if fullname not in CLASSES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return importlib.machinery.ModuleSpec(fullname, _Provider())
        spec.loader.exec_module = partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec
