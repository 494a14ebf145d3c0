"""Negative sampling of the second volume: the same random numbers, found in sums that are kept between calls."""

import bisect
import collections
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedstep._limits import checked_count, checked_flag
from fusedstep.book._embedding import Embedding


class EmbeddingDot:
    """Products of vectors with rows of a matrix: y[n] = sum(W[idx[n]] h[n]).

    Arguments:
        W: The matrix, an array of shape (rows, H).
    """

    def __init__(self, W: Any) -> None:  # noqa: N803, the book's name
        self.embed: Embedding = Embedding(W)
        self.params: list[Any] = self.embed.params
        self.grads: list[Any] = self.embed.grads
        self.cache: Any = None

    def forward(self, h: Any, idx: Any) -> Any:
        """The products of vectors of shape (N, H) with the rows of integers of shape (N,)."""
        rows = self.embed.forward(idx)
        self.cache = h, rows
        return np.sum(rows * h, axis=1)

    def backward(self, dout: Any) -> Any:
        """Sets the gradient of W, as `Embedding` does; returns the gradient of h."""
        h, rows = self.cache
        dout = dout.reshape(len(dout), 1)
        self.embed.backward(dout * h)
        return dout * rows


class _SigmoidWithLoss:
    """The cross entropy of a sigmoid with labels 0 and 1."""

    def __init__(self) -> None:
        self.params: list[Any] = []
        self.grads: list[Any] = []
        self.loss: Any = None
        self.y: Any = None
        self.t: Any = None

    def forward(self, x: Any, t: Any) -> Any:
        self.t = t
        self.y = 1 / (1 + np.exp(-x))
        self.loss = -np.sum(np.log(np.where(t, self.y, 1 - self.y) + 1e-7)) / len(t)
        return self.loss

    def backward(self, dout: float = 1) -> Any:
        return (self.y - self.t) * dout / len(self.t)


class _Search:
    """Words by the sums of their probabilities p."""

    def __init__(self, p: NDArray[np.float64], count: int) -> None:
        np.random.choice(count, 0, p=p / p.sum())  # noqa: NPY002, raises its errors if these are no probabilities
        self.p = p
        sums = p.cumsum()
        self.cumulated = sums / sums[-1]
        # Lists, from which Python takes a number in a third of the time.
        self.each, self.sums = p.tolist(), sums.tolist()
        self.positive = np.count_nonzero(p)
        # Sums of n numbers up to 1 are off by n / 2 eps at most; four of them meet in a search.
        self.margin = 4 * (count + 16) * np.finfo(float).eps * self.sums[-1]

    def with_repetitions(self, shape: tuple[int, int]) -> Any:
        """As np.random.choice(count, shape, p=p)."""
        if abs(self.sums[-1] - 1) > 1e-9:  # it decides
            return np.random.choice(len(self.p), shape, p=self.p)  # noqa: NPY002
        return self.cumulated.searchsorted(np.random.random_sample(shape), side="right")  # noqa: NPY002

    def without_repetitions(self, targets: list[int], size: int) -> list[list[int]]:
        """As np.random.choice(count, size, replace=False, p=p) for each target, with 0 for it in p."""
        numbers = np.random.random_sample(len(targets) * size).tolist()  # noqa: NPY002, it takes as many at least
        begin, samples = 0, []
        for target in targets:
            if not -len(self.each) <= target < len(self.each):
                raise IndexError(f"a target is {target}, the corpus has {len(self.each)} words")
            target %= len(self.each)
            if self.positive - (self.each[target] > 0) < size:
                raise ValueError(f"sample_size is {size}, the corpus has {self.positive} words, one of them the target")
            sample: dict[int, None] = {}
            while missing := size - len(sample):
                if (lacking := begin + missing - len(numbers)) > 0:
                    numbers += np.random.random_sample(lacking).tolist()  # noqa: NPY002
                sample.update(dict.fromkeys(self._words(numbers[begin : begin + missing], target, list(sample))))
                begin += missing
            samples.append(list(sample))
        return samples

    def _words(self, x: list[float], target: int, found: list[int]) -> list[int]:
        removed = sorted((target, *found))
        rest = self.sums[-1] - sum(self.each[word] for word in removed)
        words = []
        for number in x:
            place = number * rest
            for word in removed:
                if place < self.sums[word] - self.each[word]:
                    break
                place += self.each[word]
            word = bisect.bisect_right(self.sums, place)
            below = self.sums[word - 1] if word else -math.inf
            if not (place - below > self.margin and word < len(self.sums) and self.sums[word] - place > self.margin):
                return self._words_by_the_books_sums(x, target, found)
            words.append(word)
        return words

    def _words_by_the_books_sums(self, x: list[float], target: int, found: list[int]) -> list[int]:
        p = self.p.copy()
        p[target] = 0
        p /= p.sum()
        p[found] = 0
        cumulated = np.cumsum(p)
        cumulated /= cumulated[-1]
        words: list[int] = cumulated.searchsorted(x, side="right").tolist()
        return words


