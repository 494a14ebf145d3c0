"""Runs a script of the book as it is, with fusedstep's classes in place of the book's."""

import os
import runpy
import sys
from pathlib import Path

from fusedstep.book._substitution import Finder

HELP = """\
usage: python -m fusedstep.book SCRIPT [ARGS...]

Runs a script of Deep Learning from Scratch as `python SCRIPT [ARGS...]` does, from the script's folder, with
fusedstep's SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, BatchNormalization and Dropout in place of those in the
book's common/optimizer.py and common/layers.py. Where a class there gives other numbers than the book's, or takes other
arguments, and so stays, a line on stderr says so."""


def _fail(message: str) -> None:
    print(f"fusedstep.book: {message}", file=sys.stderr)
    sys.exit(2)


def _has_the_books_package(folder: str) -> bool:
    return any(Path(folder, "common").glob("*.py"))


def main() -> None:
    """Runs sys.argv[1] as __main__ with the rest of sys.argv."""
    del sys.argv[0]
    if not sys.argv:
        _fail("no script given, expected python -m fusedstep.book SCRIPT [ARGS...]")
    script = sys.argv[0]
    if script in ("-h", "--help"):
        print(HELP)
        return
    if not Path(script).is_file():
        _fail(f"there is no file {script}")
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    # The scripts append the parent of the working directory to sys.path themselves.
    if not any(map(_has_the_books_package, (*sys.path, os.pardir))):
        _fail(f"the book's common package is not where {script} looks for it; run it from its folder, as after cd ch06")
    sys.meta_path.insert(0, Finder())
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
