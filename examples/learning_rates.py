"""Compares schedules of the learning rate: where it falls, the loss falls.

Networks start from the same weights and see the same batches; only the learning rate differs. It is constant, or falls
to a tenth after each quarter of the training, that is after 30, 60 and 90 of 120 epochs, or in one of four smooth ways.
The network has two hidden layers of 100 units with batch normalisation. Momentum, weight decay and batches of 25 are
there so that the steps show: they keep the loss from going to zero by itself, as it does on these few digits, and the
constant rate of 0.1 is one at which training neither fails nor settles.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import sys

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep as fs
from fusedstep import schedules
from fusedstep.optimizers import LearningRate
from lib import data
from lib.learning_rate_results import LAST, Result, first_step
from lib.loop import WeightsAndBiases, train
from lib.mnist import CLASSES
from lib.network import Network

LR = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 0.01
HIDDEN = (100, 100)
BATCH_SIZE = 25
DIGITS_EPOCHS = 120
MNIST_EPOCHS = 4


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
    from lib.learning_rates_picture import draw

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
