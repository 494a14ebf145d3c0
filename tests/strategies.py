"""What the property tests draw: optimizers, arrays that lie anywhere, calls, settings of the process."""

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import fusedstep as fs
from cases import ROWS, Row, schedule
from fusedstep import _native, book, reference
from memory import Memory, View, numbers

Draw = Callable[[st.SearchStrategy[Any]], Any]


def share(part: float) -> settings:
    """The settings of a property that gets a part of the profile's examples."""
    return settings(max_examples=max(10, round(settings().max_examples * part)))


@cache
def _below(n: int) -> st.SearchStrategy[int]:
    return st.integers(0, n - 1)


def draw_each(draw: Draw, *choices: Sequence[Any]) -> list[Any]:
    """One value from each sequence, the first as the simplest. All come from one number, as drawing is what costs."""
    number = draw(_below(math.prod(map(len, choices))))
    values = []
    for values_of_one in choices:
        number, i = divmod(number, len(values_of_one))
        values.append(values_of_one[i])
    return values


NO_OR_YES = (False, True)
RARELY = (False,) * 15 + (True,)
SEEDS = st.integers(0, 2**32 - 1)


class BookAdam(reference.Adam):
    """The book's Adam: an epsilon that the bias correction leaves alone."""

    def step(  # type: ignore[override]
        self, t: Any, lr: float, w: Any, g: Any, m: Any, v: Any, *, steps: int
    ) -> None:
        t_th = self.iterations
        step = lr * math.sqrt(1.0 - self.beta2**t_th) / (1.0 - self.beta1**t_th)
        m += t(1 - self.beta1) * (g - m)
        v += t(1 - self.beta2) * (g * g - v)
        w -= t(step) * m / (np.sqrt(v) + t(1e-7))


BETAS = (0.9, 0.0, 0.5, 0.999)
EXTREME = (0.0, 5e-324, 1e-45, 1e-39, 1e30, 1e39, 1e300)
OPTIONS: dict[str, tuple[Any, ...]] = {
    "lr": (0.1, 1e-3, 0.0, 0.7, schedule),
    "weight_decay": (0.0, 0.1, 0.01),
    "momentum": (0.9, 0.0, 0.5, 1.0),
    "decay_rate": BETAS,
    "beta1": BETAS,
    "beta2": BETAS,
    "eps": (1e-7, 0.1, 1e-8),
    "eps_inside_root": NO_OR_YES,
    "lr_in_velocity": (True, False),
    "amsgrad": NO_OR_YES,
    "centered": NO_OR_YES,
    "threshold": (5.0, 4.0),
    "legacy": (True,),
    "learning_rate_power": (-0.5,),
    "warmup_steps": (0.0, 3.0),
}
UNBOUNDED = ("lr", "weight_decay", "eps")
ALL_ROWS = (*ROWS, Row(book.Nesterov, reference.Nesterov), Row(book.Adam, BookAdam))
# The book's classes have no arguments for some of what may be set.
BOOKS = {book.Nesterov: ("lr", "momentum", "legacy"), book.Adam: ("lr", "beta1", "beta2")}
BY_LIMIT = {
    "flag": NO_OR_YES,
    "below one": BETAS,
    "up to one": (0.9, 0.0, 0.5, 1.0),
    "not negative": (0.1, 1e-8, 1.0),
    "optional not negative": (None, 0.0, 0.25, 3.0),
}


def names_of(row: Row) -> tuple[str, ...]:
    parameters = inspect.signature(row.optimizer).parameters
    return BOOKS.get(row.optimizer) or tuple(name for name, p in parameters.items() if p.kind != p.VAR_KEYWORD)


def values_of(name: str, special: bool) -> tuple[Any, ...]:
    if name not in OPTIONS:
        _, limit = next(own[name] for _, own, *_ in _native.rules.values() if name in own)
        return BY_LIMIT[limit]
    return OPTIONS[name] + (EXTREME if special and name in UNBOUNDED else ())


@dataclass
class Recipe:
    """An optimizer and its reference, as they are made."""

    row: Row
    options: dict[str, Any]

    def ours(self) -> Any:
        return self.row.optimizer(**self.options)

    def theirs(self) -> Any:
        return self.row.reference(**self.options)

    def state_names(self) -> tuple[str, ...]:
        return tuple(self.theirs().state_names)


def draw_recipe(draw: Draw, special: bool) -> Recipe:
    (row,) = draw_each(draw, ALL_ROWS)
    names = names_of(row)
    values = draw_each(draw, *(values_of(name, special) for name in names))
    options = dict(zip(names, values, strict=True))
    if options.get("momentum") == 0 or options.get("dampening", 0) != 0:
        options.pop("nesterov", None)  # which is refused
    return Recipe(row, options)


