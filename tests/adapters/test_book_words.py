"""The second volume's layers of words and what its trainer does with gradients, against the formulas."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import book2_formulas
import fusedstep as fs
from book2_formulas import assert_rows, matrix
from book_formulas import AdaGrad, Sgd
from fusedstep import book

_random: Any = np.random  # the book's generator is the global one
DTYPES = pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
# Gradients that float32 weights get are often of float64, as the sigmoid's labels are integers.
DOUT = pytest.mark.parametrize("dout_dtype", ["float16", "float32", "float64", "int32"])


def draws(rng: np.random.Generator, shape: Any, dtype: Any) -> Any:
    if dtype == "int32":
        return rng.integers(-9, 9, shape).astype(dtype)
    return np.array(rng.standard_normal(shape) * (rng.random(shape) < 0.9), dtype)  # zeros of both signs


INDICES: dict[str, Any] = {
    "one axis": np.array([3, 3, 0, 49, 3, 0]),
    "two axes": np.array([[3, 3, 0], [49, 3, 0]], np.int32),
    "unsigned": np.array([3, 49, 3], np.uint8),
    "negative": np.array([-1, 49, -50, 0]),
    "list": [3, 3, 1],
    "number": 3,
    "number of NumPy's": np.int64(3),
    "one element": np.array(3),
    "none": np.array([], np.int64),
    "none of two axes": np.zeros((2, 0), np.int64),
    "strided": np.arange(40)[::-3] // 4,
}


@DTYPES
@DOUT
@pytest.mark.parametrize("shape", [(50, 7), (50,), (50, 2, 3), (50, 0)], ids=str)
@pytest.mark.parametrize("kind", INDICES)
def test_embedding(kind: str, shape: tuple[int, ...], dtype: str, dout_dtype: str, rng: np.random.Generator) -> None:
    w, idx = matrix(rng, shape, dtype), INDICES[kind]
    ours, formula = book.Embedding(w), book2_formulas.Embedding(w)
    assert ours.params[0] is w
    for _ in range(2):
        y = ours.forward(idx)
        np.testing.assert_array_equal(y, formula.forward(idx), strict=True)
        assert ours.idx is idx
        dout = draws(rng, np.shape(y), dout_dtype)
        before = dout.copy()
        assert ours.backward(dout) is None  # type: ignore[func-returns-value]
        formula.backward(dout)
        np.testing.assert_array_equal(dout, before)
        dout[...] = 99  # the gradient has values of its own
        assert_rows(ours.grads[0], formula.grads[0])


OTHER_INDICES: dict[str, Any] = {
    "mask": np.arange(50) % 3 == 0,
    "slice": slice(3, 30, 4),
    "tuple": (np.array([1, 1]), np.array([2, 2])),
}


@DTYPES
@pytest.mark.parametrize("kind", OTHER_INDICES)
def test_other_indices_are_the_books(kind: str, dtype: str, rng: np.random.Generator) -> None:
    w, idx = matrix(rng, dtype=dtype), OTHER_INDICES[kind]
    ours, formula = book.Embedding(w), book2_formulas.Embedding(w)
    for index in (idx, np.array([5, 5])):
        dout = rng.standard_normal(ours.forward(index).shape)
        formula.forward(index)
        ours.backward(dout)
        formula.backward(dout)
        np.testing.assert_array_equal(ours.grads[0].copy(), formula.grads[0], strict=True)
    assert_rows(ours.grads[0], formula.grads[0])


def test_a_broadcast_gradient_and_wrong_ones(rng: np.random.Generator) -> None:
    w, idx = matrix(rng), np.array([1, 4, 1])
    ours, formula = book.Embedding(w), book2_formulas.Embedding(w)
    for layer in (ours, formula):
        layer.forward(idx)
        layer.backward(np.arange(7.0))
    assert_rows(ours.grads[0], formula.grads[0])
    for layer in (ours, formula):
        with pytest.raises(ValueError, match="broadcast"):
            layer.backward(np.ones((3, 6)))
    ours.idx = np.array([0, 50])
    with pytest.raises(IndexError, match=r"^an index is 50, the matrix has 50 rows$"):
        ours.backward(np.ones((2, 7)))
    ours.idx = np.array([[0, -51]])
    with pytest.raises(IndexError, match=r"^an index is -51, the matrix has 50 rows$"):
        ours.backward(np.ones((1, 2, 7)))


@pytest.mark.parametrize(
    "w",
    [np.arange(12).reshape(4, 3), np.ones((4, 3), np.longdouble), np.ones((4, 3), np.dtype("f").newbyteorder())],
    ids=["int", "longdouble", "other bytes"],
)
def test_matrices_that_optimizers_do_not_take_have_arrays(w: Any) -> None:
    layer = book.Embedding(w)
    assert type(layer.grads[0]) is np.ndarray
    layer.forward(np.array([1, 1]))
    layer.backward(np.ones((2, 3), w.dtype))
    expected = np.outer([0, 2, 0, 0], np.ones(3)).astype(w.dtype)
    np.testing.assert_array_equal(layer.grads[0], expected, strict=True)


@DTYPES
@DOUT
@pytest.mark.parametrize("shape", [(4, 9), (1, 5), (5, 1), (0, 3), (3, 0)], ids=str)
def test_time_embedding(shape: tuple[int, int], dtype: str, dout_dtype: str, rng: np.random.Generator) -> None:
    w = matrix(rng, (6, 3), dtype)
    ours, formula = book.TimeEmbedding(w), book2_formulas.TimeEmbedding(w)
    assert ours.W is ours.params[0] is w
    for _ in range(2):
        xs, dout = rng.integers(0, 6, shape), draws(rng, (*shape, 3), dout_dtype)
        np.testing.assert_array_equal(ours.forward(xs), formula.forward(xs), strict=True)
        ours.backward(dout)
        formula.backward(dout)
        assert_rows(ours.grads[0], formula.grads[0])
    dense = book.TimeEmbedding(w)
    dense.grads[0] = np.full_like(w, 5)  # a reader's own array
    dense.forward(xs)
    dense.backward(dout)
    np.testing.assert_array_equal(dense.grads[0], formula.grads[0], strict=True)


WEIGHTS = pytest.mark.parametrize("shared", ["nothing", "embeddings", "tied", "tied, the product first", "all"])


@WEIGHTS
@DTYPES
def test_remove_duplicate_and_clip_grads(shared: str, dtype: str, rng: np.random.Generator) -> None:
    """Several layers of one matrix, and one that multiplies by it transposed."""
    w = matrix(rng, (6, 4), dtype)
    matrices = (
        [w, w, w] if shared in ("embeddings", "all") else [w, matrix(rng, (6, 4), dtype), matrix(rng, (6, 4), dtype)]
    )
    results = []
    for layers in (book, book2_formulas):
        generator = np.random.default_rng(5)
        made = [layers.Embedding(m) for m in matrices[:2]] + [layers.TimeEmbedding(matrices[2])]
        for n, layer in enumerate(made):
            y = layer.forward(generator.integers(0, 5, (3, 4)))
            layer.backward(generator.standard_normal(y.shape) * (n + 1))
        params, grads = [m.params[0] for m in made], [m.grads[0] for m in made]
        other = generator.standard_normal((4, 6)).astype(dtype)
        at = 0 if "first" in shared else 3
        tied = "tied" in shared or shared == "all"
        params.insert(at, w.T if tied else other.copy())
        grads.insert(at, generator.standard_normal((4, 6)).astype(dtype))
        unique, sums = layers.remove_duplicate(params, grads)
        assert len(params) == len(grads) == 4
        results.append((unique, sums))
    (ours, our_sums), (theirs, sums) = results
    np.testing.assert_equal(ours, theirs)
    # First, because np.array of NumPy 2.0 asks for a shared array before it copies, which ends a gradient of rows.
    if shared in ("nothing", "embeddings"):
        assert all(isinstance(g.rows(), fs.Rows) for g in our_sums if hasattr(g, "rows"))
    for got, right in zip(our_sums, sums, strict=True):
        np.testing.assert_array_equal(np.array(got), right, strict=True)
    for max_norm in (1e4, 1.0, 0.25):
        book.clip_grads(our_sums, max_norm)
        book2_formulas.clip_grads(sums, max_norm)
        # The norm is a sum of at most 100 squares in another order; float16 sums in float16, and rounds.
        eps = float(np.finfo(dtype).eps)
        for got, right in zip(our_sums, sums, strict=True):
            np.testing.assert_allclose(np.array(got), right, rtol=50 * eps, atol=1e-7 if dtype == "float16" else 0)


@pytest.mark.parametrize("vocab_size", [7, 8, 30, 2000])
@pytest.mark.parametrize("sample_size", [0, 1, 5])
@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_negative_samples_are_the_books(
    vocab_size: int, sample_size: int, power: float, rng: np.random.Generator
) -> None:
    corpus = np.concatenate([np.arange(vocab_size), rng.zipf(1.5, 5000).clip(1, vocab_size) - 1])
    for at_once, formula in ((False, book2_formulas.UnigramSampler), (True, book2_formulas.SamplerAtOnce)):
        theirs = formula(corpus, power, sample_size)
        for given in (corpus, corpus.tolist(), corpus.astype(np.int32)):
            ours = book.UnigramSampler(given, power, sample_size, at_once)
            assert (ours.vocab_size, ours.sample_size) == (vocab_size, sample_size)
            np.testing.assert_array_equal(ours.word_p, theirs.word_p)
            for seed in range(10):
                target = corpus[rng.integers(0, len(corpus), 40)]
                drawn = []
                for sampler in (ours, theirs):
                    _random.seed(seed)
                    drawn.append((sampler.get_negative_sample(target), _random.rand()))
                np.testing.assert_array_equal(drawn[0][0], drawn[1][0], strict=True)
                assert drawn[0][1] == drawn[1][1]


class Numbers:
    """A generator whose numbers are given."""

    def __init__(self, numbers: Any) -> None:
        self._left = list(numbers)

    def random_sample(self, shape: Any) -> Any:
        count = int(np.prod(shape))
        taken, self._left = self._left[:count], self._left[count:]
        assert len(taken) == count
        return np.array(taken).reshape(shape)


@pytest.mark.parametrize("vocab_size", [5, 50, 300])
@pytest.mark.parametrize("repeated", [False, True])
def test_negative_samples_near_the_bounds_of_words(
    vocab_size: int, repeated: bool, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """Numbers that are on the bounds of words' shares, where rounding decides, and next to them."""
    counts = rng.zipf(1.5, vocab_size).clip(1, 1000)
    ours = book.UnigramSampler(np.arange(vocab_size).repeat(counts), 0.75, 3)
    for target in {0, 1, vocab_size // 3, vocab_size - 1}:
        p = ours.word_p.copy()
        p[target] = 0
        p /= p.sum()
        first = p.copy()
        if repeated:  # a word three times, so that two others are drawn from the rest
            first[int(np.cumsum(p).searchsorted(0.5, side="right"))] = 0
        bounds = np.cumsum(first)
        bounds /= bounds[-1]
        for ulps in (-2, -1, 0, 1, 2):
            near = (bounds + ulps * np.spacing(bounds)).clip(0, 1 - 2**-53)
            for start in range(0, vocab_size - 1, 2):
                numbers = [*([0.5] * 3 if repeated else []), *near[start : start + 2], *rng.random(60)]
                expected = _choice_without_repetitions(p, 3, Numbers(numbers).random_sample)
                monkeypatch.setattr(np.random, "random_sample", Numbers(numbers).random_sample)
                np.testing.assert_array_equal(ours.get_negative_sample(np.array([target]))[0], expected)


def _choice_without_repetitions(p: Any, size: int, take: Callable[[int], Any]) -> Any:
    """NumPy's algorithm of choice(replace=False, p=p), with numbers that are given."""
    p, found = p.copy(), np.zeros(0, int)
    while len(found) < size:
        x = take(size - len(found))
        p[found] = 0
        cumulated = np.cumsum(p)
        cumulated /= cumulated[-1]
        new = cumulated.searchsorted(x, side="right")
        found = np.concatenate([found, new[np.sort(np.unique(new, return_index=True)[1])]])
    return found


def test_the_sampler_follows_its_probabilities() -> None:
    corpus, target = np.arange(20).repeat(3), np.array([1, 2, 3])
    ours, theirs = book.UnigramSampler(corpus, 0.75, 4), book2_formulas.UnigramSampler(corpus, 0.75, 4)

    def check() -> None:
        drawn = []
        for sampler in (ours, theirs):
            _random.seed(3)
            drawn.append(sampler.get_negative_sample(target))
        np.testing.assert_array_equal(*drawn)

    check()
    for sampler in (ours, theirs):
        sampler.word_p[4:9] = 0  # in place
    check()
    for sampler in (ours, theirs):
        sampler.word_p = np.linspace(0, 1, 20)
    check()
    ours.at_once = True
    with pytest.raises(ValueError, match=r"[Pp]robabilities do not sum to 1"):
        ours.get_negative_sample(target)
    ours.at_once = False
    ours.word_p = np.full(20, np.nan)
    with pytest.raises(ValueError, match=r"[Pp]robabilities"):
        ours.get_negative_sample(target)
    few = book.UnigramSampler([0, 1, 2, 3], 0.75, 4)
    with pytest.raises(ValueError, match=r"^sample_size is 4, the corpus has 4 words, one of them the target$"):
        few.get_negative_sample(target)
    with pytest.raises(IndexError, match=r"^a target is 20, the corpus has 20 words$"):
        book.UnigramSampler(corpus, 0.75, 4).get_negative_sample(np.array([20]))


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("ours", "formula"), [(book.SGD, Sgd), (book.AdaGrad, AdaGrad)])
def test_word2vec_has_the_books_losses(ours: Any, formula: Any, at_once: bool, threads: int) -> None:
    """Losses and weights, in float32, to the bit."""
    rng = np.random.default_rng(7)
    corpus = np.concatenate([np.arange(200), rng.zipf(1.3, 3000).clip(1, 200) - 1])
    results = []
    for layers in (book, book2_formulas):
        _random.seed(1)
        model = book2_formulas.Cbow(layers, 200, 10, 2, corpus, at_once)
        stepper: Any = ours(0.5) if layers is book else formula(lr=0.5)
        losses = []
        for step in range(12):
            at = np.arange(2 + 30 * step, 32 + 30 * step)
            losses.append(model.forward(corpus[at[:, np.newaxis] + [-2, -1, 1, 2]], corpus[at]))
            model.backward()
            params, grads = layers.remove_duplicate(model.params, model.grads)
            assert len(params) == 2
            if layers is book:
                assert all(isinstance(g.rows(), fs.Rows) for g in grads)
                stepper.update(params, grads)
            else:
                stepper.update(dict(enumerate(params)), dict(enumerate(grads)))
        results.append((losses, params, _random.rand()))
    np.testing.assert_equal(results[0], results[1])
    assert len(set(results[0][0])) > 6


def test_the_layers_have_the_books_attributes(rng: np.random.Generator) -> None:
    w, corpus, h = matrix(rng, (9, 4)), np.arange(9), rng.standard_normal((2, 4)).astype("f")
    dot = book.EmbeddingDot(w)
    assert dot.params is dot.embed.params
    assert dot.grads is dot.embed.grads
    dot.forward(h, np.array([1, 2]))
    assert dot.cache[0] is h
    np.testing.assert_array_equal(dot.cache[1], w[[1, 2]])
    loss = book.NegativeSamplingLoss(w, corpus, 0.75, 3)
    assert loss.sample_size == loss.sampler.sample_size == 3
    assert len(loss.params) == len(loss.grads) == len(loss.embed_dot_layers) == len(loss.loss_layers) == 4
    assert all(g is layer.grads[0] for g, layer in zip(loss.grads, loss.embed_dot_layers, strict=True))
    assert all(p is w for p in loss.params)
