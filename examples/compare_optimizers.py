"""Trains one network on handwritten digits by seven rules, and shows how the steps of AdaGrad and RMSProp shrink.

The network is that of chapter 6 of *Deep Learning from Scratch*: four hidden layers of 100 units, ReLU, He's
initialisation. Each rule has a learning rate that suits it here. What AdaGrad multiplies a gradient with,
lr / (sqrt(h) + eps), falls as long as there are gradients, because h is the sum of all their squares; RMSProp's h is a
mean of the last ones, so it levels off. These digits are soon known by heart, and then the gradients fade, AdaGrad's
step no longer falls and RMSProp's rises again. So the steps are those of trainings with noise added to the pixels anew
in every batch, where the gradients stay. With --rules the losses of any others are shown, and the steps of AdaGrad and
RMSProp if both are among them.
"""

from lib.command_line import Parser, main, whole

# isort: split
import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from lib import data
from lib.loop import History, Optimizer, moving_median, train
from lib.mnist import CLASSES, Images
from lib.network import Array, Labels, Network, Params
from lib.rules import RULES, add_rules

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW")
ADAPTIVE = ("AdaGrad", "RMSProp")  # with these learning rates their first step is the same: RMSProp's h is 0.01 g^2
HIDDEN = [100] * 4
BATCH_SIZE = 100
NOISE = 0.4  # the standard deviation; pixels are 0 to 1
LAYER = "W2"
STYLES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
DIGITS_EPOCHS = 50
MNIST_EPOCHS = 2


class _NoisyNetwork(Network):
    """Sees other noise on its images in each training batch."""

    noise: np.random.Generator

    def gradient(self, x: Array, labels: Labels) -> tuple[float, Params]:
        return super().gradient(x + NOISE * self.noise.standard_normal(x.shape), labels)


def _train(
    kind: type[Network], optimizer: Optimizer, images: Images, epochs: int, seed: int, after_step: Callable[[], Any]
) -> History:
    network = kind([images.x_train.shape[1], *HIDDEN, CLASSES], np.random.default_rng(seed))
    if isinstance(network, _NoisyNetwork):
        network.noise = np.random.default_rng([seed, 2])
    rng = np.random.default_rng([seed, 1])
    return train(network, optimizer, images, epochs=epochs, batch_size=BATCH_SIZE, rng=rng, after_step=after_step)


def _effective_steps(
    rule: str, images: Images, epochs: int, seed: int, after_step: Callable[[], Any]
) -> NDArray[np.float64]:
    """The median over a layer's weights of lr / (sqrt(h) + eps), after each step."""
    optimizer = RULES[rule].make(RULES[rule].digits)
    steps = []

    def record() -> None:
        # The median of h first: the quotient falls with h, so its median is at the same weight.
        h = float(np.median(optimizer.state[LAYER]["h"]))
        steps.append(optimizer.lr / (h**0.5 + optimizer.eps))
        after_step()

    _train(_NoisyNetwork, optimizer, images, epochs, seed, record)
    return np.array(steps)


