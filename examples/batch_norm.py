"""Trains a network from 16 scales of initial weights, with and without batch normalisation.

As in chapter 6 of *Deep Learning from Scratch*: 1000 training images, five hidden layers of 100 units, ReLU, SGD with a
learning rate of 0.01, 20 epochs, weights of standard deviation 1 to 0.0001, and its eps, 1e-6. Without batch
normalisation two scales let the network learn: larger weights overflow within a few steps, and from smaller ones it
stays at guessing. With it the network learns from all, from the largest slowly and from the smallest in part.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep as fs
from lib import data
from lib.loop import train
from lib.mnist import CLASSES, Images
from lib.network import Network, normal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STDS = [float(std) for std in np.logspace(0, -4, 16)]
IMAGES = 1000
HIDDEN = [100] * 5
BATCH_SIZE = 100
LR = 0.01
EPS = 1e-6
EPOCHS = 20

Curves = dict[bool, list[float]]  # accuracies after each epoch, with and without batch normalisation


def _curve(std: float, norm: bool, images: Images, epochs: int, seed: int, bar: "tqdm[None]") -> list[float]:
    network = Network(
        [images.x_train.shape[1], *HIDDEN, CLASSES],
        np.random.default_rng(seed),
        norm=partial(fs.BatchNorm, eps=EPS) if norm else None,
        initial=normal(std),
    )
    # Large weights overflow without batch normalisation: that is what is shown.
    with np.errstate(over="ignore", invalid="ignore"):
        history = train(
            network,
            fs.SGD(LR),
            images,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            rng=np.random.default_rng([seed, 1]),
            after_step=bar.update,
        )
    return history.train


def _table(curves: dict[float, Curves]) -> str:
    lines = [f"{'std of weights':>14}{'without':>10}{'with batch norm':>18}"]
    lines.append("-" * len(lines[0]))
    lines += [f"{std:14.5f}{c[False][-1]:10.1%}{c[True][-1]:18.1%}" for std, c in curves.items()]
    return "\n".join([*lines, "", "the accuracy of training images after the last epoch"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _title(curves: dict[float, Curves]) -> str:
    plain, normed = (float(np.median([c[norm][-1] for c in curves.values()])) for norm in (False, True))
    medians = f"{_percent(normed)} with batch norm, {_percent(plain)} without"
    return f"{len(curves)} weight scales: median training accuracy {medians}"


def _draw(figure: "Figure", curves: dict[float, Curves]) -> None:
    from lib.style import COLOURS, GREY

    colours = {True: COLOURS[0], False: COLOURS[3]}
    for i, (std, found) in enumerate(curves.items()):
        row, column = divmod(i, 4)
        ax = figure.add_axes((0.085 + 0.232 * column, 0.655 - 0.186 * row, 0.2, 0.13))
        epochs = np.arange(1, len(found[True]) + 1)
        for norm, style in ((False, "--"), (True, "-")):
            ax.plot(epochs, found[norm], style, color=colours[norm], clip_on=False)
            if len(epochs) == 1:
                ax.plot(epochs, found[norm], "o", color=colours[norm], clip_on=False)
        ax.set(xlim=(0, len(epochs)), ylim=(0, 1), yticks=[0, 0.5, 1], yticklabels=["0", "", "100 %"])
        ax.set_title(f"std {std:.2g}", fontsize=10, pad=4)
        for norm, right in ((False, 1.0), (True, 0.78)):
            text = _percent(found[norm][-1])
            ax.text(right, 1.08, text, color=colours[norm], fontsize=10, ha="right", transform=ax.transAxes)
        ax.locator_params(axis="x", integer=True, nbins=4)
        ax.tick_params(labelbottom=row == 3, labelleft=column == 0, labelsize=10)
    figure.text(0.012, 0.44, "training accuracy", rotation=90, color=GREY, va="center")
    figure.text(0.533, 0.012, "epoch", color=GREY, ha="center")
    first = figure.axes[0]
    for norm, x, y, text in ((True, 0.03, 0.76, "with batch norm"), (False, 0.66, 0.17, "without")):
        first.text(x, y, text, color=colours[norm], fontsize=10, weight="bold", transform=first.transAxes)


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "batch_norm.png")
    parser.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        default=EPOCHS,
        help=f"passes over the {IMAGES} training images (default: {EPOCHS}, with --mnist too)",
    )
    parser.add_mnist()
    return parser.parse_args()


def _run() -> None:
    options = _options()
    from lib.style import slide  # before the work, which would be lost without Matplotlib

    images = data.images(options.mnist)
    # One test image: those accuracies are not drawn, and all of MNIST's took most of the time.
    images = Images(
        images.x_train[:IMAGES], images.t_train[:IMAGES], images.x_test[:1], images.t_test[:1], images.scale
    )
    steps = options.epochs * (len(images.x_train) // BATCH_SIZE)
    curves: dict[float, Curves] = {}
    with threadpool_limits(1), tqdm(total=2 * len(STDS) * steps, unit="it", smoothing=0) as bar:
        for std in STDS:
            bar.set_description(f"std {std:.2g}")
            curves[std] = {norm: _curve(std, norm, images, options.epochs, options.seed, bar) for norm in (False, True)}
    print(_table(curves))
    task = (
        f"{len(images.x_train)} handwritten digits, batches of {BATCH_SIZE}, "
        f"{len(HIDDEN)} hidden layers of {HIDDEN[0]}, ReLU, SGD with lr {LR:g}\n"
        "Flat at first: the accuracy is by running variances, which start at 1 and take epochs to fall to the batches'"
    )
    with slide(options.out, _title(curves), task) as figure:
        _draw(figure, curves)


if __name__ == "__main__":
    sys.exit(main(_run))
