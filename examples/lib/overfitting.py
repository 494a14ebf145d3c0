"""What `weight_decay.py` and `dropout.py` share: a network that learns 300 digits by heart, and its picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep as fs
from lib import data
from lib.command_line import Parser, whole
from lib.loop import History, WeightsAndBiases, train
from lib.mnist import CLASSES, Images
from lib.network import Network, Params

SAMPLES = 300
HIDDEN = (100,) * 6
LR = 0.02
BATCH_SIZE = 100
LAST = 20


@dataclass(frozen=True)
class Result:
    """One of the two trainings."""

    name: str
    history: History
    norm: float

    @property
    def train(self) -> float:
        """The accuracy, from 0 to 1, on the training images, the mean of the last epochs."""
        return float(np.mean(self.history.train[-LAST:]))

    @property
    def test(self) -> float:
        """As `train`, on the test images."""
        return float(np.mean(self.history.test[-LAST:]))


def _few_images(directory: Path | None, wrong_labels: int, seed: int) -> Images:
    """300 images to train on, some of their labels wrong, and the test images.

    Arguments:
        directory: That of MNIST, or None.
        wrong_labels: Per cent of the labels, rounded to whole images.
        seed: Which, and what in their place.
    """
    images = data.images(directory)
    rng = np.random.default_rng(seed)
    t = images.t_train[:SAMPLES].copy()
    wrong = rng.choice(len(t), round(len(t) * wrong_labels / 100), replace=False)
    t[wrong] = (t[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
    return images._replace(x_train=images.x_train[:SAMPLES], t_train=t)


def _weight_norm(params: Params) -> float:
    """The root of the sum of the squares of all weights."""
    return float(np.sqrt(sum(np.sum(np.square(w)) for name, w in params.items() if name.startswith("W"))))


def _fit(
    name: str,
    images: Images,
    *,
    weight_decay: float = 0.0,
    dropout: float = 0.0,
    epochs: int,
    seed: int,
    after_step: Callable[[], Any],
) -> Result:
    # Of the same seed, so that both start from the same weights and see the same batches.
    rng = np.random.default_rng(seed)
    network = Network((images.x_train.shape[1], *HIDDEN, CLASSES), rng, np.float32, dropout=dropout)
    optimizer = WeightsAndBiases(fs.SGD(LR, weight_decay=weight_decay), fs.SGD(LR))
    batches = np.random.default_rng([seed, 1])
    history = train(
        network, optimizer, images, epochs=epochs, batch_size=BATCH_SIZE, rng=batches, after_step=after_step
    )
    return Result(name, history, _weight_norm(network.params))


def _table(results: list[Result]) -> str:
    """The figures behind the picture."""
    rows = [f"{r.name:26}{r.train:10.1%}{r.test:8.1%}{100 * (r.train - r.test):8.1f}{r.norm:22.1f}" for r in results]
    epochs = min(LAST, len(results[0].history.train))
    last = "the last epoch" if epochs == 1 else f"the mean of the last {epochs} epochs"
    head = f"{'':26}{'training':>10}{'test':>8}{'gap':>8}{'norm of the weights':>22}"
    return "\n".join([head, *rows, f"accuracies: {last}; gap: in points"])


def compare(description: str | None, out: str, variants: dict[str, dict[str, float]]) -> None:
    """Runs a script: reads its options, trains, prints a table and draws.

    Arguments:
        description: What it shows.
        out: Where the picture goes by default.
        variants: `weight_decay` or `dropout` of each training, under the name that it has in the picture.
    """
    parser = Parser(description, out)
    parser.add_argument("--epochs", type=whole(1, 100_000), default=400, help="passes over the images (default: 400)")
    parser.add_argument(
        "--wrong-labels",
        type=whole(0, 90),
        default=10,
        metavar="PERCENT",
        help="how many of the training labels are replaced by a wrong one (default: 10)",
    )
    parser.add_mnist()
    options = parser.parse_args()
    # Here, not above: it takes a second, in which Ctrl-C would end in a traceback; and before the training, which would
    # be lost if Matplotlib were missing.
    from lib.overfitting_picture import draw

    images = _few_images(options.mnist, options.wrong_labels, options.seed)
    total = len(variants) * options.epochs * (len(images.x_train) // BATCH_SIZE)
    with threadpool_limits(1), tqdm(total=total, unit="it", smoothing=0) as bar:
        results = [
            _fit(name, images, **variant, epochs=options.epochs, seed=options.seed, after_step=bar.update)
            for name, variant in variants.items()
        ]
    print(_table(results))
    draw(results, options.wrong_labels, options.out)
