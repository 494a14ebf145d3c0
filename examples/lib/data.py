"""The handwritten digits that the examples train on: scikit-learn's, or MNIST from its files."""

from pathlib import Path

import numpy as np

from lib import mnist
from lib.mnist import Images

TEST_IMAGES = 360


def images(directory: Path | None = None) -> Images:
    """MNIST from a directory, or scikit-learn's digits: 1437 images of 8 x 8 pixels to train on and 360 for the test.

    Raises:
        ValueError, OSError: As for `mnist.load`.
    """
    return mnist.load(directory) if directory else _digits()


def _digits() -> Images:
    from sklearn.datasets import load_digits  # takes a second, in which Ctrl-C would end in a traceback

    pixels, labels = load_digits(return_X_y=True)
    # The same split whatever the seed is; the file is sorted by writer, so it has to be shuffled.
    order = np.random.default_rng(0).permutation(len(labels))
    x, t = pixels[order].astype(np.uint8), labels[order].astype(np.uint8)
    return Images(x[:-TEST_IMAGES], t[:-TEST_IMAGES], x[-TEST_IMAGES:], t[-TEST_IMAGES:], 16)
