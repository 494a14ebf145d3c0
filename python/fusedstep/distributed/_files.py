"""Files of the shares of processes, and the list of them."""

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusedstep.optimizers import Optimizer, Split
from fusedstep.state_files import load_state, save_state

if TYPE_CHECKING:
    from fusedstep.distributed._shares import Shares
    from fusedstep.distributed.sharded import Sharded

_FORMAT, _VERSION = "fusedstep shards of optimizer state", 1
_WHOLE = -1


def save_shares(path: str, sharded: "Sharded") -> None:
    """Writes a file for each process and the list of the files, and deletes the files of the previous list."""
    target = Path(path)
    token, ranks, rank = sharded.comm.allgather(secrets.token_hex(4))[0], sharded._ranks, sharded._rank
    names = [f"{target.name}.{token}.{i}of{ranks}" for i in range(ranks)]
    cuts = _cuts(sharded._shares)
    states = [
        (
            {_marked(key, cuts): arrays for key, arrays in one.state.items()},
            {_marked(key, cuts): count for key, count in one.steps.items() if key in one.state},
        )
        for one in sharded._optimizers
    ]
    share = sharded._clone(states)
    sharded._together(lambda: save_state(target.with_name(names[rank]), share))
    sharded._together(lambda: _replace_list(target, names) if rank == 0 else None)


def _replace_list(target: Path, names: list[str]) -> None:
    old = _listed(target) or []
    unfinished = target.with_name(f".{names[0]}.unfinished")
    with unfinished.open("w") as file:
        json.dump({"format": _FORMAT, "version": _VERSION, "files": names}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)
    for name in old:
        with contextlib.suppress(OSError):
            target.with_name(name).unlink()


def _cuts(shares: "Shares | None") -> dict[Any, tuple[int, ...]]:
    """Where a process' part of an array that is cut begins, the number of its axes, and its shape; by key."""
    if shares is None:
        return {}
    layout, rank = shares.layout, shares.rank
    return {
        array.key: (owners[rank][0], len(array.shape), *array.shape)
        for number, (array, owners) in enumerate(zip(layout.arrays, layout.owners(), strict=True))
        if number not in layout.whole and rank in owners
    }


def _marked(key: Any, cuts: dict[Any, tuple[int, ...]]) -> tuple[Any, ...]:
    """A key that also says where in its parameter a share begins, and of what shape that is."""
    path = (1, *key) if isinstance(key, tuple) else (0, key)
    return (*cuts.get(key, (_WHOLE, 0)), *path)


def _listed(path: Path) -> list[str] | None:
    """The names in a list of files; None if it is something else."""
    try:
        with path.open("rb") as file:
            about = json.loads(file.read()) if file.read(1) == b"{" and file.seek(0) == 0 else None
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        return None
    names = about.get("files")
    if about.get("version") != _VERSION or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"{path}: is damaged, or of a newer version of fusedstep")
    return names


def load(path: str, optimizer: Optimizer | Split) -> None:
    """Loads the state of all processes into one optimizer."""
    names = _listed(Path(path))
    if names is None:
        load_state(path, optimizer)
        return
    own = [one for _, one in optimizer.pairs] if isinstance(optimizer, Split) else [optimizer]
    states: list[dict[Any, dict[str, NDArray[Any]]]] = [{} for _ in own]
    steps: list[dict[Any, int]] = [{} for _ in own]
    found: list[dict[tuple[Any, str], int]] = [{} for _ in own]
    for name in names:
        load_state(Path(path).with_name(Path(name).name), optimizer)
        for i, one in enumerate(own):
            for marked, arrays in one.state.items():
                key, begin, shape = _unmarked(marked)
                for letter, array in arrays.items():
                    _place(states[i].setdefault(key, {}), found[i], key, letter, array, begin, shape)
                if marked in one.steps:
                    steps[i][key] = one.steps[marked]
    for i, one in enumerate(own):
        for (key, letter), count in found[i].items():
            if count != states[i][key][letter].size:
                raise ValueError(f"{path}: a part of state[{key!r}][{letter!r}] is missing")
        one.__dict__.update(state=states[i], steps=steps[i])


def _unmarked(marked: Any) -> tuple[Any, int, tuple[int, ...]]:
    begin, dimensions, *rest = marked
    shape, (is_path, *path) = tuple(rest[:dimensions]), rest[dimensions:]
    return tuple(path) if is_path else path[0], begin, shape


def _place(
    arrays: dict[str, NDArray[Any]],
    found: dict[tuple[Any, str], int],
    key: Any,
    letter: str,
    array: NDArray[Any],
    begin: int,
    shape: tuple[int, ...],
) -> None:
    if begin == _WHOLE or array.ndim == 0:
        arrays[letter] = array
        return
    if letter not in arrays:
        arrays[letter] = np.empty(shape, array.dtype)
    arrays[letter].reshape(-1)[begin : begin + array.size] = array
    found[key, letter] = found.get((key, letter), 0) + array.size
