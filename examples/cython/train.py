"""Trains softmax regression twice, in Cython without the GIL and from Python, and compares the bits."""

import argparse
import time

import numpy as np
import softmax
from sklearn.datasets import load_digits

import fusedstep as fs

BATCH, LR = 50, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30, help="epochs (%(default)s)")
    epochs = parser.parse_args().epochs

    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.uint8)
    weights, bias = np.zeros((64, 10), np.float32), np.zeros(10, np.float32)
    params = {"W": weights.copy(), "b": bias.copy()}
    dweights, dbias, p = np.empty_like(weights), np.empty_like(bias), np.empty_like(bias)

    start = time.perf_counter()
    state = [np.zeros_like(a) for a in (weights, weights, bias, bias)]
    t = 0
    for _ in range(epochs):
        t = softmax.train_epoch(images, labels, BATCH, t, LR, weights, bias, dweights, dbias, p, *state)
    in_cython = time.perf_counter() - start

    start = time.perf_counter()
    optimizer = fs.Adam(LR)
    for _ in range(epochs):
        for first in range(0, len(images), BATCH):
            batch = slice(first, first + BATCH)
            softmax.batch_gradients(images[batch], labels[batch], params["W"], params["b"], dweights, dbias, p)
            optimizer.update(params, {"W": dweights, "b": dbias})
    from_python = time.perf_counter() - start

    same = np.array_equal(weights, params["W"]) and np.array_equal(bias, params["b"])
    right = np.mean((images @ weights + bias).argmax(axis=1) == labels)
    print(f"{t} updates, {right:.1%} of the digits right, {'the same bits' if same else 'OTHER BITS'}")
    print(f"{in_cython:.2f} s in Cython, {from_python:.2f} s from Python")


if __name__ == "__main__":
    main()
