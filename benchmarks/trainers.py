"""The share of a training's time that its optimizer takes, with a library's own and with ours in its place.

    python -m benchmarks.trainers --json trainers.json

Each training has a process of its own, where iterations with either optimizer alternate, on one thread.
`benchmarks.report` makes a table of the file.
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import fusedstep as fs
from benchmarks import dezero_steps, flower_steps, peers, word2vec
from benchmarks.results import origin, subtitle_of
from benchmarks.turns import add_arguments, chosen
from benchmarks.workloads import BOOK, OURS, arrays

SECONDS = 2.0  # for a training at least


@dataclass
class Clock:
    """The time that is spent in an optimizer."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time in the context."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def watch(self, owner: type, name: str) -> None:
        """Counts the time in a method of a class, for a library that calls it itself."""
        method = getattr(owner, name)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.running():
                return method(*arguments, **keywords)

        setattr(owner, name, timed)


# An iteration with one of a library's modules of optimizers, or with ours; the clock counts its optimizer's time.
Make = Callable[[bool, Clock], Callable[[], Any]]


def _module(ours: bool, name: str, theirs: str) -> Any:
    return importlib.import_module(f"fusedstep.{name}" if ours else theirs)


def torch(ours: bool, clock: Clock) -> Callable[[], Any]:
    """Two networks of 64 units and a batch of 64, as reinforcement learning has them; gradients are clipped."""
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2)]
    model, x = torch.nn.ModuleList([torch.nn.Sequential(*layers), torch.nn.Linear(8, 1)]), torch.randn(64, 8)
    optimizer = _module(ours, "torch", "torch.optim").Adam(
        model.parameters(), 3e-4, **({"max_norm": 0.5} if ours else {})
    )

    def iterate() -> None:
        optimizer.zero_grad()
        (model[0](x).square().mean() + model[1](x).square().mean()).backward()
        with clock.running():
            if not ours:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()

    return iterate


def sklearn(ours: bool, clock: Clock) -> Callable[[], Any]:
    """An epoch of the digits with batches of 200, by a network with two hidden layers of 100."""
    made = _module(ours, "sklearn", "sklearn.neural_network").MLPClassifier((100, 100), random_state=0)
    x, y = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    made.partial_fit(x, y, classes=np.unique(y))
    clock.watch(type(made._optimizer), "update_params")
    return lambda: made.partial_fit(x, y)


def keras(ours: bool, clock: Clock) -> Callable[[], Any]:
    """A batch of 32 through two hidden layers of 64, with clipping, on the backend torch."""
    keras = importlib.import_module("keras")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((16,)), *layers])
    optimizer = _module(ours, "keras", "keras.optimizers").Adam(1e-3, global_clipnorm=1.0)
    model.compile(optimizer, "mse")
    x, y = np.ones((32, 16), np.float32), np.ones((32, 1), np.float32)
    model.train_on_batch(x, y)
    clock.watch(type(optimizer), "apply")
    return lambda: model.train_on_batch(x, y)


def thinc(ours: bool, clock: Clock) -> Callable[[], Any]:
    """A batch of 500 vectors through two hidden layers of 300 maxout units, by thinc's model."""
    api = importlib.import_module("thinc.api")
    api.fix_random_seed(0)
    hidden = [api.Maxout(300, normalize=True), api.Maxout(300, normalize=True)]
    x, y = np.ones((500, 100), np.float32), np.full((500, 10), 0.1, np.float32)
    model = api.chain(*hidden, api.Softmax()).initialize(x, y)
    optimizer = _module(ours, "thinc", "thinc.optimizers").Adam(1e-3)

    def iterate() -> None:
        guess, backprop = model.begin_update(x)
        backprop((guess - y) / len(x))
        with clock.running():
            model.finish_update(optimizer)

    return iterate


def dezero(ours: bool, clock: Clock) -> Callable[[], Any]:
    """A batch of 100 through a hidden layer of 1000, as in the book's example of handwritten digits."""
    vars(np).setdefault("int", int)  # for DeZero 0.0.13, which is older than NumPy 1.24
    functions = importlib.import_module("dezero.functions")
    network = importlib.import_module("dezero.models").MLP(dezero_steps.WORKS["MLP 1000, 10"])
    x, t = np.ones((100, 784), np.float32), np.zeros(100, np.int64)
    optimizer = _module(ours, "dezero", "dezero.optimizers").Adam().setup(network)

    def iterate() -> None:
        network.cleargrads()
        functions.softmax_cross_entropy(network(x), t).backward()
        with clock.running():
            optimizer.update()

    return iterate


def book2(ours: bool, clock: Clock) -> Callable[[], Any]:
    """Word2vec (CBOW) with 100 000 words by SGD, of the book's second volume."""
    training = word2vec.Training(OURS if ours else BOOK, "SGD", "at once")
    remove, update = training._layers.remove_duplicate, training._rule.update

    def remove_duplicate(*arguments: Any) -> Any:
        with clock.running():
            return remove(*arguments)

    def timed_update(*arguments: Any) -> None:
        with clock.running():
            update(*arguments)

    training._layers = SimpleNamespace(remove_duplicate=remove_duplicate)
    training._rule = SimpleNamespace(update=timed_update)
    return training.step


