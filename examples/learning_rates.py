"""Compares schedules of the learning rate: where it falls, the loss falls.

Networks start from the same weights and see the same batches; only the learning rate differs. It is constant, or falls
to a tenth after each quarter of the training, that is after 30, 60 and 90 of 120 epochs, or in one of four smooth ways.
The network has two hidden layers of 100 units with batch normalisation. Momentum, weight decay and batches of 25 are
there so that the steps show: they keep the loss from going to zero by itself, as it does on these few digits, and the
constant rate of 0.1 is one at which training neither fails nor settles.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import data
import fusedstep as fs
from command_line import Parser, main, whole
from fusedstep import schedules
from fusedstep.optimizers import LearningRate
from loop import History, WeightsAndBiases, train
from mnist import CLASSES
from network import Network

LR = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 0.01
HIDDEN = (100, 100)
BATCH_SIZE = 25
LAST = 5
DIGITS_EPOCHS = 120
MNIST_EPOCHS = 4


@dataclass(frozen=True)
class Result:
    """One training: the learning rate of each update, and what came of it."""

    name: str
    rates: list[float]
    history: History

    @property
    def losses(self) -> list[float]:
        """The mean loss of each epoch's batches."""
        epochs = len(self.history.test)
        return [float(loss) for loss in np.reshape(self.history.losses, (epochs, -1)).mean(axis=1)]

    @property
    def test(self) -> float:
        """The accuracy, from 0 to 1, on the test images, the mean of the last epochs."""
        return float(np.mean(self.history.test[-LAST:]))


def _schedules(updates: int) -> dict[str, LearningRate]:
    warmup = max(1, updates // 20)
    return {
        "Constant": LR,
        "Steps": schedules.StepDecay(LR, [quarter * updates // 4 for quarter in (1, 2, 3)]),
        "Exponential": schedules.Exponential(LR, 0.01, every=updates),
        "Linear": schedules.Polynomial(LR, updates),
        "Cosine": schedules.Cosine(LR, updates),
        "Warm-up, cosine": schedules.Joined(
            [schedules.LinearWarmup(LR, warmup), schedules.Cosine(LR, max(1, updates - warmup))], [warmup]
        ),
    }


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "learning_rates.png")
    parser.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        help=f"passes over the training images (default: {DIGITS_EPOCHS}, or {MNIST_EPOCHS} with --mnist)",
    )
    parser.add_mnist()
    return parser.parse_args()


def first_step(results: list[Result]) -> tuple[int, float, float, float] | None:
    """After how many epochs the rate falls to a tenth; the loss before, as long again after, and then without that.

    Each is the mean of five epochs, the last of their period. None if the training is too short to say.
    """
    constant, steps = results[:2]
    quarter = len(steps.losses) // 4
    if quarter < 1:
        return None
    start = quarter - min(quarter, LAST)
    before, after, stays = (
        float(np.mean(r.losses[start + shift : quarter + shift]))
        for r, shift in ((steps, 0), (steps, quarter), (constant, quarter))
    )
    return quarter, before, after, stays


def _table(results: list[Result]) -> str:
    rows = [
        f"{r.name:18}{r.rates[0]:12.2g}{r.rates[-1]:12.2g}{np.mean(r.losses[-LAST:]):12.4f}{r.test:12.1%}"
        for r in results
    ]
    epochs = min(LAST, len(results[0].losses))
    last = "the last epoch" if epochs == 1 else f"the mean of the last {epochs} epochs"
    head = f"{'schedule':18}{'first lr':>12}{'last lr':>12}{'loss':>12}{'test':>12}"
    lines = [head, *rows, f"loss and accuracy: {last}"]
    if found := first_step(results):
        quarter, before, after, stays = found
        lines.append(
            f"loss after {quarter} epochs {before:.2g}, after {quarter} more at a tenth of the rate {after:.2g}, "
            f"at the constant rate {stays:.2g}"
        )
    return "\n".join(lines)


def _run() -> None:
    options = _options()
    # Here, not above: it takes a second, in which Ctrl-C would end in a traceback; and before the training, which would
    # be lost if Matplotlib were missing.
    from learning_rates_picture import draw

    images = data.images(options.mnist)
    if len(images.x_train) < BATCH_SIZE:
        raise ValueError(f"{options.mnist}: has {len(images.x_train)} training images, expected {BATCH_SIZE} or more")
    epochs = options.epochs or (MNIST_EPOCHS if options.mnist else DIGITS_EPOCHS)
    updates = epochs * (len(images.x_train) // BATCH_SIZE)
    rates = _schedules(updates)
    results = []
    with threadpool_limits(1), tqdm(total=len(rates) * updates, unit="it", smoothing=0) as bar:
        for name, lr in rates.items():
            bar.set_description(name)
            network = Network(
                (images.x_train.shape[1], *HIDDEN, CLASSES),
                np.random.default_rng(options.seed),
                np.float32,
                fs.BatchNorm,
            )
            history = train(
                network,
                WeightsAndBiases(fs.Momentum(lr, MOMENTUM, weight_decay=WEIGHT_DECAY), fs.Momentum(lr, MOMENTUM)),
                images,
                epochs=epochs,
                batch_size=BATCH_SIZE,
                rng=np.random.default_rng([options.seed, 1]),
                after_step=bar.update,
            )
            results.append(Result(name, [lr(t) if callable(lr) else lr for t in range(updates)], history))
    print(_table(results))
    draw(results, options.out)


if __name__ == "__main__":
    sys.exit(main(_run))
