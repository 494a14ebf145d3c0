"""Makes steps of Adam in separate passes over memory and in one, and counts the bytes that move.

Before the rule gradients are scaled and their norm is limited. After it come an average of the weights, a copy in
float16 for the next forward pass, and zeros for the next sum of gradients. By themselves these are passes like the
rule's own. Both ways give the same bits. The bytes are those of reads and writes, without what a cache adds to a write.
"""

from lib.command_line import Parser, main, whole

# isort: split
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

import fusedstep as fs
from lib.style import COLOURS, GREY, slide

Array = NDArray[Any]
Passes = dict[str, dict[str, int]]

LR, SCALE, CLIP_NORM, AVERAGE = 0.01, 1 / 1024, 1.0, 0.99

# The bytes of each pass by array, for a parameter in float32.
SEPARATE: Passes = {
    "scale": {"gradient": 8},
    "norm": {"gradient": 4},
    "clip": {"gradient": 8},
    "Adam": {"gradient": 4, "parameter": 8, "m": 8, "v": 8},
    "average": {"parameter": 4, "average": 8},
    "copy": {"parameter": 4, "copy": 2},
    "zeros": {"gradient": 4},
}
# PyTorch's fused Adam can scale too. torch-ema's average is three operations with a temporary.
PYTORCH: Passes = SEPARATE | {"average": {"parameter": 4, "average": 12, "temporary": 16}}
FUSED: Passes = {
    "norm": {"gradient": 4},
    "everything else": {"gradient": 8, "parameter": 8, "m": 8, "v": 8, "average": 8, "copy": 2},
}
WAYS = {"PyTorch's operations": PYTORCH, "separate passes": SEPARATE, "fusedstep": FUSED}


def in_passes(w: Array, g: Array, adam: fs.reference.Adam, mean: Array, copy: Array) -> None:
    """A step as separate passes; g becomes zeros."""
    g *= np.float32(SCALE)
    norm = np.sqrt(fs.reference.sum_of_squares(g))
    if norm + 1e-6 > CLIP_NORM:
        g *= np.float32(CLIP_NORM / (norm + 1e-6))
    adam.update(w, g)
    # The first average is a copy.
    mean += np.float32(1 - AVERAGE) * (w - mean) if adam.iterations > 1 else w
    copy[...] = w
    g[...] = 0


def same_bits(size: int, steps: int, seed: int) -> bool:
    """Whether steps in passes and in one have the same bits."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(size, np.float32)
    w, fused_w = start.copy(), start.copy()
    mean = np.zeros_like(w)
    copy, fused_copy = np.zeros(size, np.float16), np.zeros(size, np.float16)
    adam = fs.reference.Adam(LR)
    optimizer = fs.Adam(LR, clip_norm=CLIP_NORM, average=AVERAGE)
    for _ in range(steps):
        g = 1024 * rng.standard_normal(size, np.float32)
        fused_g = g.copy()
        in_passes(w, g, adam, mean, copy)
        optimizer.update(fused_w, fused_g, scale=SCALE, copies=fused_copy, zero_grads=True)
        if fused_g.any():
            return False
    results = (fused_w, w), (optimizer.averages()[0], mean), (fused_copy, copy)
    return all(np.array_equal(ours, theirs) for ours, theirs in results)


def moved(passes: Passes) -> int:
    """The bytes of all passes."""
    return sum(sum(arrays.values()) for arrays in passes.values())


def _draw_bar(ax: Axes, y: float, passes: Passes, colours: dict[str, str]) -> None:
    left = 0
    for i, (name, arrays) in enumerate(passes.items()):
        begin = left
        for array, count in arrays.items():
            ax.barh(y, count, 0.5, left, color=colours[array], edgecolor="white", linewidth=0.4)
            left += count
        ax.plot((begin + 0.15, left - 0.15), (y - 0.33, y - 0.33), color=GREY, linewidth=1)
        raised = 0.13 if i % 2 and left - begin < 7 else 0  # short of room beside its neighbours
        ax.text((begin + left) / 2, y - 0.37 - raised, name, ha="center", va="bottom", color=GREY, fontsize=9)
    ax.text(left + 1, y, f"{left} bytes", va="center", weight="bold")


def draw(out: Path, subtitle: str) -> None:
    """Writes the picture."""
    names = list(dict.fromkeys(array for passes in WAYS.values() for arrays in passes.values() for array in arrays))
    colours = dict(zip(names, COLOURS[1:2] + COLOURS[:1] + COLOURS[2:6] + ("#BBBBBB", "#DDDDDD"), strict=False))
    one, separate = moved(FUSED), moved(SEPARATE)
    with slide(
        out, f"Adam and all around it in one pass: {one} bytes a parameter instead of {separate}", subtitle
    ) as f:
        ax = f.add_axes((0.17, 0.12, 0.8, 0.66))
        for y, passes in enumerate(WAYS.values()):
            _draw_bar(ax, y, passes, colours)
        ax.set(xlim=(0, 1.12 * moved(PYTORCH)), ylim=(len(WAYS) - 0.6, -0.75), xlabel="bytes read and written")
        ax.set_yticks(range(len(WAYS)), list(WAYS))
        ax.tick_params(left=False)
        ax.spines["left"].set_visible(False)
        handles = [Patch(color=colours[name]) for name in names]
        f.legend(handles, names, loc="upper left", bbox_to_anchor=(0.005, 0.885), ncols=len(names), fontsize=9.5)


def _run() -> None:
    parser = Parser(__doc__, "one_step.png")
    parser.add_argument("--size", type=whole(1, 10**8), default=100_000, help="parameters (default: 100000)")
    parser.add_argument("--steps", type=whole(1, 1000), default=10, help="steps (default: 10)")
    arguments = parser.parse_args()
    same = same_bits(arguments.size, arguments.steps, arguments.seed)
    bits = f"{arguments.steps} steps of {arguments.size} parameters: {'the same bits' if same else 'DIFFERENT BITS'}"
    print(bits)
    for name, passes in WAYS.items():
        print(f"{name:<20} {moved(passes)} bytes a parameter")
    draw(arguments.out, f"float32, a copy in float16. {bits} in passes and in one")


if __name__ == "__main__":
    sys.exit(main(_run))
