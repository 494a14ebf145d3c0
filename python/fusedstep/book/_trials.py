"""Our classes and functions for the book's, and trials that show whether the reader's have the same numbers.

A trial makes objects of a class, or calls a function, and returns an object, or None, and all results. The inputs have
sizes at which a change of any constant of the book changes the results.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fusedstep import book


class LegacyNesterov(book.Nesterov):
    """`fusedstep.book.Nesterov` in its legacy order, with the arguments of the book's class."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr, momentum, legacy=True)


class SamplerAtOnce(book.UnigramSampler):
    """`fusedstep.book.UnigramSampler` that draws at once, with the arguments of the book's class."""

    def __init__(self, corpus: Any, power: float, sample_size: int) -> None:
        super().__init__(corpus, power, sample_size, at_once=True)


def _try_optimizer(make: Callable[..., Any]) -> list[Any]:
    wave = np.sin(np.arange(1.0, 13.0)).reshape(3, 4)
    first, other = wave + 2, wave[0] - 3
    optimizer = make()
    params: Any = [first, other]
    grads: Any = [np.zeros_like(first), np.zeros_like(other)]
    try:
        optimizer.update(params, grads)
    except Exception:  # the second volume has lists, the first dicts
        optimizer, keys = make(), ("W", "b")
        params, grads = dict(zip(keys, params, strict=True)), dict(zip(keys, grads, strict=True))
        optimizer.update(params, grads)
    for step in range(1, 6):
        for n, key in enumerate(params if isinstance(params, dict) else (0, 1)):
            grads[key][...] = np.cos(step * params[key]) * np.logspace(-8, 3, 4) * (n + 1)
        optimizer.update(params, grads)
    # If params has other arrays now, layers that hold the first ones have not learned.
    return [optimizer, first, other, *(params.values() if isinstance(params, dict) else params)]


def _try_batch_normalization(make: Callable[..., Any]) -> list[Any]:
    results = []
    wave = np.sin(np.arange(48.0) ** 2)
    for shape in ((4, 12), (4, 3, 2, 2)):
        layer = make(gamma=wave[:12] + 2, beta=wave[12:24])
        x = (wave.reshape(4, 12) * np.logspace(-4, 1, 12)).reshape(shape)
        for scale in (1.0, 3.0):
            results += [layer.forward(scale * x, True), layer.backward(np.cos(x)), layer.dgamma, layer.dbeta]
        results += [layer.forward(x, False), layer.running_mean, layer.running_var]
    return [layer, *results]


def _try_dropout(make: Callable[..., Any]) -> list[Any]:
    np.random.seed(0)  # noqa: NPY002, the state is restored
    layer, x = make(), np.arange(1.0, 61.0).reshape(3, 20)
    results = [layer.forward(x, True), layer.backward(2 * x), layer.forward(x, False)]
    return [layer, *results, np.random.rand()]  # noqa: NPY002


_CORPUS = np.array([0, 1, 2, 0, 3, 4, 0, 5, 6, 1, 7, 2, 0, 8, 9, 1])


def _matrix() -> Any:
    return np.sin(np.arange(30.0) ** 2).reshape(10, 3)


def _try_embedding_with(make: Callable[..., Any], batches: list[list[Any]]) -> list[Any]:
    w, results = _matrix(), []
    layer = make(W=w)
    for batch in batches:
        y = layer.forward(np.array(batch))
        layer.backward(np.cos(np.arange(y.size)).reshape(y.shape))
        results += [y, np.array(layer.grads[0])]
    return [layer, *results, layer.params[0] is w]


def _try_embedding(make: Callable[..., Any]) -> list[Any]:
    return _try_embedding_with(make, [[1, 5, 1, 0], [5, 5, 7, 5]])


def _try_time_embedding(make: Callable[..., Any]) -> list[Any]:
    return _try_embedding_with(make, [[[1, 5, 1], [0, 5, 1]], [[5, 5, 7], [5, 7, 7]]])


def _try_sampler(make: Callable[..., Any]) -> list[Any]:
    np.random.seed(0)  # noqa: NPY002
    sampler = make(corpus=_CORPUS, power=0.6, sample_size=3)
    draws = [sampler.get_negative_sample(_CORPUS[begin : begin + 8]) for begin in (0, 8)]
    return [sampler, sampler.word_p, *draws, np.random.rand()]  # noqa: NPY002


def _try_remove_duplicate(remove: Callable[..., Any]) -> list[Any]:
    w, other = _matrix(), np.cos(_matrix())
    arrays = [w, other, w, w.T, np.ones(3), other, w]
    params, grads = remove(params=arrays, grads=[np.arange(array.size * 1.0).reshape(array.shape) for array in arrays])
    return [None, len(arrays), *params, *grads]


def _try_clip_grads(clip: Callable[..., Any]) -> list[Any]:
    results = []
    for max_norm in (0.25, 1e6):
        grads = [_matrix(), np.arange(4.0)]
        clip(grads=grads, max_norm=max_norm)
        results += grads
    return [None, *results]


Trial = Callable[[Callable[..., Any]], list[Any]]
Replacements = dict[str, tuple[Trial, tuple[Any, ...]]]

# The module's EmbeddingDot and NegativeSamplingLoss need no others: they use Embedding and UnigramSampler.
_NEGATIVE_SAMPLING: Replacements = {"UnigramSampler": (_try_sampler, (book.UnigramSampler, SamplerAtOnce))}
# By the modules of both volumes. Scripts of chapter 4 import from their own folder or from the one above.
REPLACEMENTS: dict[str, Replacements] = {
    "common.optimizer": {
        "SGD": (_try_optimizer, (book.SGD,)),
        "Momentum": (_try_optimizer, (book.Momentum,)),
        "Nesterov": (_try_optimizer, (book.Nesterov, LegacyNesterov)),
        "AdaGrad": (_try_optimizer, (book.AdaGrad,)),
        "RMSprop": (_try_optimizer, (book.RMSprop,)),
        "Adam": (_try_optimizer, (book.Adam,)),
    },
    "common.layers": {
        "BatchNormalization": (_try_batch_normalization, (book.BatchNormalization,)),
        "Dropout": (_try_dropout, (book.Dropout,)),
        "Embedding": (_try_embedding, (book.Embedding,)),
    },
    "common.time_layers": {"TimeEmbedding": (_try_time_embedding, (book.TimeEmbedding,))},
    "common.trainer": {"remove_duplicate": (_try_remove_duplicate, (book.remove_duplicate,))},
    "common.util": {"clip_grads": (_try_clip_grads, (book.clip_grads,))},
    "ch04.negative_sampling_layer": _NEGATIVE_SAMPLING,
    "negative_sampling_layer": _NEGATIVE_SAMPLING,
}
