"""What a step of `fusedstep.distributed.Sharded` costs on n processes: modelled, and measured on this machine.

    python -m benchmarks.distributed --json distributed.json --picture docs/distributed.png

The model is of a steady step by Adam of float32 arrays, without clipping, with all gradients. The layout has B buckets;
of a bucket's T elements a process owns o, the busiest one L. Gradients have g bytes on their way, parameters p.

Calls: two Allreduce (40 and 8 bytes); for each bucket one reduction ("fixed": Ialltoallv, which sends (T - o) g bytes
and receives (n - 1) o g; "mpi": Ireduce_scatter_block of n L g bytes) and, if n > 1, one Iallgatherv, which sends o p
bytes and receives (T - o) p. These are exact: a test compares them with counted ones.

Messages, each with the network's latency, one after another: n - 1 for Ialltoallv; n - 1 for Iallgatherv (a ring, which
MPI libraries take for much data; a process passes on what it gets); ceil(log2 n) for Ireduce_scatter_block (recursive
halving); 2 ceil(log2 n) for Allreduce, with 2 (n - 1) / n of its bytes each way. Links are full duplex and not shared.

Bytes moved in memory by the processor; no cache keeps any, and what a transport copies is part of its bandwidth:

    packing       fixed: 2 (T - o) g     mpi: T g + n L g
    adding up     fixed: o (g + 4) + (n - 1) o (g + 8)     mpi: 3 (n - 1) L g in the library, then o (g + 4)
    gathering     2 T p, if n > 1: o is copied, T - o are written to the parameters
    update        o (2 p + 20): parameters and two moments read and written, sums read
    plain way     2 N g packed, 3 (n - 1) / n N g added up in Allreduce, all N parameters updated everywhere

Each bucket is as slow as its busiest process, o = L. A step takes the sum of its parts, for nothing overlaps; if all
did, it would take max(latency + network, memory + update). What Python and MPI do in each call is left out.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fusedstep as fs
from benchmarks.results import duration, origin, subtitle_of
from benchmarks.workloads import LISTS, LR, Shapes, arrays, elements
from fusedstep.distributed import Sharded
from fusedstep.distributed._layout import Described, Layout
from fusedstep.distributed._transfers import lengths_of

FIXED, MPI, PLAIN = WAYS = ("fixed", "mpi", "plain")
LARGER = "fixed, larger buckets"
PARTS = ("latency", "network", "memory", "update")
BUCKET_BYTES, MOST_RANKS = 1 << 22, 4
RANKS = (1, 2, 4, 10, 20, 40, 100, 200, 400, 1000, 2000, 4000, 10_000)
RESNET = LISTS["ResNet-50"]
# Matrices and biases of a transformer's 20 layers of width 2048.
TRANSFORMER: Shapes = [s for i, o in ((1, 3), (1, 1), (1, 4), (4, 1)) * 20 for s in ((2048 * i, 2048 * o), (2048 * o,))]

Lengths: TypeAlias = NDArray[np.int64]  # elements of each bucket and process
Transfers: TypeAlias = dict[str, tuple[int, int, int]]  # of a method: calls, bytes to and from other processes
Modelled: TypeAlias = dict[str, dict[str, float]]  # the seconds of a way's parts
Data: TypeAlias = dict[str, Any]  # the origin, and as "measured" what `work` has written for each number of processes


class Machine(NamedTuple):
    """Seconds of a message, and bytes per second of one process: each way through the network, and in memory."""

    latency: float
    network: float
    memory: float


def lengths_in(shapes: Shapes, ranks: int, bucket_bytes: int = BUCKET_BYTES) -> Lengths:
    """The elements of each bucket and process, of float32 arrays."""
    layout = Layout([Described(i, s, "float32", "", False) for i, s in enumerate(shapes)], [], ranks, bucket_bytes)
    return np.array([lengths_of(pieces) for part in layout.parts for pieces in part.buckets], np.int64)


def transfers(lengths: Lengths, way: str, own: Lengths, g: int = 4, p: int = 4) -> Transfers:
    """The calls of a step by a process that owns these elements of the buckets."""
    (buckets, n), total, owned, longest = lengths.shape, *(int(x.sum()) for x in (lengths, own, lengths.max(1)))
    if way == PLAIN:
        return {"Allreduce": (1, total * g, total * g)}
    found = {"Allreduce": (2, 48, 48)}
    if way == FIXED:
        found["Ialltoallv"] = buckets, (total - owned) * g, (n - 1) * owned * g
    else:
        found["Ireduce_scatter_block"] = buckets, n * longest * g, longest * g
    if n > 1:
        found["Iallgatherv"] = buckets, owned * p, (total - owned) * p
    return found


def _on_network(n: int, name: str, calls: int, sent: int, received: int) -> tuple[int, float]:
    """Messages one after another, and bytes in the busier direction."""
    doublings, rest = math.ceil(math.log2(n)), (n - 1) / n
    return {
        "Ialltoallv": (calls * (n - 1), max(sent, received)),
        "Iallgatherv": (calls * (n - 1), received),
        "Ireduce_scatter_block": (calls * doublings, sent * rest),
        "Allreduce": (calls * 2 * doublings, 2 * sent * rest),
    }[name]


def _in_memory(lengths: Lengths, way: str, g: int, p: int) -> tuple[float, int]:
    """The bytes that a process moves without its update, and in that."""
    n, total, longest = lengths.shape[1], int(lengths.sum()), int(lengths.max(1).sum())
    if way == PLAIN:
        return 2 * total * g + 3 * (n - 1) / n * total * g, total * (2 * p + 20)
    added = longest * (g + 4) + (2 * total * p if n > 1 else 0)
    if way == FIXED:
        return 2 * (total - longest) * g + (n - 1) * longest * (g + 8) + added, longest * (2 * p + 20)
    return total * g + n * longest * g + 3 * (n - 1) * longest * g + added, longest * (2 * p + 20)


def times(lengths: Lengths, way: str, machine: Machine, g: int = 4, p: int = 4) -> dict[str, float]:
    """The seconds of a step's parts."""
    calls = transfers(lengths, way, lengths.max(1), g, p).items()
    moved = [_on_network(lengths.shape[1], name, *counts) for name, counts in calls]
    messages, network = (sum(column) for column in zip(*moved, strict=True))
    memory, update = (count / machine.memory for count in _in_memory(lengths, way, g, p))
    return dict(zip(PARTS, (messages * machine.latency, network / machine.network, memory, update), strict=True))


