"""Replaces the book's classes and functions in the reader's own modules by fusedstep's, and reports other numbers."""

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
from fusedstep.book._gradient import RowsGradient
from fusedstep.book._trials import REPLACEMENTS, Trial

# Attributes of the book's classes that ours lack, which its layers keep for the backward pass.
_INTERNAL = {"xc", "xn", "std", "layers"}


def _note(message: str) -> None:
    print(f"fusedstep.book: {message}", file=sys.stderr)


def _arguments(cls: Callable[..., Any]) -> dict[str, Any]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.kind in named}


def _public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")} - _INTERNAL


class _LacksError(Exception):
    """The reader's class has something that a script may use and ours lacks."""


def _require(names: Sequence[str], verb: str) -> None:
    if names:
        raise _LacksError(f"{verb} {', '.join(names)}")


def _difference(theirs: Callable[..., Any], ours: Callable[..., Any], trial: Trial) -> str | None:
    """The difference between the reader's class or function and ours, as the end of a sentence; None for none."""
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


def _stand_in(theirs: Callable[..., Any], candidates: Sequence[Callable[..., Any]], trial: Trial) -> Any:
    """Our class or function for the reader's, and the difference between them."""
    ours = candidates[0]
    _require([name for name in _arguments(theirs) if name not in _arguments(ours)], "takes")
    _require(sorted(_public(theirs) - _public(ours) - set(_arguments(ours))), "has")
    differences = [_difference(theirs, ours, trial) for ours in candidates]
    best = differences.index(None) if None in differences else 0
    return candidates[best], differences[best]


def substitute(module: ModuleType) -> None:
    """Replaces the module's own classes and functions by ours of the same name.

    If that changes the results of a script, a line on stderr says so. One stays only if it has something that ours
    lacks: an argument, a method, an attribute. The state of NumPy's global generator is restored.
    """
    names = vars(module)
    if names.get("np", np) is not np:
        _note(f"keeps {module.__name__} as it is, which computes without NumPy")
        return
    random_state = np.random.get_state()  # noqa: NPY002
    for name, (trial, candidates) in REPLACEMENTS[module.__name__].items():
        theirs = names.get(name)
        if not (inspect.isclass(theirs) or inspect.isfunction(theirs)) or theirs.__module__ != module.__name__:
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
    vars(module).update({name: ours[0] for name, (_, ours) in REPLACEMENTS[module.__name__].items()}, np=np)


# Of the other modules, scripts need more than ours.
_PROVIDED = {"common.optimizer", "common.layers"}


class _Provider(importlib.abc.Loader):
    """Makes a module of the book that the reader doesn't have."""

    def exec_module(self, module: ModuleType) -> None:
        _provide(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the book's modules as Python does, and substitutes in them as soon as they have run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of one of the book's modules, with a loader that substitutes; None for any other module."""
        if fullname not in REPLACEMENTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            if fullname not in _PROVIDED:
                return None
            return importlib.machinery.ModuleSpec(fullname, _Provider())
        spec.loader.exec_module = partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def tell_of_rows(lazy: bool) -> None:
    """Makes optimizers lazy or not, and has a line on stderr tell of each whose numbers depend on it."""
    told, taken = set(), book._Dialect._taken
    book._Dialect.lazy = lazy

    def telling(optimizer: book._Dialect, gradient: RowsGradient) -> Any:
        name = type(optimizer).__name__.removeprefix("Legacy")  # as readers know it
        if name not in told and not optimizer._has_same_numbers_with_rows():
            told.add(name)
            _note(f"{name} {_IS_LAZY if lazy else _IS_DENSE}")
        return taken(optimizer, gradient)

    book._Dialect._taken = telling  # type: ignore[assignment, method-assign]


_IS_LAZY = "is lazy: words that a batch doesn't have keep their weights and moments, so the numbers aren't the book's"
_IS_DENSE = (
    "makes gradients of embeddings dense, for the book's numbers; --lazy, before the script, is faster without them"
)
