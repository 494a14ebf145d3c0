"""Trains a ReLU network from three kinds of initial weights: of standard deviation 0.01, Xavier's and He's.

As in chapter 6 of *Deep Learning from Scratch*: four hidden layers of 100 units, SGD with a learning rate of 0.01, the
loss of each batch, smoothed. From 0.01 the network doesn't learn: what its last layer sees, and the gradients of its
first ones, are next to nothing, and its loss stays at ln 10, that of guessing. Xavier's are the paper's; the book's
1 / sqrt(n) is LeCun's, which differs in the first and the last layer. Prints the figures behind the picture.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import math
import sys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import fusedstep as fs
from lib import data
from lib.loop import History, train
from lib.mnist import CLASSES
from lib.network import Initial, Network, normal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INITIAL: dict[str, Initial] = {
    "std 0.01": normal(0.01),
    "Xavier": fs.initializers.xavier_normal,
    "He": fs.initializers.he_normal,
}
HIDDEN = [100] * 4
BATCH_SIZE = 100
LR = 0.01
GUESSING = math.log(CLASSES)
DIGITS_EPOCHS = 100
MNIST_EPOCHS = 3


def _window(steps: int) -> int:
    return max(1, steps // 50)


def _smooth(losses: list[float]) -> NDArray[np.float64]:
    window = _window(len(losses))
    smooth: NDArray[np.float64] = np.convolve(losses, np.full(window, 1 / window), "valid")
    return smooth


def _table(histories: dict[str, History]) -> str:
    lines = [f"{'weights':10}{'first loss':>12}{'last loss':>11}{'training':>10}{'test':>8}"]
    lines.append("-" * len(lines[0]))
    for name, history in histories.items():
        curve = _smooth(history.losses)
        lines.append(f"{name:10}{curve[0]:12.3f}{curve[-1]:11.3f}{history.train[-1]:10.1%}{history.test[-1]:8.1%}")
    return "\n".join([*lines, "", f"training, test: accuracy; the loss of guessing is {GUESSING:.3f}"])


def _title(histories: dict[str, History]) -> str:
    last = {name: _smooth(history.losses)[-1] for name, history in histories.items()}
    learnt = f"He reaches {last['He']:.2f}, Xavier {last['Xavier']:.2f}"
    if last["std 0.01"] > 0.98 * GUESSING > 2 * last["He"]:
        return f"Std 0.01 stays at {last['std 0.01']:.2f}, the loss of guessing; {learnt}"
    return f"The loss from std 0.01 reaches {last['std 0.01']:.2f}; {learnt}"


def _draw(figure: "Figure", histories: dict[str, History]) -> None:
    from lib.style import COLOURS, GREY, label_ends

    ax = figure.add_axes((0.07, 0.12, 0.7, 0.72))
    ends = []
    # The colours that the same weights have in the pictures of activations.py.
    for (name, history), colour in zip(histories.items(), COLOURS[1:], strict=False):
        curve = _smooth(history.losses)
        steps = len(history.losses)
        ax.plot(np.arange(steps - len(curve), steps) + 1, curve, color=colour, linewidth=2.5)
        ends.append((f"{name}: test {history.test[-1]:.0%}".replace("%", " %"), colour, float(curve[-1])))
    ax.axhline(GUESSING, color=GREY, linestyle=":", linewidth=1.2, zorder=0)
    ax.set(
        xlim=(0, steps),
        ylim=(0, ax.get_ylim()[1]),
        xlabel="step",
        ylabel=f"cross-entropy, mean of {_window(steps)} batches",
    )
    ax.text(0.99 * steps, GUESSING + 0.03, "guessing: ln 10", color=GREY, ha="right", va="bottom")
    ax.set_ylim(0, 1.12 * ax.get_ylim()[1])
    ax.locator_params(axis="x", integer=True)
    label_ends(ax, ends)


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "initial_weights.png")
    parser.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        help=f"passes over the training images (default: {DIGITS_EPOCHS}, or {MNIST_EPOCHS} with --mnist, which take "
        "about half a minute)",
    )
    parser.add_mnist()
    return parser.parse_args()


def _run() -> None:
    options = _options()
    from lib.style import slide  # before the work, which would be lost without Matplotlib

    images = data.images(options.mnist)
    epochs = options.epochs or (MNIST_EPOCHS if options.mnist else DIGITS_EPOCHS)
    steps = epochs * (len(images.x_train) // BATCH_SIZE)
    sizes = [images.x_train.shape[1], *HIDDEN, CLASSES]
    histories = {}
    with threadpool_limits(1), tqdm(total=len(INITIAL) * steps, unit="it", smoothing=0) as bar:
        for name, initial in INITIAL.items():
            bar.set_description(name)
            network = Network(sizes, np.random.default_rng(options.seed), initial=initial)
            histories[name] = train(
                network,
                fs.SGD(LR),
                images,
                epochs=epochs,
                batch_size=BATCH_SIZE,
                rng=np.random.default_rng([options.seed, 1]),
                after_step=bar.update,
            )
    print(_table(histories))
    task = (
        f"{len(images.x_train)} handwritten digits, batches of {BATCH_SIZE}, SGD with lr {LR:g}, "
        f"{len(HIDDEN)} hidden layers of {HIDDEN[0]}, ReLU"
    )
    with slide(options.out, _title(histories), task) as figure:
        _draw(figure, histories)


if __name__ == "__main__":
    sys.exit(main(_run))