def _steps(comm: Any, shapes: Shapes) -> dict[str, tuple[list[Any], Callable[[], None]]]:
    """The parameters of each way, and its step."""
    grads = arrays(shapes, np.float32, 2 + comm.Get_rank())
    made: dict[str, tuple[list[Any], Callable[[], None]]] = {}
    for sharded in (Sharded(fs.Adam(LR), comm), Sharded(fs.Adam(LR), comm, reduction="mpi")):
        params = arrays(shapes, np.float32, 1)
        made[sharded.reduction] = params, partial(sharded.update, params, grads)
    params, adam, both = arrays(shapes, np.float32, 1), fs.Adam(LR), np.empty((2, elements(shapes)), np.float32)
    parts = [np.split(flat, np.cumsum([g.size for g in grads[:-1]])) for flat in both]
    packed, sums = ([part.reshape(g.shape) for part, g in zip(own, grads, strict=True)] for own in parts)

    def plain() -> None:
        for target, g in zip(packed, grads, strict=True):
            target[...] = g
        comm.Allreduce(*both)
        adam.update(params, sums, scale=1 / comm.Get_size())

    return made | {PLAIN: (params, plain)}


def _seconds(comm: Any, call: Callable[[], Any]) -> float:
    """The time until the last process has made a call that all begin together."""
    comm.Barrier()
    start = time.perf_counter()
    call()
    return float(max(comm.allgather(time.perf_counter() - start)))


