"""Trains on few images without and with weight decay: without, the network learns them by heart.

As in chapter 6 of *Deep Learning from Scratch*: 300 images, six hidden layers of 100 units, ReLU, plain gradient
descent, batches of 100. The book's learning rate of 0.01 and decay of 0.1 suit MNIST; here they are 0.02 and 0.03.
Weights decay and biases don't: two optimizers share the parameters, as with PyTorch's parameter groups.

scikit-learn's digits are so easy that a network which knows 300 of them by heart still reads 95 % of the others. So a
tenth of the training labels are made wrong: overfitting is to learn those too. The labels of the test are right.
"""

from lib.command_line import main

# isort: split
import sys

from lib.overfitting import compare

WEIGHT_DECAY = 0.03


def _run() -> None:
    variants = {"without weight decay": {}, "with weight decay": {"weight_decay": WEIGHT_DECAY}}
    compare(__doc__, "weight_decay.png", variants)


if __name__ == "__main__":
    sys.exit(main(_run))
