"""Same bits with the options of a step in all pairs: every rule, type, instruction set, layout, and threads."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, Row
from layouts import misaligned, read_only, stepped, transposed
from memory import same_bits
from options import CASES, Case, all_pairs, pairs_of

ml_dtypes = pytest.importorskip("ml_dtypes")
STORAGES = tuple(np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))
THREADS = (1, 2, 5)
Array = np.ndarray[Any, np.dtype[Any]]

SHAPES: dict[str, tuple[int, ...]] = {
    "without gradient": (5,),
    "empty": (0, 3),
    "0-d": (),
    "one": (1,),
    "seven": (7,),
    "thousand": (1000,),
    "long": (100_003,),
}
# Of a parameter, its gradient and its copy.
LAYOUTS = {layout.__name__: layout for layout in (transposed, stepped, misaligned)}
MATRIX = (37, 41)
CONSTRUCTOR = (
    "lr",
    "clip_norm",
    "clip_value",
    "maximize",
    "weight_decay",
    "decoupled",
    "average",
    "groups",
    "master",
    "rounding",
    "state_dtype",
    "skip_nonfinite",
)


def arrays(numbers: Array, dtype: Any, *, unwritten: bool = False) -> dict[str, Any]:
    """New arrays, one for each size and layout, with some of the numbers; one is read-only if nothing writes it."""
    made: dict[str, Any] = {}
    makers = {**dict.fromkeys(SHAPES), **LAYOUTS, "read-only": read_only if unwritten else misaligned}
    for first, (key, make) in enumerate(makers.items()):

        def draw(*shape: int, first: int = first) -> Array:
            return numbers[first : first + math.prod(shape)].reshape(shape)

        made[key] = draw(*SHAPES[key]).astype(dtype) if make is None else make(draw, *MATRIX, dtype)
    return made


class Run:
    """The steps of one case, with all that they write."""

    def __init__(self, optimizer: Any, case: Case, storage: Any, numbers: list[Array]) -> None:
        params = arrays(numbers[0], storage)
        copies = None if case["copies"] is None else arrays(numbers[1], case["copies"])
        if copies is None and case["state_dtype"] is None:
            params = {"number": 0.75} | params
        self.optimizer, self.norms = optimizer, []
        for n, given in enumerate(numbers[2:]):
            grads: dict[str, Any] = arrays(
                given, storage if case["gradients"] == "same" else case["gradients"], unwritten=not case["zero_grads"]
            )
            norm = case["norm"]
            # After a step that is skipped comes one that isn't; a step that isn't skipped leaves NaN.
            if case["bad"] is not None and n == (1 if case["skip_nonfinite"] else 2):
                grads["thousand"][999] = grads["stepped"][3, 4] = case["bad"]
                norm = None if norm is None else case["bad"]
            others = {"without gradient": None, "number": np.array(-0.3), "no such parameter": np.ones(2)}
            with np.errstate(all="ignore"):
                optimizer.update(
                    params,
                    grads | others,
                    scale=case["scale"],
                    zero_grads=case["zero_grads"],
                    copies=copies,
                    norm=norm,
                )
            self.norms.append(optimizer.gradient_norm)
            grads |= {"number": others["number"], "no such parameter": others["no such parameter"]}
        self.written = {"param": params, "copy": copies or {}, "gradient": grads} | {
            f"state of {key}": of_one for key, of_one in optimizer.state.items()
        }


def assert_same(ours: Run, theirs: Run) -> None:
    np.testing.assert_equal(ours.norms, theirs.norms)
    assert ours.optimizer.skipped == theirs.optimizer.skipped
    assert ours.optimizer.iterations == theirs.optimizer.iterations
    assert ours.optimizer.steps == theirs.optimizer.steps
    assert ours.written.keys() == theirs.written.keys()
    for name, mine in ours.written.items():
        assert mine.keys() == theirs.written[name].keys(), name
        for key, array in mine.items():
            expected = theirs.written[name][key]
            assert type(array) is type(expected), (name, key)
            if not same_bits(np.asarray(array), np.asarray(expected)):
                np.testing.assert_array_equal(array, expected, err_msg=f"{name} {key}", strict=True)
                raise AssertionError(f"{name} {key}: the signs of zeros differ")


def test_each_value_of_an_option_meets_each_of_every_other() -> None:
    assert set().union(*map(pairs_of, CASES)) == all_pairs()


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("row", ALL_ROWS)
def test_bits(row: Row, storage: Any, number: int, rng: np.random.Generator) -> None:
    case = CASES[number] | ({"state_dtype": None} if storage == np.float64 else {})
    options = {name: case[name] for name in CONSTRUCTOR} | {"seed": 0x0123456789ABCDEF}
    numbers = [rng.standard_normal(101_000) for _ in range(5)]
    expected = Run(row.reference(**options), case, storage, numbers)
    assert expected.optimizer.skipped == (case["bad"] is not None and case["skip_nonfinite"])
    for isa, threads in itertools.product(fs.isas(), THREADS):
        fs.use_isa(isa)
        fs.set_num_threads(threads)
        assert_same(Run(row.optimizer(**options), case, storage, numbers), expected)
