"""Trains on few images without and with dropout: without, the network learns them by heart.

As in chapter 6 of *Deep Learning from Scratch*: 300 images, six hidden layers of 100 units, ReLU, plain gradient
descent, batches of 100, dropout after each hidden layer in training and not in the test. The book's dropout of 0.2 and
learning rate of 0.01 suit MNIST; here they are 0.1 and 0.02.

scikit-learn's digits are so easy that a network which knows 300 of them by heart still reads 95 % of the others. So a
tenth of the training labels are made wrong: overfitting is to learn those too. The labels of the test are right.
"""

from lib.command_line import main

# isort: split
import sys

from lib.overfitting import compare

DROPOUT = 0.1


def _run() -> None:
    variants = {"without dropout": {}, "with dropout": {"dropout": DROPOUT}}
    compare(__doc__, "dropout.png", variants)


if __name__ == "__main__":
    sys.exit(main(_run))
