"""The formulas of the book's second volume for words, as one would write them from its pages, with dense gradients."""

from typing import Any

import numpy as np

import fusedstep as fs

# Scripts of the book draw from NumPy's global generator.
_random: Any = np.random


class Embedding:
    def __init__(self, W: Any) -> None:  # noqa: N803
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, idx: Any) -> Any:
        self.idx = idx
        return self.params[0][idx]

    def backward(self, dout: Any) -> None:
        self.grads[0].fill(0)
        np.add.at(self.grads[0], self.idx, dout)


class TimeEmbedding:
    def __init__(self, W: Any) -> None:  # noqa: N803
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, xs: Any) -> Any:
        self._xs = xs
        return self.params[0][xs].astype(np.float32)

    def backward(self, dout: Any) -> None:
        total: Any = 0
        for t in range(self._xs.shape[1]):
            step = np.zeros_like(self.params[0])
            np.add.at(step, self._xs[:, t], dout[:, t])
            total = total + step
        self.grads[0][...] = total


class EmbeddingDot:
    def __init__(self, W: Any) -> None:  # noqa: N803
        self.embed = Embedding(W)
        self.params, self.grads = self.embed.params, self.embed.grads

    def forward(self, h: Any, idx: Any) -> Any:
        self.h, self.rows = h, self.embed.forward(idx)
        return (self.rows * h).sum(axis=1)

    def backward(self, dout: Any) -> Any:
        self.embed.backward(dout[:, np.newaxis] * self.h)
        return dout[:, np.newaxis] * self.rows


class SigmoidWithLoss:
    def forward(self, x: Any, t: Any) -> Any:
        self.t, self.y = t, 1 / (1 + np.exp(-x))
        right = np.where(t == 1, self.y, 1 - self.y)
        return -np.log(right + 1e-7).sum() / len(t)

    def backward(self, dout: float) -> Any:
        return (self.y - self.t) * dout / len(self.t)


class UnigramSampler:
    at_once = False

    def __init__(self, corpus: Any, power: float, sample_size: int) -> None:
        self.sample_size = sample_size
        _, counts = np.unique(corpus, return_counts=True)
        self.vocab_size = len(counts)
        self.word_p = counts.astype(float) ** power
        self.word_p /= self.word_p.sum()

    def get_negative_sample(self, target: Any) -> Any:
        shape = len(target), self.sample_size
        if self.at_once:
            return _random.choice(self.vocab_size, shape, p=self.word_p)
        negative = np.zeros(shape, np.int32)
        for n, word in enumerate(target):
            p = self.word_p.copy()
            p[word] = 0
            p /= p.sum()
            negative[n] = _random.choice(self.vocab_size, self.sample_size, replace=False, p=p)
        return negative


class SamplerAtOnce(UnigramSampler):
    at_once = True


class NegativeSamplingLoss:
    def __init__(self, W: Any, corpus: Any, power: float = 0.75, sample_size: int = 5, at_once: bool = False) -> None:  # noqa: N803
        self.sampler = (SamplerAtOnce if at_once else UnigramSampler)(corpus, power, sample_size)
        self.pairs = [(EmbeddingDot(W), SigmoidWithLoss()) for _ in range(sample_size + 1)]
        self.params = [W for _ in self.pairs]
        self.grads = [dot.grads[0] for dot, _ in self.pairs]

    def forward(self, h: Any, target: Any) -> Any:
        words = [target, *self.sampler.get_negative_sample(target).T]
        labels = [np.ones(len(target), np.int32)] + [np.zeros(len(target), np.int32)] * (len(words) - 1)
        return sum(
            loss.forward(dot.forward(h, word), label)
            for (dot, loss), word, label in zip(self.pairs, words, labels, strict=True)
        )

    def backward(self, dout: float = 1) -> Any:
        return sum(dot.backward(loss.backward(dout)) for dot, loss in self.pairs)


class Cbow:
    """The continuous bag of words, of this module's layers or of another's."""

    def __init__(
        self, layers: Any, vocab_size: int, hidden_size: int, window_size: int, corpus: Any, at_once: bool = False
    ) -> None:
        w_in, w_out = (0.01 * _random.randn(vocab_size, hidden_size).astype("f") for _ in range(2))
        self.in_layers = [layers.Embedding(w_in) for _ in range(2 * window_size)]
        self.loss = layers.NegativeSamplingLoss(w_out, corpus, power=0.75, sample_size=5, at_once=at_once)
        self.params = [w_in] * len(self.in_layers) + self.loss.params
        self.grads = [layer.grads[0] for layer in self.in_layers] + self.loss.grads

    def forward(self, contexts: Any, target: Any) -> Any:
        h = sum(layer.forward(contexts[:, n]) for n, layer in enumerate(self.in_layers)) / len(self.in_layers)
        return self.loss.forward(h, target)

    def backward(self) -> None:
        dout = self.loss.backward() / len(self.in_layers)
        for layer in self.in_layers:
            layer.backward(dout)


def remove_duplicate(params: Any, grads: Any) -> Any:
    """Adds a gradient to that of an earlier parameter, if this is the same array or equal to it transposed."""
    left: list[tuple[Any, Any]] = []
    for w, g in zip(params, grads, strict=True):
        for earlier, total in left:
            if earlier is w:
                total += g
                break
            if earlier.ndim == w.ndim == 2 and earlier.T.shape == w.shape and (w == earlier.T).all():
                total += g.T
                break
        else:
            left.append((w, g))
    return [w for w, _ in left], [g for _, g in left]


def clip_grads(grads: Any, max_norm: float) -> None:
    rate = max_norm / (np.sqrt(sum((g**2).sum() for g in grads)) + 1e-6)
    if rate < 1:
        for g in grads:
            g *= rate


def matrix(rng: np.random.Generator, shape: tuple[int, ...] = (50, 7), dtype: Any = "float32") -> Any:
    return (0.1 * rng.standard_normal(shape)).astype(dtype)


def assert_rows(gradient: Any, expected: Any) -> None:
    """The gradient is rows still, and has the bits of an array."""
    assert isinstance(gradient.rows(), fs.Rows)
    dense = np.zeros_like(expected)
    np.add.at(dense, gradient.indices, gradient.values)
    np.testing.assert_array_equal(dense, expected, strict=True)
    np.testing.assert_array_equal(gradient.copy(), expected, strict=True)
    np.testing.assert_array_equal(np.signbit(gradient.copy()), np.signbit(expected))
    assert isinstance(gradient.rows(), fs.Rows)