def _machine(comm: Any) -> Machine:
    """By copies of 32 MiB, and messages to the next process while one comes from the one before, in all at a time."""
    rank, n = comm.Get_rank(), comm.Get_size()
    sources, targets = np.ones((32, 1 << 20), np.uint8), np.zeros((32, 1 << 20), np.uint8)

    def exchange(size: int) -> None:
        for source, target in zip(sources[:, :size], targets[:, :size], strict=True):
            comm.Sendrecv(source, (rank + 1) % n, recvbuf=target, source=(rank - 1) % n)

    def median(call: Callable[..., Any], *arguments: Any) -> float:
        return statistics.median(_seconds(comm, partial(call, *arguments)) for _ in range(9))

    memory = 2 * sources.nbytes / median(np.copyto, targets, sources)
    latency = median(exchange, 8) / 32 if n > 1 else 0.0
    network = sources.nbytes / (median(exchange, 1 << 20) - 32 * latency) if n > 1 else memory
    return Machine(latency, network, memory)


def work(path: str, rounds: int) -> None:
    """Measures as one of several processes, of which the first writes the file."""
    from mpi4py.MPI import COMM_WORLD as comm  # noqa: N811

    fs.set_num_threads(1)
    machine, steps = _machine(comm), _steps(comm, RESNET)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for i in range(rounds + 1):
        for way in WAYS if i % 2 else WAYS[::-1]:
            found[way].append(_seconds(comm, steps[way][1]))
    for way in WAYS:
        for w, expected in zip(steps[way][0], steps[PLAIN][0], strict=True):
            # Sums are rounded in another order.
            np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-4 * LR * (rounds + 1))
    if comm.Get_rank() == 0:  # the first step has made state and layout
        medians = {way: statistics.median(own[1:]) for way, own in found.items()}
        Path(path).write_text(json.dumps({"ranks": comm.Get_size(), "machine": machine._asdict(), "seconds": medians}))


def mpiexec(ranks: int, *arguments: str) -> None:
    """Runs Python in several processes, with the mpiexec beside the interpreter or the one on the path."""
    command = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
    subprocess.run([command, "-n", str(ranks), sys.executable, *arguments], check=True)


def compared(data: Data) -> Iterator[tuple[int, Machine, dict[str, float], Modelled]]:
    """The number of processes, their machine, the measured seconds of each way, the modelled ones of its parts."""
    for one in data["measured"]:
        machine, lengths = Machine(**one["machine"]), lengths_in(RESNET, one["ranks"])
        yield one["ranks"], machine, one["seconds"], {way: times(lengths, way, machine) for way in WAYS}


def table(data: Data) -> list[str]:
    """The lines of a Markdown table, and what the machine was measured to do."""
    cores, values = data["origin"]["most_threads"], [""]
    lines = [f"| processes | way | measured | modelled | {' | '.join(PARTS)} | ratio |", "|--:|---|" + "--:|" * 7]
    for n, machine, seconds, modelled in compared(data):
        for way, parts in modelled.items():
            total = sum(parts.values())
            shown = " | ".join(map(duration, (seconds[way], total, *parts.values())))
            lines.append(f"| {n} | {way} | {shown} | {seconds[way] / total:.2f} |")
        network = f"{duration(machine.latency)} a message, {machine.network / 1e9:.3g} GB/s each way, " if n > 1 else ""
        crowd = f"; they take turns on {cores} cores" if n > cores else ""
        values.append(f"{n}: {network}{machine.memory / 1e9:.3g} GB/s in memory for each process{crowd}")
    return lines + values


def _larger(machine: Machine) -> float:
    return 4 * machine.latency * machine.network  # so that bytes take four times as long as their messages' latency


def _columns(data: Data, machine: Machine) -> Iterator[tuple[str, dict[int, Modelled]]]:
    if here := {n: modelled for n, _, _, modelled in compared(data)}:
        yield f"ResNet-50, on {data['origin']['most_threads']} cores", here
    for name, shapes in (("ResNet-50", RESNET), ("a transformer", TRANSFORMER)):
        found = {}
        for n in RANKS:
            lengths, larger = lengths_in(shapes, n), min(max(BUCKET_BYTES, int(n * _larger(machine))), 1 << 30)
            found[n] = {way: times(lengths, way, machine) for way in WAYS}
            found[n][LARGER] = times(lengths_in(shapes, n, larger), FIXED, machine)
        yield f"{name}, {round(elements(shapes) / 1e6, 1):g} million", found