def flower(ours: bool, clock: Clock) -> Callable[[], Any]:
    """A server's round for ten clients with 11 million weights, from their messages to the next."""
    flwr = importlib.import_module("flwr.app")
    importlib.import_module("logging").getLogger("flwr").setLevel("ERROR")
    model, *contents = (flwr.ArrayRecord(arrays(flower_steps.WORKS["11 million"], "float32", i)) for i in range(11))
    replies = [
        flower_steps.Reply(flwr.RecordDict({"arrays": own, "metrics": flwr.MetricRecord({"num-examples": 10 + i})}))
        for i, own in enumerate(contents)
    ]
    server = flower_steps.Server("fusedstep.flower" if ours else "flwr.serverapp.strategy", "FedAdam", model, replies)
    inflate = importlib.import_module("flwr.common.serde").array_record_from_proto
    deflate = importlib.import_module("flwr.common.serde").array_record_to_proto
    messages = [deflate(own) for own in contents]

    def iterate() -> None:
        for reply, message in zip(replies, messages, strict=True):
            reply.content["arrays"] = inflate(message)
        with clock.running():
            new = server.round()
        deflate(new)

    return iterate


@dataclass(frozen=True)
class Training:
    """A training of a library."""

    name: str
    package: str
    make: Make = field(repr=False)


TRAININGS = (
    Training("the book", "numpy", book2),
    Training("PyTorch", "torch", torch),
    Training("scikit-learn", "sklearn", sklearn),
    Training("thinc", "thinc", thinc),
    Training("Keras", "keras", keras),
    Training("DeZero", "dezero", dezero),
    Training("Flower", "flwr", flower),
)


@dataclass(frozen=True)
class Shares:
    """What was measured of a training; times in seconds, of one iteration."""

    name: str
    work: str
    before: float
    share_before: float
    after: float
    share_after: float


def measure(training: Training, rounds: int) -> Shares:
    """Iterates with either optimizer in turns."""
    fs.set_num_threads(1)
    if training.package in ("torch", "keras"):
        importlib.import_module("torch").set_num_threads(1)
    clocks = Clock(), Clock()
    sides = [training.make(ours, clock) for ours, clock in zip((False, True), clocks, strict=True)]
    times: list[list[float]] = [[], []]
    shares: list[list[float]] = [[], []]
    for iterate in sides:
        iterate()
    start = time.perf_counter()
    iterate_each = 1
    while len(times[0]) < rounds or time.perf_counter() - start < SECONDS:
        for i, (iterate, clock) in enumerate(zip(sides, clocks, strict=True)):
            clock.seconds, begin = 0.0, time.perf_counter()
            for _ in range(iterate_each):
                iterate()
            seconds = time.perf_counter() - begin
            times[i].append(seconds / iterate_each)
            shares[i].append(clock.seconds / seconds)
        iterate_each = max(1, min(1000, int(0.02 / times[0][-1])))
    before, after = (statistics.median(own) for own in times)
    share_before, share_after = (statistics.median(own) for own in shares)
    work = " ".join((training.make.__doc__ or "").split()).rstrip(".")
    return Shares(training.name, work, before, share_before, after, share_after)


def write_shares(path: Path, all_shares: list[Shares]) -> None:
    """Writes them for `read_shares`."""
    path.write_text(json.dumps({"origin": origin(), "shares": [asdict(own) for own in all_shares]}, indent=1) + "\n")


def read_shares(path: Path) -> tuple[list[Shares], str]:
    """What `main` has written to a file, and its origin in words.

    Raises:
        ValueError: It is another file.
    """
    data = json.loads(path.read_text())
    try:
        return [Shares(**own) for own in data["shares"]], subtitle_of(data["origin"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of benchmarks.trainers") from error


def table(all_shares: Sequence[Shares]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [
        "| | | share of the optimizer: before, after | optimizer, ratio | iteration, ratio |",
        "|---|---|---|--:|--:|",
    ]
    for own in all_shares:
        steps = own.before * own.share_before / (own.after * own.share_after)
        lines.append(
            f"| {own.name} | {own.work} | {own.share_before:.0%}, {own.share_after:.0%} | {steps:.2g} | "
            f"{own.before / own.after:.2f} |"
        )
    return lines


def main() -> int:
    """Measures, prints the table, writes the file; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    add_arguments(parser)
    arguments = parser.parse_args()
    os.environ |= {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    measured = []
    for training in chosen(TRAININGS, arguments, parser):
        if why := peers.missing(training.package):
            print(f"{training.name}: not measured: {why}", flush=True)
            continue
        print(f"\r\033[K{training.name}", end="", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            measured.append(process.submit(measure, training, arguments.rounds).result())
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print("\n".join(table(measured)))
    write_shares(arguments.json, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