@dataclass
class Process:
    """What holds for the whole process. What is flushed can't be compared, so nothing may be subnormal then."""

    threads: int
    isa: str
    flush: bool

    def apply(self, *, may_flush: bool) -> None:
        fs.set_num_threads(self.threads)
        fs.use_isa(self.isa)
        fs.set_flush_subnormals(self.flush and may_flush)


def draw_process(draw: Draw) -> Process:
    return Process(*draw_each(draw, (1, 2, 3, 4), fs.isas(), NO_OR_YES))


@contextmanager
def underflows() -> Iterator[list[Any]]:
    """Nothing warns, and the list has something in it if a result was subnormal."""
    seen: list[Any] = []
    with np.errstate(all="ignore", under="call", call=lambda *what: seen.append(what)):
        yield seen


LENGTHS = (3, 1, 65, 8, 9, 7, 64, 0, 63, 17, 2049)
SHORT = (2, 1, 3, 4, 5, 0)
# Around what is gathered at once, a chunk, several chunks, and what is worth a second thread.
LONG = (1023, 1024, 1025, 16_383, 16_384, 16_385, 40_000, 70_000)
TWO_PARTS = ((1500,), (2049,), (2, 1024), (700, 3))
KINDS_OF_SHAPE = ("row",) * 7 + ("matrix",) * 3 + ("block",) * 8 + ("long",)


