"""A small folder that is laid out as the book's first volume is, to run scripts in."""

import os
import subprocess
import sys
from pathlib import Path

OPTIMIZERS = """
import sys
import numpy as np

class SGD:
    def __init__(self, lr=0.01):
        self.lr = lr

    def update(self, params, grads):
        for k in params.keys():
            params[k] -= self.lr * grads[k]

class Nesterov:
    def __init__(self, lr=0.01, momentum=0.9):
        self.lr, self.momentum, self.v = lr, momentum, {}

    def update(self, params, grads):
        a = self.momentum
        for k in params.keys():
            old = self.v.get(k, np.zeros_like(params[k]))
            new = a * old - self.lr * grads[k]
            params[k] += a * a * VELOCITY
            params[k] -= (1 + a) * self.lr * grads[k]
            self.v[k] = new

class AdaGrad:
    def __init__(self, lr=0.01):
        self.lr, self.h = lr, {}

    def update(self, params, grads):
        for k in params.keys():
            self.h[k] = self.h.get(k, 0.0) + grads[k] ** 2
            params[k] -= self.lr * grads[k] / (np.sqrt(self.h[k]) + 1e-7)

class Own(AdaGrad):
    pass
"""

LAYERS = """
import numpy as np

class Affine:
    def __init__(self, W):
        self.W = W

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dout):
        self.dW = self.x.T @ dout
        return dout @ self.W.T

class Dropout:
    def __init__(self, dropout_ratio=0.5):
        self.dropout_ratio = dropout_ratio

    def forward(self, x, train_flg=True):
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask

class BatchNormalization:
    def __init__(self, gamma, beta, momentum=0.9, running_mean=None, running_var=None):
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean, self.running_var = running_mean, running_var

    def forward(self, x, train_flg=True):
        shape, x = x.shape, x.reshape(len(x), -1)
        if self.running_mean is None:
            self.running_mean = self.running_var = 0.0
        mean, var = (x.mean(axis=0), x.var(axis=0)) if train_flg else (self.running_mean, self.running_var)
        self.std = np.sqrt(var + 1e-6)
        self.xn = (x - mean) / self.std
        if train_flg:
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        return (self.gamma * self.xn + self.beta).reshape(shape)

    def backward(self, dout):
        shape, dout = dout.shape, dout.reshape(len(dout), -1)
        self.dbeta, self.dgamma = dout.sum(axis=0), (dout * self.xn).sum(axis=0)
        dx = dout - (self.dbeta + self.xn * self.dgamma) / len(dout)
        return (self.gamma / self.std * dx).reshape(shape)
"""

TRAINER = """
from common.optimizer import *

class Trainer:
    def __init__(self, optimizer):
        self.optimizer = {"sgd": SGD, "nesterov": Nesterov, "adagrad": AdaGrad}[optimizer](lr=0.1)
"""


def made(folder: Path) -> Path:
    """Makes the folder; returns the one of its scripts."""
    for name in ("common", "ch06"):
        (folder / name).mkdir()
    (folder / "common" / "optimizer.py").write_text(OPTIMIZERS.replace("VELOCITY", "old"))
    (folder / "common" / "layers.py").write_text(LAYERS)
    (folder / "common" / "trainer.py").write_text(TRAINER)
    return folder / "ch06"


def change(chapter: Path, module: str, old: str, new: str) -> None:
    """Changes a module as a reader may, at the first place."""
    path = chapter.parent / "common" / f"{module}.py"
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def run(*words: str, folder: Path, plain: bool = False) -> tuple[str, str, int]:
    """What a script writes to stdout and stderr, and its status, with the runner or without it."""
    command = [sys.executable, "-W", "error", *(() if plain else ("-m", "fusedstep.book")), *words]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the tests change modules within a second
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr, done.returncode
