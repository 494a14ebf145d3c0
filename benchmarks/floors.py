"""The floors of speed: pairs of works, each with the ratio of its times that it has to keep."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from benchmarks import every_rule, norms, pairs, peers, torch_steps, touched_rows, whole_steps, word2vec
from benchmarks.turns import Sides
from benchmarks.workloads import BOOK, LIMIT, LISTS, OURS, OURS_OUT, RULES, THREADS, threads_text


def _measurable() -> str | None:
    return None


_torch = partial(peers.missing, "torch")


@dataclass(frozen=True)
class Floor:
    """A ratio of two times.

    Attributes:
        name: The work.
        floor: The worst ratio that holds.
        aim: The ratio to reach.
        make: Gives the works of numerator and denominator.
        at_most: Whether floor and aim are upper bounds.
        missing: Says why it can't be measured here, if it can't.
    """

    name: str
    floor: float
    aim: float
    make: Callable[[], Sides] = field(repr=False)
    at_most: bool = False
    missing: Callable[[], str | None] = field(default=_measurable, repr=False)


def _update_floors() -> Iterator[Floor]:
    for rule in RULES:
        for dtype, size in (("float32", 40_000_000), ("float64", 20_000_000)):
            for n in THREADS:
                make = partial(pairs.limit, rule, dtype, [(size,)], [n])
                name = f"{rule}, {size // 1_000_000} million {dtype}, {threads_text(n)}: limit / ours"
                # On one thread, roots and divisions of doubles take longer than memory where that is fast.
                divides = dtype == "float64" and n == 1 and rule not in ("SGD", "Momentum", "Nesterov")
                yield Floor(name, 0.75 if divides else 0.95, 0.98, make)
    # In the cache roots and divisions bind, and the limit has no arrays to look up.
    for dtype, size, floor, aim in (
        ("float32", 500_000, 0.6, 0.98),
        ("float32", 30_000, 0.4, 0.6),
        ("float64", 16_000, 0.3, 0.5),
    ):
        make = partial(pairs.limit, "Adam", dtype, [(size,)], [1])
        yield Floor(f"Adam, {size} {dtype}, 1 thread: limit / ours", floor, aim, make)
    for work, dtype, row, floor, aim in (
        ("1000", "float32", BOOK, 3.5, 5),
        ("1000", "float32", "PyTorch (fused)", 10, 15),
        ("200 x 1000", "float32", BOOK, 15, 25),
        ("200 x 1000", "float32", "PyTorch (fused)", 6, 10),
        ("784-100x4-10", "float64", BOOK, 4, 6),
    ):
        make = partial(pairs.update, row, "Adam", dtype, LISTS.get(work, [(1000,)]), [1])
        yield Floor(
            f"Adam, {work} {dtype}: {row} / ours", floor, aim, make, missing=_measurable if row == BOOK else _torch
        )


def _every_rule_floors() -> Iterator[Floor]:
    """Those with norms of their own beside the limit of their passes."""
    n = max(THREADS)
    for name in every_rule.FORMS:
        make = partial(every_rule.limit, name, 40_000_000, [n])
        # Roots of 4000 columns don't stay in the first cache beside what streams through it: 0.9 where two threads read
        # 43 GB/s, 0.66 in runs that found the memory at 70.
        floor, aim = (0.6, 0.9) if name == "Adafactor" else (0.9, 0.98)
        yield Floor(f"rule {name}, 40 million float32, {threads_text(n)}: limit / ours", floor, aim, make)


def _storage_floors() -> Iterator[Floor]:
    """22 bytes move for a narrow parameter and gradient where 28 do in float32, but one thread has to convert, too."""
    for dtype in ("bfloat16", "float16"):
        for n in THREADS:
            yield Floor(
                f"Adam, 40 million, {threads_text(n)}: {dtype} / float32",
                1.1 if n == 1 else 0.95,
                1.0 if n == 1 else 0.8,
                partial(pairs.narrow, dtype, 40_000_000, n),
                at_most=True,
                missing=partial(pairs.not_taken, dtype),
            )
    name = "Adam, 12 small tensors, 1 thread: PyTorch's / NumPy's"
    yield Floor(name, 1.6, 1.2, pairs.tensors, at_most=True, missing=_torch)


def _whole_step_floors() -> Iterator[Floor]:
    """Clipping by norm, Adam, an average and zeros in one pass move 44 bytes for each float32 parameter."""
    for n in THREADS:
        for row, floor, aim in ((LIMIT, 0.85, 0.95), (whole_steps.TORCH_FUSED, 2.5, 3)):
            name = f"whole step of Adam, 40 million float32, {threads_text(n)}: {row} / ours"
            make = partial(pairs.whole_step, row, OURS, "40000000", [n], [n])
            yield Floor(name, floor, aim, make, missing=_measurable if row == LIMIT else _torch)
    for tensors, kind in ((False, "arrays"), (True, "tensors")):
        name = f"whole step of Adam, 12 small {kind}, 1 thread: with options / without"
        make = partial(pairs.options, "actor-critic", tensors)
        yield Floor(name, 1.6, 1.3, make, at_most=True, missing=_torch if tensors else _measurable)
        ours = whole_steps.TENSORS if tensors else OURS
        for row in (whole_steps.TORCH_FUSED, whole_steps.TORCH_DEFAULT):
            name = f"whole step of Adam, 12 small {kind}, 1 thread: {row} / ours"
            make = partial(pairs.whole_step, row, ours, "actor-critic", [1], [1])
            yield Floor(name, 8, 15, make, missing=_torch)
    for rule in touched_rows.RULES:
        for n in THREADS:
            name = f"rows of a matrix, {rule}, {touched_rows.WORK} float32, {threads_text(n)}: dense / ours"
            yield Floor(name, 20, 50, partial(pairs.rows, touched_rows.DENSE, rule, [n], [n]))


def _torch_floors() -> Iterator[Floor]:
    for work, row, floor, aim in (
        ("actor-critic, clipped", whole_steps.TORCH_FUSED, 6, 8),
        ("actor-critic, clipped", whole_steps.TORCH_DEFAULT, 15, 20),
        ("200 x 1000", whole_steps.TORCH_FUSED, 3, 5),
        ("ResNet-50", whole_steps.TORCH_FUSED, 0.95, 1.1),
        ("10000000", whole_steps.TORCH_FUSED, 0.95, 1),
    ):
        for n in THREADS:
            name = f"PyTorch's parameters, Adam, {work}, {threads_text(n)}: {row} / ours"
            yield Floor(name, floor, aim, partial(torch_steps.works, row, work, [n], [n]), missing=_torch)


# Floors and aims. Arrays that fit the cache are bound by arithmetic on both sides, and a small fresh result by Python.
_NORM_FLOORS = {
    # work: forward into out=, backward into out=, forward with a fresh result
    "(64, 256, 56, 56)": ((5, 8), (2.5, 3.5), (2, 4)),
    "(8192, 1024)": ((2.5, 4), (2, 3), (2, 4)),
    "(64, 56, 56, 256)": ((2, 3), (1.5, 2), (2, 4)),
    "(128, 1024)": ((1.2, 4), (1.2, 3), (1.2, 4)),
    "(100, 100)": ((2, 4), (1.5, 3), (1.3, 4)),
}


def _norm_floors() -> Iterator[Floor]:
    for work, (forward, backward, fresh) in _NORM_FLOORS.items():
        for n in THREADS:
            for direction, result, ours, (floor, aim) in (
                ("forward", "out=", OURS_OUT, forward),
                ("backward", "out=", OURS_OUT, backward),
                ("forward", "fresh output", OURS, fresh),
            ):
                make = partial(pairs.norm, norms.PYTORCH, ours, work, direction, [n], [n])
                name = f"batch normalisation {work} {direction}, {result}, {threads_text(n)}: PyTorch / ours"
                yield Floor(name, floor, aim, make, missing=_torch)


def _dropout_floors() -> Iterator[Floor]:
    for n in THREADS:
        for row, floor, aim in ((BOOK, 5, 10), (LIMIT, 0.5, 0.9), (norms.PYTORCH, 2, 4)):
            name = f"dropout, 10 million float32, forward and backward, {threads_text(n)}: {row} / ours"
            make = partial(pairs.dropout, row, 10_000_000, pairs.BOTH, [n], [n])
            yield Floor(name, floor, aim, make, missing=_torch if row == norms.PYTORCH else _measurable)


def _other_floors() -> Iterator[Floor]:
    name = "Adam, 500000 float32: step with subnormal moments / normal step"
    yield Floor(name, 1.2, 1.05, pairs.subnormal, at_most=True)
    for work, floor, aim in (("[100] * 5", 1.35, 1.5), ("[1000] * 3", 1.4, 1.7)):
        yield Floor(f"training iteration {work}: NumPy / ours", floor, aim, partial(pairs.training, BOOK, work))
    for rule in word2vec.RULES:
        name = f"iteration of word2vec, {word2vec.WORK} drawn at once, {rule} float32: NumPy / ours"
        yield Floor(name, 20, 30, partial(pairs.words, rule, "at once"))
    yield Floor("matrix products around our step / around NumPy's", 1.03, 1.0, pairs.products, at_most=True)


def floors() -> list[Floor]:
    """All of them."""
    return [
        *_update_floors(),
        *_every_rule_floors(),
        *_storage_floors(),
        *_whole_step_floors(),
        *_torch_floors(),
        *_norm_floors(),
        *_dropout_floors(),
        *_other_floors(),
    ]
