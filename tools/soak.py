"""Small updates from many threads while children are forked: the bits, the memory and the threads that are left.

    python tools/soak.py --updates 1000000 --threads 8 --forks 200 --seed 0

Every thread updates arrays of its own, which lie side by side in memory with those of the others, with optimizers of
its own and with optimizers that all share. Some arrays are large enough for the pool. At random moments the main thread
forks a child, which goes on with the optimizers that it inherits. At the end, parameters and state must be what
fusedstep.reference makes of the same steps one after the other, bit for bit. Memory, threads and open files must be
what they were after the first fifth.

Exits with 1 and says what is wrong, if something is.
"""

import argparse
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fusedstep as fs

Array = np.ndarray[Any, Any]

POOL_THREADS = 3
LARGE = 100_000  # elements: enough for the pool with all of its threads
OFFSETS = 10_000  # places where a gradient may begin
CHILD_STEPS = 50
CHILD_SECONDS = 120
# Half of the smallest block that malloc gives: one block lost per update is twice the bound.
BYTES_PER_UPDATE = 16
# What malloc may keep of the main thread's reference steps: temporaries of 400 kB each.
BYTES_OF_ALLOCATOR = 8 << 20


@dataclass(frozen=True)
class Kind:
    """A sort of step: an optimizer and its arrays, how often it is made, whether all threads share the optimizer."""

    name: str
    dtype: Any
    sizes: tuple[int, ...]
    weight: int
    shared: bool = False

    def optimizer(self, module: Any) -> Any:
        return getattr(module, self.name)()


# The shared ones must not count their updates, because the threads' order is not the reference's.
KINDS = (
    Kind("Adam", np.float32, (1, 64, 65, 300), 30),
    Kind("AdamW", np.float64, (7, 100), 30),
    Kind("RMSProp", np.float32, (255,), 20),
    Kind("Momentum", np.float32, (33, 1000), 20, shared=True),
    Kind("AdaGrad", np.float64, (5, 0, 9), 20, shared=True),
    Kind("Adam", np.float32, (LARGE,), 1),
)
WEIGHTS = [kind.weight for kind in KINDS]
Step = tuple[int, int, int]  # the kind, the first of its arrays, where the gradient begins


def gradients(seed: int) -> dict[Any, Array]:
    rng = np.random.default_rng([seed, 1])
    drawn = {dtype: rng.standard_normal(LARGE + OFFSETS).astype(dtype) for dtype in (np.float32, np.float64)}
    for array in drawn.values():
        array.flags.writeable = False
    return drawn


def parameters(seed: int, owners: int) -> list[list[list[Array]]]:
    """The arrays of each owner and kind; those of one type are pieces of one block, without gaps."""
    rng = np.random.default_rng([seed, 2])
    sizes = {dtype: sum(sum(k.sizes) for k in KINDS if k.dtype is dtype) for dtype in (np.float32, np.float64)}
    blocks = {dtype: rng.standard_normal(owners * size).astype(dtype) for dtype, size in sizes.items()}
    begin = dict.fromkeys(blocks, 0)
    owned: list[list[list[Array]]] = []
    for _ in range(owners):
        owned.append([])
        for kind in KINDS:
            ends = begin[kind.dtype] + np.cumsum(kind.sizes)
            owned[-1].append(np.split(blocks[kind.dtype], [begin[kind.dtype], *ends])[1:-1])
            begin[kind.dtype] = ends[-1]
    return owned


