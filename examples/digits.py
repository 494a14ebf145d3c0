"""Trains a network on handwritten digits by five rules, with NumPy and with fusedstep, and compares results and times.

The network is that of chapter 6 of *Deep Learning from Scratch*: four hidden layers and an output layer, ReLU, He's
initialisation, without and with batch normalisation. Prints a table and draws a picture.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import sys

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep
from lib import data
from lib.training import HIDDEN_LAYERS, Comparison, compare

# Each rule with a learning rate that suits it here.
RULES = {"SGD": 0.1, "Momentum": 0.03, "AdaGrad": 0.01, "RMSProp": 0.001, "Adam": 0.002}
DIGITS_EPOCHS = 50
MNIST_EPOCHS = 1

WHY = """\
Without batch normalisation all bits are the same, because an update does NumPy's operations in NumPy's order; with it
the last column is the largest difference relative to the largest parameter: NumPy adds up a batch in another order,
training carries that on, and AdaGrad, RMSProp and Adam magnify it in the biases before batch normalisation, whose
gradients are zero but for rounding."""


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "digits.png")
    parser.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        help=f"passes over the training images (default: {DIGITS_EPOCHS}, or {MNIST_EPOCHS} with --mnist, where one "
        "takes about a minute)",
    )
    parser.add_argument("--hidden", type=whole(1, 4096), default=100, help="units of a hidden layer (default: 100)")
    parser.add_argument("--batch-size", type=whole(2, 1_000_000), default=100, help="images in a step (default: 100)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="default: float64")
    parser.add_mnist()
    return parser.parse_args()


def _table(comparisons: list[Comparison]) -> str:
    group = f"{'NumPy':>8}{'fusedstep':>11}{'ratio':>7}  |"
    lines = [
        f"{'':41}|{'ms in update':^28}|{'ms in batch norm':^28}|",
        f"{'rule':10}{'batch norm':12}{'loss':>8}{'accuracy':>10} |{group}{group} same bits",
    ]
    lines.append("-" * len(lines[1]))
    for c in comparisons:
        numpy, fused = c.times
        lines.append(
            f"{c.rule:10}{'yes' if c.norm else 'no':12}{c.final_loss:8.1e}{c.accuracy:10.1%} |"
            f"{numpy.update:8.3f}{fused.update:11.3f}{numpy.update / fused.update:7.1f}  |"
            + (f"{numpy.norm:8.3f}{fused.norm:11.3f}{numpy.norm / fused.norm:7.1f}  |" if c.norm else f"{'|':>29}")
            + (" yes" if c.difference is None else f" {c.difference:.0e}")
        )
    return "\n".join(lines)


def _run() -> None:
    options = _options()
    # Here, not above: it takes a second, in which Ctrl-C would end in a traceback; and before the training, which would
    # be lost if Matplotlib were missing.
    from lib.picture import draw

    images = data.images(options.mnist)
    if options.batch_size > len(images.x_train):
        raise ValueError(f"--batch-size {options.batch_size} is more than the {len(images.x_train)} training images")
    epochs = options.epochs or (MNIST_EPOCHS if options.mnist else DIGITS_EPOCHS)
    iterations = epochs * (len(images.x_train) // options.batch_size)
    comparisons = []
    # Matrices as small as these gain little from a second BLAS thread, and where another process has the core, waiting
    # for that thread took up to half a second an iteration.
    with threadpool_limits(1), tqdm(total=2 * len(RULES) * iterations, unit="it", smoothing=0) as bar:
        for rule, lr in RULES.items():
            for norm in (False, True):
                bar.set_description(f"{rule}{' + batch norm' if norm else ''}")
                comparisons.append(
                    compare(
                        rule,
                        lr,
                        norm,
                        images,
                        epochs=epochs,
                        batch_size=options.batch_size,
                        hidden=options.hidden,
                        dtype=options.dtype,
                        seed=options.seed,
                        after_step=bar.update,
                    )
                )
    task = (
        f"{len(images.x_train)} handwritten digits of {images.x_train.shape[1]} pixels, batches of "
        f"{options.batch_size}, {HIDDEN_LAYERS} hidden layers of {options.hidden} units, {options.dtype}"
    )
    print(f"{task}, {iterations} iterations")
    threads = fusedstep.get_num_threads()
    print(f"NumPy {np.__version__}; fusedstep {fusedstep.__version__}, {fusedstep.isa()}, threads: {threads}\n")
    print(f"{_table(comparisons)}\n\n{WHY}")
    draw(comparisons, options.out, task)
    if any(c.difference is not None for c in comparisons if not c.norm):
        raise ValueError("without batch normalisation the bits should be the same")


if __name__ == "__main__":
    sys.exit(main(_run))