def draw_shape(draw: Draw) -> tuple[int, ...]:
    (kind,) = draw_each(draw, KINDS_OF_SHAPE)
    if kind == "row":
        return tuple(draw_each(draw, LENGTHS))
    if kind == "long":
        n, rows = draw_each(draw, LONG, (1, 2, 3))
        return (n,) if rows == 1 else (rows, n // rows + 1)
    if kind == "matrix":
        n, m, turn = draw_each(draw, SHORT, LENGTHS, NO_OR_YES)
        return (n, m) if turn else (m, n)
    dimensions, *lengths = draw_each(draw, (2, 3, 4, 0, 5), *(SHORT,) * 5)
    return tuple(lengths[:dimensions])


LAYOUTS = ("plain", "nested", "plain", "nested", "plain", "plain", "nested", "free")
GAPS = (0, 8, 0, 4, 0, 1)
FREE = tuple(sorted(range(-6, 13), key=abs))
ORDERS = [list(permutations(range(n))) for n in range(6)]


def plain_strides(shape: tuple[int, ...], item: int) -> tuple[int, ...]:
    return tuple(item * math.prod(shape[d + 1 :]) for d in range(len(shape)))


def draw_strides(draw: Draw, layout: str, shape: tuple[int, ...], item: int, *, written: bool) -> tuple[int, ...]:
    """In bytes: none, nested in any order with gaps and turns, or any at all, which may make elements share memory."""
    if layout == "plain" or not shape:
        return plain_strides(shape, item)
    if layout == "free" and math.prod(shape) <= 500:
        return tuple(step * (item // 2) for step in draw_each(draw, *(FREE,) * len(shape)))
    order, *turns = draw_each(draw, ORDERS[len(shape)], *((1, -1),) * len(shape))
    broadcast, *gaps = draw_each(draw, (-1, -1, -1, 0, 1), *(GAPS,) * len(shape))
    strides = [0] * len(shape)
    step = item
    for d in order:
        step += gaps[d]
        if d != broadcast or written:
            strides[d] = step * turns[d]
            step *= max(shape[d], 1)
    return tuple(strides)


STARTS = (0, 0, 0, 4, 8, 1, 2, 12, 60)
SHIFTS = (0, -1, 1, -2, 2, -1, 3, -3, 7, -9, 64, -65)


def draw_view(
    draw: Draw,
    buffer: int,
    shape: tuple[int, ...],
    dtype: str,
    others: Sequence[View],
    *,
    written: bool,
    always: bool = False,
) -> View:
    """An array in a buffer of its own, or in that of another array, and there perhaps as that one lies, or turned."""
    item = np.dtype(dtype).itemsize
    layout, at = draw_each(draw, LAYOUTS, STARTS)
    if others:
        share, other, shift, lie = draw_each(draw, (always, True), others, SHIFTS, ("as it", "turned", "anyhow"))
        if share:
            buffer, at = other.buffer, other.at + item * shift
            if other.shape == shape and other.item_size == item and lie == "as it":
                return View(buffer, at, dtype, shape, other.strides)
            if other.shape == shape and other.item_size == item and lie == "turned" and 0 not in shape:
                at += sum((n - 1) * stride for n, stride in zip(shape, other.strides, strict=True))
                return View(buffer, at, dtype, shape, tuple(-stride for stride in other.strides))
    return View(buffer, at, dtype, shape, draw_strides(draw, layout, shape, item, written=written))


TYPES = ("f4", "f8")
GRADIENT_TYPES = (*("",) * 8, "f4", "f8", "f2", "g", ">f4", ">f8", ">f2", ">g", "<f4")
NUMBERS = (float, np.float64, np.float32)
CONTAINERS = ("dict", "list", "tuple", "ordered", "array")
KEYS: tuple[Hashable, ...] = ("W1", 3, ("b", 1), "W 1", 0, 2.5, "b2")


def container(kind: str, keys: Sequence[Any], values: Sequence[Any]) -> Any:
    """The values as a caller passes them."""
    if kind == "array":
        return values[0]
    if kind in ("list", "tuple"):
        return list(values) if kind == "list" else tuple(values)
    return (OrderedDict if kind == "ordered" else dict)(zip(keys, values, strict=True))


@dataclass
class Case:
    """Some updates of the same arrays. A parameter is a View or a number; each update lacks some gradients."""

    recipe: Recipe
    process: Process
    kind: str
    special: bool
    read_only: bool
    seed: int
    keys: tuple[Any, ...] = ()
    params: list[Any] = field(default_factory=list)
    grads: list[Any] = field(default_factory=list)
    state: dict[Any, dict[str, View]] = field(default_factory=dict)
    absent: list[set[Any]] = field(default_factory=list)

    def written(self) -> list[View]:
        state = [view for arrays in self.state.values() for view in arrays.values()]
        return [a for a in self.params if isinstance(a, View)] + state

    def views(self) -> list[View]:
        return [a for a in self.grads if isinstance(a, View)] + self.written()

    def memory(self) -> Memory:
        rng = np.random.default_rng(self.seed)
        memory = Memory(self.views(), rng)
        with np.errstate(all="ignore"):
            for view in self.views():
                memory.array(view)[...] = numbers(rng, view.shape, view.dtype, self.special)
        return memory

    def faults(self, absent: set[Any]) -> bool:
        """Whether what is written shares memory as it must not."""
        for key, param in zip(self.keys, self.params, strict=True):
            if key in absent or not isinstance(param, View):
                continue
            arrays = [param, *self.state.get(key, {}).values()]
            if any(view.overlaps_itself() for view in arrays):
                return True
            if any(a.overlaps(b) for i, a in enumerate(arrays) for b in arrays[:i]):
                return True
        return False


@st.composite
def cases(draw: Draw, long_and_sharing: bool = False) -> Case:
    """Updates of up to five parameters, which may lie in one another, as may gradients and state.

    Long ones that share memory show in which order parts of them are read and written.
    """
    special, sharing, read_only, kind, count = draw_each(
        draw, NO_OR_YES, ("never", "often", "always"), NO_OR_YES, CONTAINERS, (2, 1, 3, 0, 5)
    )
    case = Case(draw_recipe(draw, special), draw_process(draw), kind, special, read_only, draw(SEEDS))
    sharing = "always" if long_and_sharing else sharing
    count = 1 if kind == "array" else count
    case.keys = tuple(range(count)) if kind in ("list", "tuple", "array") else KEYS[:count]
    state_names = case.recipe.state_names()
    views: list[View] = []

    def place(shape: tuple[int, ...], dtype: str, *, written: bool) -> View:
        others = () if sharing == "never" else views
        view = draw_view(draw, len(views), shape, dtype, others, written=written, always=sharing == "always")
        views.append(view)
        return view

    shape = draw_each(draw, TWO_PARTS)[0] if long_and_sharing else draw_shape(draw)
    for key in case.keys:
        # One shape for several arrays makes more of the ways in which they can share memory.
        another, dtype, gradient_type, is_number, state, number = draw_each(
            draw, NO_OR_YES, TYPES, GRADIENT_TYPES, RARELY, (False, False, False, True), NUMBERS
        )
        if is_number and kind in ("dict", "ordered", "list"):
            case.params.append(number(0.5))
            case.grads.append(number(-1.25))
            continue
        if another and not long_and_sharing:
            shape = draw_shape(draw)
        if long_and_sharing:
            dtype, gradient_type = "f8", ""
        case.params.append(place(shape, dtype, written=True))
        case.grads.append(place(shape, gradient_type or dtype, written=False))
        if state_names and state and sharing != "always":
            case.state[key] = {
                name: place(case.recipe.theirs().state_shape(name, shape), dtype, written=True) for name in state_names
            }
    (updates,) = draw_each(draw, (1, 2, 3))
    for _ in range(updates):
        (skipped,) = draw_each(draw, (-1, -1, -1, -1, 0, 1, 2))
        case.absent.append(set(case.keys[skipped : skipped + 1]) if skipped >= 0 else set())
    return case