class Owner:
    """Arrays, and the optimizers that update them, of fusedstep or of the reference."""

    def __init__(self, number: int, arrays: list[list[Array]], optimizers: list[Any]) -> None:
        self.number = number
        self.optimizers = optimizers
        self.arrays = [{(number, i): w for i, w in enumerate(of_kind)} for of_kind in arrays]

    def play(self, step: Step, drawn: dict[Any, Array]) -> None:
        kind, first, offset = step
        params = dict(list(self.arrays[kind].items())[first:])
        pool = drawn[KINDS[kind].dtype]
        self.optimizers[kind].update(params, {key: pool[offset : offset + w.size] for key, w in params.items()})

    def results(self) -> Iterator[Array]:
        for optimizer, arrays in zip(self.optimizers, self.arrays, strict=True):
            for key, w in arrays.items():
                yield w
                yield from optimizer.state.get(key, {}).values()

    def same_as(self, other: "Owner") -> bool:
        ours, theirs = list(self.results()), list(other.results())
        return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))

    def copy_for_reference(self) -> "Owner":
        arrays = [[w.copy() for w in of_kind.values()] for of_kind in self.arrays]
        return Owner(self.number, arrays, [kind.optimizer(fs.reference) for kind in KINDS])


def steps(seed: int, number: int, count: int) -> Iterator[Step]:
    rng = random.Random(f"{seed} {number}")
    for _ in range(count):
        (kind,) = rng.choices(range(len(KINDS)), WEIGHTS)
        yield kind, rng.randrange(len(KINDS[kind].sizes)), rng.randrange(OFFSETS)


@dataclass(frozen=True)
class Sample:
    """What a process holds."""

    updates: int
    resident: int
    threads: int
    files: int

    @classmethod
    def taken(cls, updates: int) -> "Sample | None":
        own = Path("/proc/self")
        if not own.joinpath("statm").exists():
            return None
        pages = int(own.joinpath("statm").read_text().split()[1])
        count = [len(list(own.joinpath(of).iterdir())) for of in ("task", "fd")]
        return cls(updates, pages * os.sysconf("SC_PAGE_SIZE"), *count)

    def __str__(self) -> str:
        return f"{self.resident / 2**20:.1f} MiB, {self.threads} threads, {self.files} open files"


