"""Searches a learning rate and a weight decay at random, and shows which of the two matters.

The search of chapter 6 of *Deep Learning from Scratch*: 500 images, a fifth of them for validation, six hidden layers
of 100 units, plain gradient descent, learning rates from 1e-6 to 1e-2 and weight decays from 1e-8 to 1e-4, both drawn
evenly in their logarithm. The good trials have learning rates close to one another, and weight decays from all over the
range. Weights decay, biases don't. All trials start from the same weights and see the same batches.

A search that was interrupted or killed goes on from its --storage, with the trials that it would have made.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import hashlib
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep as fs
from lib import data
from lib.loop import WeightsAndBiases, train
from lib.mnist import Images
from lib.network import Network
from lib.search import Trial, WorkerDiedError, finished, open_study, search

RANGES = {"lr": (1e-6, 1e-2), "weight_decay": (1e-8, 1e-4)}
VALIDATION = 0.2
HIDDEN = (100,) * 6
BATCH_SIZE = 100
BEST = 20
ROWS = 10


@dataclass(frozen=True)
class Objective:
    """Trains with the given learning rate and weight decay; called in the processes of the search."""

    images: Images
    epochs: int
    seed: int

    def __call__(self, params: dict[str, float]) -> tuple[list[float], list[float]]:
        fs.set_num_threads(1)
        rng = np.random.default_rng(self.seed)
        network = Network((self.images.x_train.shape[1], *HIDDEN, 10), rng, np.float32)
        optimizer = WeightsAndBiases(fs.SGD(params["lr"], weight_decay=params["weight_decay"]), fs.SGD(params["lr"]))
        batch_size = min(BATCH_SIZE, len(self.images.x_train))
        with threadpool_limits(1):
            history = train(network, optimizer, self.images, epochs=self.epochs, batch_size=batch_size, rng=rng)
        return history.train, history.test


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "hyperparameters.png")
    processors = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--trials", type=whole(1, 100_000), default=100, help="in total, with those in the storage (default: 100)"
    )
    parser.add_argument(
        "--epochs", type=whole(1, 10_000), default=50, help="passes over the images in a trial (default: 50)"
    )
    parser.add_argument(
        "--images", type=whole(10, 1_000_000), default=500, help="for training and validation (default: 500)"
    )
    parser.add_argument(
        "--jobs", type=whole(1, 1024), default=processors, help=f"processes (default: the processors: {processors})"
    )
    parser.add_argument(
        "--storage",
        type=Path,
        metavar="FILE",
        help="where trials are kept (SQLite, made by Optuna); a search in it goes on "
        "(default: a temporary file, kept only if the search is interrupted)",
    )
    parser.add_mnist()
    return parser.parse_args()


def _split(images: Images, count: int) -> Images:
    available = len(images.x_train)
    if count > available:
        raise ValueError(f"--images {count} is more than the {available} training images")
    cut = count - int(count * VALIDATION)
    x, t = images.x_train, images.t_train
    return Images(x[:cut], t[:cut], x[cut:count], t[cut:count], images.scale)


def _table(best: list[Trial], trials: int) -> str:
    lines = ["rank  trial       lr  weight decay  validation  training"]
    for rank, trial in enumerate(best[:ROWS], 1):
        lines.append(
            f"{rank:4}{trial.number:7}{trial.params['lr']:9.1e}{trial.params['weight_decay']:14.1e}"
            f"{trial.validation[-1]:12.1%}{trial.train[-1]:10.1%}"
        )
    lines.append(f"\nthe best {len(best)} of {trials} trials")
    for name, (low, high) in RANGES.items():
        values = [trial.params[name] for trial in best]
        lines.append(
            f"{name.replace('_', ' '):12} from {min(values):.1e} to {max(values):.1e}, a factor of "
            f"{max(values) / min(values):.2g}; searched from {low:.0e} to {high:.0e}"
        )
    return "\n".join(lines)


def _search(options: argparse.Namespace, images: Images, storage: Path) -> list[Trial]:
    digest = hashlib.sha256(images.x_train.tobytes() + images.x_test.tobytes()).hexdigest()[:8]
    settings = {
        "images": options.images,
        "epochs": options.epochs,
        "seed": options.seed,
        "ranges": {name: list(limits) for name, limits in RANGES.items()},
        "data": f"{images.x_train.shape[1]} pixels ({digest})",
    }
    with open_study(storage, settings) as study:
        try:
            with tqdm(total=options.trials, initial=len(finished(study, options.trials)), unit="trial") as bar:
                search(
                    study,
                    Objective(images, options.epochs, options.seed),
                    RANGES,
                    trials=options.trials,
                    seed=options.seed,
                    jobs=options.jobs,
                    after_trial=bar.update,
                )
        except BaseException as error:
            kept = f"{bar.n} of {options.trials} trials are kept, --storage {shlex.quote(str(storage))} goes on"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(kept) from None
            if isinstance(error, WorkerDiedError):
                raise OSError(f"{error}; {kept}") from None
            print(kept, file=sys.stderr)
            raise
        return finished(study, options.trials)


def _run() -> None:
    options = _options()
    # Here, not above: they take a second, in which Ctrl-C would end in a traceback.
    from lib.search_picture import draw

    images = _split(data.images(options.mnist), options.images)
    storage = options.storage
    if storage is None:
        descriptor, name = tempfile.mkstemp(".db", "hyperparameters-")
        os.close(descriptor)
        storage = Path(name)
    try:
        trials = _search(options, images, storage)
    except KeyboardInterrupt as interrupt:
        if options.storage is None and not interrupt.args:  # it came before the first trial
            storage.unlink()
        raise
    if options.storage is None:
        storage.unlink()
    best = sorted(trials, key=lambda trial: (-trial.validation[-1], trial.number))[
        : max(1, min(BEST, len(trials) // 5))
    ]
    print(_table(best, len(trials)))
    draw(trials, best, RANGES, options.out)


if __name__ == "__main__":
    sys.exit(main(_run))
