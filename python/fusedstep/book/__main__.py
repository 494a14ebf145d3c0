"""Runs a script of the book unchanged, with fusedstep's classes in place of the book's."""

import ast
import atexit
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from fusedstep.book._report import tell_at_exit
from fusedstep.book._substitution import install
from fusedstep.book._trials import REPLACEMENTS

HELP = """\
usage: python -m fusedstep.book [--lazy] SCRIPT [ARGS...]

Runs a script of Deep Learning from Scratch, of the first or the second volume, as `python SCRIPT [ARGS...]` does, from
the script's folder, with fusedstep's classes and functions in place of the book's:

    common/optimizer.py                SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam
    common/layers.py                   BatchNormalization, Dropout, Embedding
    common/time_layers.py              TimeEmbedding
    common/trainer.py                  remove_duplicate
    common/util.py                     clip_grads
    ch04/negative_sampling_layer.py    UnigramSampler

A line on stderr, after the script's imports, says what was replaced. A class or function in which you have changed
something stays yours, and the line says why: it gives other numbers, has other defaults, prints, raises an error, or
has more than the book's (an argument, a method, an attribute). If the script imports more later, there is another line
at its end. Processes that the script starts afresh (spawn) have the book's own classes.

With --lazy, Momentum, Nesterov, RMSprop and Adam step only the words of a batch, as SGD and AdaGrad always do. This is
faster, but other words keep their weights and moments, which changes the numbers; a line on stderr says so."""


def _fail(message: str) -> NoReturn:
    print(f"fusedstep.book: {message}", file=sys.stderr)
    sys.exit(2)


def _fail_outside(script: str) -> NoReturn:
    atexit.unregister(tell_at_exit)
    _fail(f"the book's common package is not where {script} looks for it; run it from its folder, as after cd ch06")


def _has_the_books_package(folder: str | Path) -> bool:
    return any(Path(folder, "common").glob("*.py"))


# What is known after the script's imports is told then, because a training may take hours.
_TELL = "__import__('sys').modules['fusedstep.book._report'].tell_what_is_known()"


def _parsed(path: Path) -> ast.Module:
    script = ast.parse(path.read_bytes(), path)
    imports = [n for n, statement in enumerate(script.body) if isinstance(statement, ast.Import | ast.ImportFrom)]
    if imports:
        (tell,) = ast.parse(_TELL).body
        for node in ast.walk(tell):
            ast.copy_location(node, script.body[imports[-1]])
        script.body.insert(imports[-1] + 1, tell)
    return script


def _run(path: Path) -> None:
    # Not by runpy, which restores __main__ at the end: threads and exit functions may need the script's module.
    module = ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    sys.modules["__main__"] = module
    exec(compile(_parsed(path), path, "exec"), module.__dict__)


def main() -> None:
    """Runs sys.argv[1] as __main__ with the rest of sys.argv."""
    del sys.argv[0]
    lazy = sys.argv[:1] == ["--lazy"]
    if lazy:
        del sys.argv[0]
    if not sys.argv:
        _fail("no script given, expected python -m fusedstep.book [--lazy] SCRIPT [ARGS...]")
    script = sys.argv[0]
    if script in ("-h", "--help"):
        print(HELP)
        return
    if not Path(script).is_file():
        _fail(f"there is no file {script}")
    path = Path(os.path.abspath(script))  # noqa: PTH100, which does not follow links, as Python doesn't
    if not sys.flags.safe_path:
        sys.path[0] = str(path.resolve().parent)
    install(lazy=lazy)
    try:
        _run(path)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "common":
            raise
        _fail_outside(script)
    near: list[str | Path] = [*sys.path, *path.parents, *Path.cwd().parents]
    if sys.modules.keys().isdisjoint(REPLACEMENTS) and not any(map(_has_the_books_package, near)):
        _fail_outside(script)


if __name__ == "__main__":
    main()
