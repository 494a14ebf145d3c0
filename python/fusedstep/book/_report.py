"""The line on stderr that says what was replaced in the book's modules, and what was kept and why."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence

# By module. What is kept has its reason beside it, by name.
_replaced: dict[str, str] = {}
_kept: dict[str, dict[str, str]] = {}
_told: str | None = None
_process = os.getpid()
_NOTHING = "nothing was replaced"
_UNWRITABLE = AttributeError, OSError, ValueError  # a stream is None, broken or closed


def note(message: str) -> None:
    """Writes a line to stderr, if that can be written to."""
    with contextlib.suppress(*_UNWRITABLE):
        sys.stderr.write(f"fusedstep.book: {message}\n")


def record(module: str, replaced: str, kept: Mapping[str, str]) -> None:
    """Takes down what has become of a module, which may have been imported before."""
    _replaced[module], _kept[module] = replaced, dict(kept)


def _joined(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _line() -> str:
    replaced = [text for text in _replaced.values() if text]
    names: dict[str, list[str]] = {}
    for kept in _kept.values():
        for name, reason in kept.items():
            names.setdefault(reason, []).append(name)
    kept_text = ", ".join(f"{_joined(own)} ({reason})" for reason, own in names.items())
    text = f"replaced {_joined(replaced)}" if replaced else _NOTHING
    return text + (f"; kept {kept_text}" if kept_text else "")


def _is_child() -> bool:
    process = sys.modules.get("multiprocessing.process")  # loaded in every process that multiprocessing starts
    return os.getpid() != _process or (process is not None and process.parent_process() is not None)


def _tell(line: str, shown: str) -> None:
    global _told
    if line == _told or _is_child():
        return
    _told = line
    with contextlib.suppress(*_UNWRITABLE):
        sys.stdout.flush()
    note(shown)


def tell_at_exit() -> None:
    """Writes the line if it is new, except in processes that the script has started."""
    line = _line()
    _tell(line, line)


def tell_after_cell() -> None:
    """Writes the line if it is new, where more may come."""
    line = _line()
    _tell(line, f"{line} yet" if line == _NOTHING else line)


def tell_what_is_known() -> None:
    """Writes the line if it is new and something was replaced or kept."""
    line = _line()
    if line != _NOTHING:
        _tell(line, line)


def tell_again() -> None:
    """Has the line written next time although it is not new."""
    global _told
    _told = None
