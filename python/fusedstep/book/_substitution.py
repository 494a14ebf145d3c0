"""Replaces classes and functions in the reader's copy of the book's modules by fusedstep's, where they do the same."""

import atexit
import contextlib
import importlib.abc
import importlib.machinery
import inspect
import io
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fusedstep import book
from fusedstep._limits import checked_flag
from fusedstep.book._gradient import RowsGradient
from fusedstep.book._report import note, record, tell_after_cell, tell_again, tell_at_exit, tell_what_is_known
from fusedstep.book._trials import REPLACEMENTS, Trial

# Attributes of the book's classes that ours lack, which its layers keep for the backward pass.
_INTERNAL = {"xc", "xn", "std", "layers"}


def _arguments(cls: Callable[..., Any]) -> dict[str, Any]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.kind in named}


def _public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")} - _INTERNAL


def _more(verb: str, theirs: Iterable[str], ours: Iterable[str]) -> str | None:
    names = sorted({*theirs} - {*ours})
    return f"{verb} {', '.join(names)}" if names else None


def _difference(theirs: Callable[..., Any], ours: Callable[..., Any], trial: Trial) -> str | None:
    """Why the reader's class or function is not the book's, in a few words; None if it is."""
    printed = io.StringIO()
    try:
        arguments, known = _arguments(theirs), _arguments(ours)
        if more := _more("takes", arguments, known):
            return more
        # As text, because a default may be an array.
        if any(repr(default) != repr(known[name]) for name, default in arguments.items()):
            return "other defaults than the book's"
        # The defaults are the same; other values show whether the arguments are used.
        options = {name: value / 2 for name, value in arguments.items() if isinstance(value, float)}
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
    if not same:
        return "other numbers than the book's"
    return _more("has", _public(made), _public(own)) or ("prints" if printed.getvalue() else None)


# Streams and NumPy's generator, which trials borrow, are the whole process's.
_LOCK = threading.RLock()


def substitute(module: ModuleType) -> list[tuple[Any, Any]]:
    """Replaces a module's own classes and functions by ours of the same name where ours do the same.

    Returns these pairs. The state of NumPy's global generator is restored.
    """
    names = vars(module)
    replaced: list[str] = []
    pairs: list[tuple[Any, Any]] = []
    kept: dict[str, str] = {}
    if names.get("np", np) is not np:
        record(module.__name__, "", {module.__name__: "computes without NumPy"})
        return pairs
    with _LOCK:
        random_state = np.random.get_state()  # noqa: NPY002
        try:
            for name, (trial, candidates) in REPLACEMENTS[module.__name__].items():
                theirs = names.get(name)
                if any(theirs is ours for ours in candidates):
                    replaced.append(name)
                if not (inspect.isclass(theirs) or inspect.isfunction(theirs)) or theirs.__module__ != module.__name__:
                    continue
                differences = [_difference(theirs, ours, trial) for ours in candidates]
                if None in differences:
                    replaced.append(name)
                    names[name] = candidates[differences.index(None)]
                    pairs.append((theirs, names[name]))
                else:
                    kept[name] = str(differences[0])
        finally:
            np.random.set_state(random_state)  # noqa: NPY002
    record(module.__name__, f"{', '.join(replaced)} of {module.__name__}" if replaced else "", kept)
    return pairs


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        execute(module)
    except Exception as error:
        # Scripts need the other classes of common.layers, but common.optimizer has only known ones.
        if module.__name__ != "common.optimizer":
            raise
        message = " ".join(f"{type(error).__name__}: {error}".split())
        _provide(module, f"raised {message}")
    else:
        substitute(module)


def _provide(module: ModuleType, why: str) -> None:
    vars(module).update({name: ours[0] for name, (_, ours) in REPLACEMENTS[module.__name__].items()}, np=np)
    record(module.__name__, f"all of {module.__name__} ({why})", {})


# Of the other modules, scripts need more than ours.
_PROVIDED = {"common.optimizer", "common.layers"}


class _Provider(importlib.abc.Loader):
    """Makes a module of the book that the reader doesn't have."""

    def exec_module(self, module: ModuleType) -> None:
        _provide(module, "not found")


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


def _tell_of_rows() -> None:
    """Has a line on stderr tell of each optimizer whose numbers depend on whether it is lazy."""
    told, taken = set(), book._Dialect._taken

    def telling(optimizer: book._Dialect, gradient: RowsGradient) -> Any:
        name = type(optimizer).__name__.removeprefix("Legacy")  # as readers know it
        if name not in told and not optimizer._has_same_numbers_with_rows():
            told.add(name)
            note(f"{name} {_IS_LAZY if optimizer.lazy else _IS_DENSE}")
        return taken(optimizer, gradient)

    book._Dialect._taken = telling  # type: ignore[assignment, method-assign]


_IS_LAZY = "is lazy: words that a batch doesn't have keep their weights and moments, so the numbers aren't the book's"
_IS_DENSE = (
    "makes gradients of embeddings dense, for the book's numbers; --lazy, before the script, or install(lazy=True) "
    "is faster without them"
)


def _put_in_place(pairs: Iterable[tuple[Any, Any]]) -> None:
    ours = {id(theirs): own for theirs, own in pairs}
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            names = ModuleType.__getattribute__(module, "__dict__")  # which does not load lazy modules
            names |= {name: ours[id(value)] for name, value in list(names.items()) if id(value) in ours}


def install(*, lazy: bool = False) -> None:
    """Puts these classes and functions in place of the book's, in a notebook or at the top of a script of your own.

    That holds for the modules that `python -m fusedstep.book --help` lists, imported later or before, and for all names
    that other modules and the notebook have imported from them. What was made of the book's classes before, objects and
    subclasses, stays: run these cells again. A class or function in which you have changed something (numbers,
    defaults, what it prints, more arguments or attributes) stays yours.

    A line on stderr says what was replaced, and what was kept and why: in IPython and Jupyter after each cell that has
    brought something new, elsewhere at once for modules that are there, and for others at the end. Another call
    replaces what a reload has brought back, and has the line written again.

    Arguments:
        lazy: True has Momentum, Nesterov, RMSprop and Adam step only the words of a batch, as `--lazy` of the runner.
    """
    book._Dialect.lazy = checked_flag("lazy", lazy)
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
        _tell_of_rows()
        atexit.register(tell_at_exit)
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if shell is not None:
            shell.events.register("post_run_cell", lambda *_: tell_after_cell())
    loaded = [sys.modules[name] for name in REPLACEMENTS if name in sys.modules]
    _put_in_place([pair for module in loaded for pair in substitute(module)])
    tell_again()
    tell_what_is_known()