class UnigramSampler:
    """Draws words as negative examples, with probabilities that are powers of their counts.

    The random numbers come from NumPy's global generator, as many as the book's code takes, and give the same words.
    The sums of the probabilities are kept between calls.

    Arguments:
        corpus: The text as the numbers of its words, from 0 to below the number of words.
        power: The exponent of the counts.
        sample_size: How many words are drawn for each target.
        at_once: False for words that differ from the target and each other, as in the book on a CPU. True for what it
            does on a GPU: one draw for the whole batch, in which targets and repeated words may occur.
    """

    def __init__(self, corpus: Any, power: float, sample_size: int, at_once: bool = False) -> None:
        self.sample_size: int = checked_count("sample_size", sample_size)
        self.at_once: bool = checked_flag("at_once", at_once)
        counts = collections.Counter(np.asarray(corpus).tolist())
        self.vocab_size: int = len(counts)
        p = np.power([float(counts[word]) for word in range(self.vocab_size)], power)
        self.word_p: NDArray[Any] = p / np.sum(p)
        self._search: _Search | None = None

    def get_negative_sample(self, target: Any) -> Any:
        """Words for the targets, integers of shape (N,), as an array of shape (N, sample_size)."""
        if self._search is None or not np.array_equal(self.word_p, self._search.p):
            self._search = _Search(np.array(self.word_p, np.float64), self.vocab_size)
        shape = len(target), self.sample_size
        if self.at_once:
            return self._search.with_repetitions(shape)
        rows = self._search.without_repetitions(np.asarray(target).tolist(), self.sample_size)
        return np.array(rows, np.int32).reshape(shape)


class NegativeSamplingLoss:
    """The loss of targets and negative examples, each a sigmoid of a product with a row of W and its cross entropy.

    Arguments:
        W: The matrix of the output side, an array of shape (words, H).
        corpus: See `UnigramSampler`.
        power: See `UnigramSampler`.
        sample_size: The number of negative examples for each target.
        at_once: See `UnigramSampler`.
    """

    def __init__(
        self,
        W: Any,  # noqa: N803, the book's name
        corpus: Any,
        power: float = 0.75,
        sample_size: int = 5,
        at_once: bool = False,
    ) -> None:
        self.sampler: UnigramSampler = UnigramSampler(corpus, power, sample_size, at_once)
        self.sample_size: int = self.sampler.sample_size
        self.loss_layers: list[Any] = [_SigmoidWithLoss() for _ in range(sample_size + 1)]
        self.embed_dot_layers: list[EmbeddingDot] = [EmbeddingDot(W) for _ in range(sample_size + 1)]
        self.params: list[Any] = [w for layer in self.embed_dot_layers for w in layer.params]
        self.grads: list[Any] = [g for layer in self.embed_dot_layers for g in layer.grads]

    def forward(self, h: Any, target: Any) -> Any:
        """The loss of vectors of shape (N, H) with targets, integers of shape (N,)."""
        negative = self.sampler.get_negative_sample(target)
        loss: Any = 0
        for n, (loss_layer, dot_layer) in enumerate(zip(self.loss_layers, self.embed_dot_layers, strict=True)):
            words = negative[:, n - 1] if n else target
            labels = np.full(len(target), 0 if n else 1, np.int32)
            loss += loss_layer.forward(dot_layer.forward(h, words), labels)
        return loss

    def backward(self, dout: float = 1) -> Any:
        """Sets the gradients of W, one for each product; returns the gradient of h."""
        dh: Any = 0
        for loss_layer, dot_layer in zip(self.loss_layers, self.embed_dot_layers, strict=True):
            dh += dot_layer.backward(loss_layer.backward(dout))
        return dh