class Soak:
    """One run."""

    def __init__(self, updates: int, threads: int, forks: int, seed: int) -> None:
        self.seed = seed
        self.updates = updates
        self.drawn = gradients(seed)
        shared = [kind.optimizer(fs) for kind in KINDS]
        self.owners = [
            Owner(number, arrays, [s if k.shared else k.optimizer(fs) for s, k in zip(shared, KINDS, strict=True)])
            for number, arrays in enumerate(parameters(seed, threads + 1))
        ]
        self.references = [owner.copy_for_reference() for owner in self.owners]
        # The last owner is the main thread, whose optimizers the children inherit.
        self.main, self.main_reference = self.owners.pop(), self.references.pop()
        self.main_steps = steps(seed, threads, 2**62)
        self.shares = [updates * (i + 1) // threads - updates * i // threads for i in range(threads)]
        self.counts = [0] * threads
        rng = random.Random(seed)
        self.fork_moments = sorted((rng.randrange(updates) for _ in range(forks)), reverse=True)
        self.forks_under_way = 0
        self.finished = threading.Semaphore(0)
        self.release = threading.Event()
        self.failures: list[str] = []

    def work(self, number: int) -> None:
        try:
            for step in steps(self.seed, number, self.shares[number]):
                self.owners[number].play(step, self.drawn)
                self.counts[number] += 1
        except BaseException as failure:
            self.failures.append(f"thread {number}: {failure!r}")
        self.finished.release()
        self.release.wait()  # so that the threads can be counted

    def play_main(self, count: int) -> None:
        for _ in range(count):
            self.play_main_step(next(self.main_steps))

    def play_main_step(self, step: Step) -> None:
        self.main.play(step, self.drawn)
        self.main_reference.play(step, self.drawn)

    def fork(self) -> None:
        self.play_main(3)
        child = os.fork()
        if child == 0:
            good = False
            try:
                self.play_main_step((len(KINDS) - 1, 0, 0))  # a large one: the child needs a pool of its own
                self.play_main(CHILD_STEPS)
                good = self.main.same_as(self.main_reference)
            finally:
                os._exit(0 if good else 1)
        end = time.monotonic() + CHILD_SECONDS
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(child, 9)
                os.waitpid(child, 0)
                self.failures.append(f"a child was not done after {CHILD_SECONDS} s")
                return
            time.sleep(0.001)
        if code := os.waitstatus_to_exitcode(status):
            self.failures.append(f"a child ended with {code}: 1 is wrong numbers, below 0 a signal")

    def run(self) -> None:
        begin = time.monotonic()
        self.play_main_step((len(KINDS) - 1, 0, 0))  # makes the pool
        if self.fork_moments:  # one before anything is counted: OpenBLAS ends its threads at the first
            self.fork_moments.pop()
            self.fork()
        workers = [threading.Thread(target=self.work, args=(i,)) for i in range(len(self.owners))]
        for worker in workers:
            worker.start()
        warm: Sample | None = None
        running, told = len(workers), -1
        while running:
            while running and self.finished.acquire(timeout=0.002):
                running -= 1
            made = sum(self.counts)
            if warm is None and made >= self.updates // 5:
                warm = Sample.taken(made)
            while self.fork_moments and self.fork_moments[-1] <= made and not self.failures:
                self.fork_moments.pop()
                self.forks_under_way += running > 0
                self.fork()
            if made * 20 // self.updates > told:
                told = made * 20 // self.updates
                print(f"{made} of {self.updates} updates, {time.monotonic() - begin:.0f} s", file=sys.stderr)
        end = Sample.taken(sum(self.counts))
        self.release.set()
        for worker in workers:
            worker.join()
        self.compare(warm, end)
        self.replay()

    def compare(self, warm: Sample | None, end: Sample | None) -> None:
        if warm is None or end is None:
            print("no /proc: memory, threads and files were not looked at")
            return
        print(f"after {warm.updates} updates: {warm}\nafter {end.updates} updates: {end}")
        allowed = BYTES_PER_UPDATE * (end.updates - warm.updates) + BYTES_OF_ALLOCATOR
        if any(sanitizer in os.environ.get("LD_PRELOAD", "") for sanitizer in ("libasan", "libtsan")):
            print("memory was not compared: a sanitizer remembers what was freed")
        elif end.resident - warm.resident > allowed:
            self.failures.append(f"memory grew by {end.resident - warm.resident} bytes, more than {allowed}")
        for what in ("threads", "files"):
            if getattr(end, what) != getattr(warm, what):
                self.failures.append(f"the {what} were {getattr(warm, what)}, and are {getattr(end, what)}")

    def replay(self) -> None:
        print("the same steps with the reference, one thread after the other", file=sys.stderr)
        for owner, reference in zip(self.owners, self.references, strict=True):
            for step in steps(self.seed, owner.number, self.counts[owner.number]):
                reference.play(step, self.drawn)
            if not owner.same_as(reference):
                self.failures.append(f"thread {owner.number} has other numbers than the reference")
        if not self.main.same_as(self.main_reference):
            self.failures.append("the main thread has other numbers than the reference")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--forks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if min(given.updates, given.threads) < 1 or given.forks < 0:
        parser.error("--updates and --threads must be at least 1, --forks at least 0")
    if not hasattr(os, "fork"):
        parser.error("the system has no fork")
    # Python 3.12 warns of a fork in a process with threads, which is what this is about.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*fork\(\)")
    fs.set_num_threads(POOL_THREADS)
    soak = Soak(given.updates, given.threads, given.forks, given.seed)
    soak.run()
    print(
        f"{sum(soak.counts)} updates in {given.threads} threads, {given.forks - len(soak.fork_moments)} forks,", end=" "
    )
    print(f"{soak.forks_under_way} of them while the threads were at work, seed {given.seed}")
    for failure in soak.failures:
        print(f"FAILED: {failure}")
    print("wrong" if soak.failures else "all right")
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