def draw(data: Data, machine: Machine, path: Path) -> None:
    """Draws the time of a step against the number of processes, and the parts of that time below."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from benchmarks.pictures import BLACK, GREY, STYLE, WIDTH

    colours = ("#0072B2", "#D55E00", BLACK, "#56B4E9", "#CC79A7", "#009E73", "#E69F00", "#999933")
    looks = dict(zip((*WAYS, LARGER, *PARTS), colours, strict=True))
    columns = list(_columns(data, machine))
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, 6.4), dpi=200)
        axes = figure.subplots(2, len(columns), sharex="col", sharey="row", squeeze=False)
        figure.subplots_adjust(0.075, 0.08, 0.97, 0.785, 0.08, 0.2)
        for (title, modelled), (above, below) in zip(columns, axes.T, strict=True):
            for way in modelled[1]:
                seconds = [sum(own[way].values()) for own in modelled.values()]
                above.plot([*modelled], seconds, "--" if way == LARGER else "-", color=looks[way], label=way)
            for way, part in product(WAYS[:2], PARTS):
                seconds = [own[way][part] or math.nan for own in modelled.values()]
                below.plot([*modelled], seconds, "-" if way == FIXED else ":", color=looks[part], label=part)
            above.set(yscale="log", title=title)
            below.set(yscale="log", xlabel="processes", xscale="log" if max(modelled) > MOST_RANKS else "linear")
            ticks = [n for n in modelled if max(modelled) <= MOST_RANKS or math.log10(n) % 1 == 0]
            below.set_xticks(ticks, [f"{n:,}" for n in ticks])
        for one, (way, marker) in product(data["measured"], zip(WAYS, "oDs", strict=True)):
            axes[0, 0].plot(one["ranks"], one["seconds"][way], marker, markersize=4.5, color=looks[way])
        for row, what, gap in zip(axes, ("a step", "its parts (mpi: dotted)"), (0.03, 0.005), strict=True):
            row[0].set_ylabel(f"seconds of {what}")
            handles, place = row[-1].get_legend_handles_labels()[0][:4], (0.068, row[0].get_position().y1 + gap)
            figure.legend(handles=handles, loc="lower left", bbox_to_anchor=place, ncols=4, labelcolor=GREY)
        text = f"Modelled: {machine.latency * 1e6:g} µs a message, {machine.network / 1e9:g} GB/s each way, memory "
        text += f"{machine.memory / 1e9:g} GB/s; buckets: 4 MiB, larger: {_larger(machine) / 1e3:g} KB times processes"
        figure.text(0.012, 0.957, "A step of Sharded, modelled and measured (points)", weight="bold", size=11)
        figure.text(0.012, 0.927, text, color=GREY, size=8)
        bends = (
            "Bends from 1,000 on: a bucket has a tile of 1,024 elements for each process at least, so buckets get fewer"
        )
        if any(one["ranks"] > data["origin"]["most_threads"] for one in data["measured"]):
            bends += f"; points beyond {data['origin']['most_threads']}: processes take turns on the cores"
        figure.text(0.012, 0.902, bends, color=GREY, size=8)
        figure.text(0.012, 0.877, subtitle_of(data["origin"] | {"peers": []}), color=GREY, size=7)
        figure.savefig(path)


def main() -> int:
    """Measures or reads, prints the table, writes the files; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="measure, and write this")
    parser.add_argument("--read", type=Path, metavar="FILE", help="read what was measured")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw this")
    parser.add_argument("--latency", type=float, default=2.0, help="µs of a message in the picture (default: 2)")
    parser.add_argument("--network", type=float, default=12.5, help="GB/s each way there (default: 12.5)")
    parser.add_argument("--memory", type=float, default=100.0, help="GB/s of a process' memory there (default: 100)")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each way (default: 9)")
    a = parser.parse_args()
    data: Data = json.loads(a.read.read_text()) if a.read else {"origin": origin(), "measured": []}
    if a.json:
        for n in range(1, MOST_RANKS + 1):
            mpiexec(n, "-c", f"from benchmarks import distributed; distributed.work({str(a.json)!r}, {a.rounds})")
            data["measured"].append(json.loads(a.json.read_text()))
        a.json.write_text(json.dumps(data, indent=1) + "\n")
    print("\n".join(table(data)))
    if a.picture:
        draw(data, Machine(a.latency * 1e-6, a.network * 1e9, a.memory * 1e9), a.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
