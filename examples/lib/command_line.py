"""What the examples' command lines share: options that are checked when they are read, and errors of one line.

A script imports this module before all others, so that a package that is missing is such an error too.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

FORMATS = (".png", ".svg", ".pdf")
EXTRAS = {"torch": "examples,torch"}


def _say_what_is_missing(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    name = ((isinstance(error, ModuleNotFoundError) and error.name) or "lib").partition(".")[0]
    if name == "lib":  # the script's own module, or another error: a mistake of the script
        sys.__excepthook__(kind, error, trace)
        return
    folder, extra = Path(__file__).parents[2], EXTRAS.get(name, "examples")
    install = f'in {folder}: python -m pip install ".[{extra}]"'
    print(f"{Path(sys.argv[0]).name}: error: {name} is not installed; {install}", file=sys.stderr)


sys.excepthook = _say_what_is_missing


class Parser(argparse.ArgumentParser):
    """Takes --out and --seed, what an option names in full, and says in one line what it can't take."""

    def __init__(self, description: str | None, out: str) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self.add_argument(
            "--out",
            type=picture_path,
            default=out,
            metavar="FILE",
            help=f"where the picture goes, a .png, .svg or .pdf (default: {out} in the working folder)",
        )
        self.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, help="for everything random (default: 0)")

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")

    def add_mnist(self) -> None:
        """Adds --mnist."""
        self.add_argument(
            "--mnist",
            type=Path,
            metavar="DIR",
            help="train on MNIST: the directory that holds train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each with or without .gz "
            "(default: scikit-learn's digits, 1797 images of 8 x 8 pixels)",
        )


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from low to high."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return convert


def picture_path(text: str, formats: tuple[str, ...] = FORMATS) -> Path:
    """The type of an option that names a picture to write; that it can't be written is known before the work begins."""
    path = Path(text)
    if path.suffix.lower() not in formats:
        expected = f"{', '.join(formats[:-1])} or {formats[-1]}" if len(formats) > 1 else formats[0]
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {expected}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{str(path.parent)!r} is not a directory")
    existed = os.path.lexists(path)
    try:
        path.open("ab").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} can't be written: {error.strerror}") from error
    if not existed:
        path.unlink()
    return path


def main(run: Callable[[], Any]) -> int:
    """Runs a script. Returns its exit status: 1 after an error, 130 if it was interrupted.

    Arguments:
        run: What the script does. A ValueError, OSError or MemoryError is its user's to mend and is told in one line,
            and so is what a KeyboardInterrupt has to say.
    """
    try:
        run()
    except KeyboardInterrupt as interrupt:
        print(": ".join(("interrupted", *map(str, interrupt.args))), file=sys.stderr)
        return 130
    except (OSError, ValueError, MemoryError) as error:
        what: object = error
        if isinstance(error, OSError) and error.filename is not None:
            what = f"{error.filename}: {error.strerror}"
        elif isinstance(error, MemoryError):
            what = f"not enough memory: {error}"
        print(f"{Path(sys.argv[0]).name}: error: {what}", file=sys.stderr)
        return 1
    return 0
