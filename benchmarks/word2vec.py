"""Iterations of word2vec with negative sampling, as in the book's second volume: CBOW in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np

import book2_formulas
import book_formulas
from benchmarks.workloads import BOOK, LR, OURS
from fusedstep import book

WORDS, HIDDEN, WINDOW, BATCH = 100_000, 100, 5, 100
WORK = f"{WORDS} words"
_FORMULAS: dict[str, Any] = {"SGD": book_formulas.Sgd, "AdaGrad": book_formulas.AdaGrad}
RULES = tuple(_FORMULAS)
ROWS = (BOOK, OURS)
# How words are drawn: at once for the batch, or without repetitions for each target, as the book does on a CPU.
DRAWS = {"at once": True, "one by one": False}
_random: Any = np.random  # from which the book draws


class Training:
    """A network and its optimizer; each iteration has another batch."""

    def __init__(self, row: str, rule: str, draws: str) -> None:
        _random.seed(1)
        corpus = np.concatenate([np.arange(WORDS), _random.zipf(1.2, 2 * WORDS).clip(1, WORDS) - 1])
        self._corpus, self._begin = corpus[_random.permutation(len(corpus))], WINDOW
        self._layers: Any = {BOOK: book2_formulas, OURS: book}[row]
        self._rule: Any = _FORMULAS[rule](lr=LR) if row == BOOK else getattr(book, rule)(LR)
        self._is_book = row == BOOK
        self._model = book2_formulas.Cbow(self._layers, WORDS, HIDDEN, WINDOW, self._corpus, DRAWS[draws])
        self.params: Any = None

    def step(self) -> Any:
        """One iteration; returns the loss."""
        at = np.arange(self._begin, self._begin + BATCH)
        self._begin = WINDOW + (self._begin + BATCH) % (len(self._corpus) - 2 * WINDOW - BATCH)
        around = [n for n in range(-WINDOW, WINDOW + 1) if n]
        loss = self._model.forward(self._corpus[at[:, np.newaxis] + around], self._corpus[at])
        self._model.backward()
        self.params, grads = self._layers.remove_duplicate(self._model.params, self._model.grads)
        if self._is_book:
            self._rule.update(dict(enumerate(self.params)), dict(enumerate(grads)))
        else:
            self._rule.update(self.params, grads)
        return loss


def checked(row: str, rule: str, draws: str) -> Callable[[], Any]:
    """Makes the first iterations and compares losses and weights, all of them, with the book's formulas."""
    results = []
    for name in {BOOK, row}:
        training = Training(name, rule, draws)
        results.append(([training.step() for _ in range(3)], training.params))
    np.testing.assert_equal(results[0], results[-1])
    training = Training(row, rule, draws)
    training.step()
    return training.step
