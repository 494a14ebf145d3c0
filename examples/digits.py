"""Trains a network on handwritten digits by five rules, with NumPy and with fusedstep, and compares results and times.

The network is that of chapter 6 of *Deep Learning from Scratch*: four hidden layers and an output layer, ReLU, He's
initialisation, without and with batch normalisation. Prints a table and draws a picture.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep
import mnist
from mnist import Images
from training import HIDDEN_LAYERS, Comparison, compare

# Each rule with a learning rate that suits it here.
RULES = {"SGD": 0.1, "Momentum": 0.03, "AdaGrad": 0.01, "RMSProp": 0.001, "Adam": 0.002}
FORMATS = (".png", ".svg", ".pdf")
DIGITS_EPOCHS = 50
MNIST_EPOCHS = 1
TEST_IMAGES = 360

WHY = """\
Without batch normalisation all bits are the same, because an update does NumPy's operations in NumPy's order; with it
the last column is the largest difference relative to the largest parameter: NumPy adds up a batch in another order,
training carries that on, and AdaGrad, RMSProp and Adam magnify it in the biases before batch normalisation, whose
gradients are zero but for rounding."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return convert


def _picture_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{str(path.parent)!r} is not a directory")
    existed = os.path.lexists(path)
    try:
        path.open("ab").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} can't be written: {error.strerror}") from error
    if not existed:
        path.unlink()
    return path


def _options() -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument(
        "--epochs",
        type=_whole(1, 10_000),
        help=f"passes over the training images (default: {DIGITS_EPOCHS}, or {MNIST_EPOCHS} with --mnist, where one "
        "takes about a minute)",
    )
    parser.add_argument("--hidden", type=_whole(1, 4096), default=100, help="units of a hidden layer (default: 100)")
    parser.add_argument("--batch-size", type=_whole(2, 1_000_000), default=100, help="images in a step (default: 100)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="default: float64")
    parser.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, help="for weights and batches (default: 0)")
    parser.add_argument("--out", type=_picture_path, default="digits.png", help="the picture (default: digits.png)")
    parser.add_argument(
        "--mnist",
        type=Path,
        metavar="DIR",
        help="train on MNIST: the directory that holds train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each with or without .gz "
        "(default: scikit-learn's digits, 1797 images of 8 x 8 pixels)",
    )
    return parser.parse_args()


def _failure(error: object) -> int:
    if isinstance(error, OSError) and error.filename is not None:
        error = f"{error.filename}: {error.strerror}"
    print(f"digits.py: error: {error}", file=sys.stderr)
    return 1


def _sklearn_digits() -> Images:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # The same split whatever --seed says; the file is sorted by writer, so it has to be shuffled.
    order = np.random.default_rng(0).permutation(len(labels))
    x, t = pixels[order].astype(np.uint8), labels[order].astype(np.uint8)
    return Images(x[:-TEST_IMAGES], t[:-TEST_IMAGES], x[-TEST_IMAGES:], t[-TEST_IMAGES:], 16)


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


def _run(options: argparse.Namespace) -> int:
    # Here, not above: it takes a second, in which Ctrl-C would end in a traceback; and before the training, which would
    # be lost if Matplotlib were missing.
    from picture import draw

    try:
        images = mnist.load(options.mnist) if options.mnist else _sklearn_digits()
    except (OSError, ValueError) as error:
        return _failure(error)
    if options.batch_size > len(images.x_train):
        return _failure(f"--batch-size {options.batch_size} is more than the {len(images.x_train)} training images")
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
    try:
        draw(comparisons, options.out, task)
    except OSError as error:
        return _failure(error)
    if any(c.difference is not None for c in comparisons if not c.norm):
        return _failure("without batch normalisation the bits should be the same")
    return 0


def main() -> int:
    """Returns the exit status."""
    try:
        return _run(_options())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        return _failure(f"not enough memory: {error}")


if __name__ == "__main__":
    sys.exit(main())
