"""State on its way between one whole and the shares of processes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedstep import _native
from fusedstep.distributed._layout import Layout
from fusedstep.distributed._transfers import gather_all
from fusedstep.distributed.communicators import Communicator
from fusedstep.optimizers import Optimizer


def gathered(
    comm: Communicator, optimizer: Optimizer, layout: Layout, keep: bool, most: int
) -> tuple[dict[Any, dict[str, NDArray[Any]]], dict[Any, int]]:
    """The state of all processes, in the order of the parameters, and their counts; empty where they aren't kept."""
    own = optimizer.state
    about = {key: {letter: (a.dtype, a.shape) for letter, a in arrays.items()} for key, arrays in own.items()}
    scalars = {key: {name: float(arrays[name]) for name in optimizer._scalar_names} for key, arrays in own.items()}
    every = comm.allgather((about, scalars, dict(optimizer.steps)))
    state: dict[Any, dict[str, NDArray[Any]]] = {}
    for number, (array, owners) in enumerate(zip(layout.arrays, layout.owners(), strict=True)):
        holders = [rank for rank in owners if array.key in every[rank][0]]
        if not holders:
            continue
        arrays: dict[str, NDArray[Any]] = {}
        for letter, (dtype, shape) in every[holders[0]][0][array.key].items():
            if letter in every[holders[0]][1][array.key]:
                arrays[letter] = np.array(every[holders[0]][1][array.key][letter])
                continue
            is_whole = number in layout.whole
            lengths = [0] * len(every)
            for rank in holders:
                begin, end = owners[rank]
                elements = int(np.prod(shape, dtype=np.int64)) if is_whole else end - begin
                lengths[rank] = elements * dtype.itemsize
            mine = own.get(array.key, {}).get(letter) if comm.Get_rank() in holders else None
            data = np.empty(0, np.uint8) if mine is None else np.ascontiguousarray(mine).reshape(-1).view(np.uint8)
            together = gather_all(comm, data, lengths, most, keep)
            if together is not None:
                arrays[letter] = together.view(dtype).reshape(shape if is_whole else array.shape)
        state[array.key] = arrays
    if not keep:
        return {}, {}
    places = {array.key for array in layout.arrays}
    state |= {key: arrays for key, arrays in own.items() if key not in places}
    return state, {key: count for _, _, steps in every for key, count in steps.items()}


def scattered(
    optimizer: Optimizer,
    state: dict[Any, dict[str, NDArray[Any]]],
    steps: dict[Any, int],
    layout: Layout,
    rank: int,
) -> None:
    """Leaves an optimizer the share of a process; parameters that the layout lacks stay whole."""
    numbers = {array.key: number for number, array in enumerate(layout.arrays)}
    owners = layout.owners()
    share: dict[Any, dict[str, NDArray[Any]]] = {}
    for key, arrays in state.items():
        number = numbers.get(key)
        if number is None or number in layout.whole:
            if number is None or rank in owners[number]:
                share[key] = arrays
        elif rank in owners[number]:
            begin, end = owners[number][rank]
            share[key] = {}
            for i, (letter, array) in enumerate(arrays.items()):
                if letter in optimizer._scalar_names:
                    share[key][letter] = array
                elif array.shape != layout.arrays[number].shape:
                    raise ValueError(
                        f"state[{key!r}][{letter!r}] has shape {array.shape}, "
                        f"params[{key!r}] has {layout.arrays[number].shape}"
                    )
                else:
                    share[key][letter] = _native.copy_apart(array.reshape(-1)[begin:end], i)
    kept = {key: steps[key] for key in share if key in steps}
    optimizer.state = share
    optimizer.steps = kept | {
        key: count for key, count in steps.items() if key not in numbers or rank in owners[numbers[key]]
    }