def _window(steps: int) -> int:
    return max(1, steps // 25)


def _smooth(losses: list[float]) -> NDArray[np.float64]:
    return moving_median(losses, _window(len(losses)))


def _change(steps: NDArray[np.float64]) -> float:
    """How much a step has grown in the last half of the training, in per cent."""
    return 100 * float(steps[-1] / steps[(len(steps) - 1) // 2] - 1)


def _table(histories: dict[str, History], steps: dict[str, NDArray[np.float64]]) -> str:
    lines = [f"{'rule':18}{'lr':>7}{'loss':>10}{'test accuracy':>16}"]
    lines.append("-" * len(lines[0]))
    lines += [
        f"{rule:18}{RULES[rule].digits:7g}{_smooth(h.losses)[-1]:10.1e}{h.test[-1]:16.1%}"
        for rule, h in histories.items()
    ]
    if not steps:
        return "\n".join(lines)
    count = len(steps[ADAPTIVE[0]])
    at = sorted({i for i in (1, 10, 100, 1000) if i < count} | {count})
    lines += ["", f"{'lr / (sqrt(h) + eps) of ' + LAYER + ', step':34}" + "".join(f"{i:>9}" for i in at)]
    lines.append("-" * len(lines[-1]))
    lines += [f"{rule:34}" + "".join(f"{s[i - 1]:9.3f}" for i in at) for rule, s in steps.items()]
    return "\n".join(lines)


def _title(histories: dict[str, History], steps: dict[str, NDArray[np.float64]]) -> str:
    if not steps:
        ends = {rule: float(_smooth(history.losses)[-1]) for rule, history in histories.items()}
        return f"The lowest loss at the end is {min(ends, key=ends.__getitem__)}'s"
    adagrad, rmsprop = (_change(steps[rule]) for rule in ADAPTIVE)
    signed = [f"{change:+.0f} %".replace("-", "\N{MINUS SIGN}") for change in (adagrad, rmsprop)]
    if adagrad < -20 and abs(rmsprop) < 10:
        return f"AdaGrad's steps keep shrinking ({signed[0]} in the last half), RMSProp's don't ({signed[1]})"
    return f"Effective steps in the last half of the training: AdaGrad's {signed[0]}, RMSProp's {signed[1]}"


def _draw(figure: "Figure", histories: dict[str, History], steps: dict[str, NDArray[np.float64]]) -> None:
    from lib.style import GREY, PlainLog, colours_of, label_ends, text_width

    colours = colours_of(histories)
    last = [(f"{rule} {v[-1]:.2g}", colours[rule], float(v[-1])) for rule, v in steps.items()]
    # The names beside the axes take the room that they need, and the axes share the rest.
    names = [text_width(group) for group in (histories, [name for name, *_ in last]) if group]
    width = (10 - sum(names) - 1.1 * len(names)) / len(names)
    left = figure.add_axes((0.065, 0.12, width / 10, 0.67))
    ends: list[tuple[str, str, float]] = []
    for rule, history in histories.items():
        curve = _smooth(history.losses)
        x = np.arange(len(history.losses) - len(curve), len(history.losses)) + 1
        like = sum(colour == colours[rule] for _, colour, _ in ends)
        style = STYLES[like + (rule in ("Nesterov", "AdamW"))]  # these are close to Momentum's and Adam's
        left.plot(x, curve, style, color=colours[rule])
        ends.append((rule, colours[rule], float(curve[-1])))
    left.set(yscale="log", title="Loss of a batch", xlabel="step", xlim=(0, len(x) + x[0] - 1))
    left.locator_params(axis="x", integer=True, nbins=5)
    left.yaxis.set_minor_formatter(PlainLog())
    label_ends(left, ends)
    if steps:
        right = figure.add_axes((0.175 + (width + names[0]) / 10, 0.12, width / 10, 0.67))
        _draw_steps(right, steps, colours)
        label_ends(right, [*last, ("1/√step", GREY, float(steps["AdaGrad"][-1]) * 0.55)])


def _draw_steps(ax: "Axes", steps: dict[str, NDArray[np.float64]], colours: dict[str, str]) -> None:
    from lib.style import GREY, PlainLog

    for rule, values in steps.items():
        ax.plot(np.arange(1, len(values) + 1), values, color=colours[rule])
    x = np.array([1, len(values)])
    ax.plot(x, steps["AdaGrad"][-1] * 0.55 * np.sqrt(x[-1] / x), ":", color=GREY)
    ax.set(xscale="log", yscale="log", title=f"lr / (√h + eps), median over {LAYER}", xlabel="step")
    ax.set_xlim(1, max(2, len(values)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(PlainLog())


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, "compare_optimizers.png")
    parser.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        help=f"passes over the training images (default: {DIGITS_EPOCHS}, or {MNIST_EPOCHS} with --mnist, which take "
        "about a minute)",
    )
    add_rules(parser, SHOWN, 12)
    parser.add_mnist()
    return parser.parse_args()


def _run() -> None:
    options = _options()
    from lib.style import slide  # before the work, which would be lost without Matplotlib

    images = data.images(options.mnist)
    epochs = options.epochs or (MNIST_EPOCHS if options.mnist else DIGITS_EPOCHS)
    iterations = epochs * (len(images.x_train) // BATCH_SIZE)
    histories, steps = {}, {}
    adaptive = ADAPTIVE if set(ADAPTIVE) <= set(options.rules) else ()
    trainings = len(options.rules) + len(adaptive)
    with threadpool_limits(1), tqdm(total=trainings * iterations, unit="it", smoothing=0) as bar:
        for rule in options.rules:
            bar.set_description(rule)
            optimizer = RULES[rule].make(RULES[rule].digits)
            histories[rule] = _train(Network, optimizer, images, epochs, options.seed, bar.update)
        for rule in adaptive:
            bar.set_description(f"{rule}, noisy pixels")
            steps[rule] = _effective_steps(rule, images, epochs, options.seed, bar.update)
    print(_table(histories, steps))
    task = (
        f"{len(images.x_train)} handwritten digits, batches of {BATCH_SIZE}, {iterations} steps, "
        f"{len(HIDDEN)} hidden layers of {HIDDEN[0]}\n"
    )
    notes = []
    if (window := _window(iterations)) > 1:
        notes.append(f"loss: the median of the last {window} batches, which stays and jumps")
    if steps:
        notes.append("on the right the pixels are noisy")
    task += "; ".join(notes).capitalize()
    with slide(options.out, _title(histories, steps), task) as figure:
        _draw(figure, histories, steps)


if __name__ == "__main__":
    sys.exit(main(_run))
