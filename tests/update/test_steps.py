"""Steps are counted for each parameter, and saved state of earlier versions loads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import book, reference

SAVED = Path(__file__).parent / "saved"


@pytest.mark.parametrize("make", [fs.Adam, fs.AdamW], ids=lambda cls: cls.__name__)
def test_a_late_parameters_first_step_is_its_first(make: Any) -> None:
    optimizer = make(lr=0.1)
    params = {"early": np.ones(3), "late": np.ones(3), "frozen": np.ones(3)}
    optimizer.update(params, dict.fromkeys(params, np.ones(3)) | {"late": None})
    for _ in range(9):
        optimizer.update(params, {"early": np.ones(3), "late": None, "frozen": None})
    before = {key: w.copy() for key, w in params.items()}
    optimizer.update(params, dict.fromkeys(params, np.ones(3)))
    assert optimizer.iterations == 11
    assert optimizer.steps == {"early": 11, "late": 1, "frozen": 2}
    decay = optimizer.lr * optimizer.weight_decay if optimizer.decoupled else 0.0
    # m / sqrt(v) is 1 for equal gradients once the bias is corrected, so each step is lr but for eps and rounding.
    for key, w in params.items():
        np.testing.assert_allclose(before[key] * (1 - decay) - w, 0.1, rtol=1e-7, err_msg=key)


def test_the_books_dialect_counts_as_the_book_does() -> None:
    optimizer = book.Adam(lr=0.1)
    params = {"early": np.ones(3), "late": np.ones(3)}
    for _ in range(10):
        optimizer.update(params, {"early": np.ones(3), "late": None})
    optimizer.update(params, dict.fromkeys(params, np.ones(3)))
    t = 11
    expected = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * 0.1 / (np.sqrt(0.001) + 1e-7)
    np.testing.assert_allclose(1 - params["late"], expected, rtol=1e-12)
    assert optimizer.iter == 11
    assert "steps" not in optimizer.state_dict()


def test_schedules_get_the_optimizers_count() -> None:
    seen: list[int] = []

    def schedule(updates: int) -> float:
        seen.append(updates)
        return 0.1

    optimizer = fs.Adam(schedule)
    optimizer.update({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": None})
    optimizer.update({"a": np.ones(2), "b": np.ones(2)}, {"a": None, "b": np.ones(2)})
    assert seen == [0, 1]
    assert optimizer.steps == {"a": 1, "b": 1}


def test_state_that_is_forgotten_starts_again() -> None:
    optimizer, w = fs.Adam(0.1), np.ones(3)
    for _ in range(5):
        optimizer.update(w, np.ones(3))
    optimizer.state.clear()
    before = w.copy()
    optimizer.update(w, np.full(3, 2.0))
    np.testing.assert_allclose(before - w, 0.1, rtol=1e-7)
    assert optimizer.steps == {0: 1}


def test_state_that_is_put_there_has_made_the_optimizers_steps() -> None:
    optimizer, w = fs.Adam(0.1), np.ones(3)
    optimizer.iterations = 7
    optimizer.state[0] = {"m": np.full(3, 0.5), "v": np.full(3, 0.3)}
    theirs, expected = reference.Adam(0.1), np.ones(3)
    theirs.steps[0], theirs.state[0] = 7, {"m": np.full(3, 0.5), "v": np.full(3, 0.3)}
    optimizer.update(w, np.ones(3))
    theirs.update(expected, np.ones(3))
    np.testing.assert_array_equal(w, expected)
    assert optimizer.steps == {0: 8}


def test_an_error_counts_nothing() -> None:
    optimizer = fs.Adam()
    optimizer.update([np.ones(2)], [np.ones(2)])
    with pytest.raises(ValueError, match="shape"):
        optimizer.update([np.ones(3)], [np.ones(2)])
    assert (optimizer.iterations, optimizer.steps) == (1, {0: 1})


@pytest.mark.parametrize("made", [-1, 2**63 - 1, 2**63, 10**40])
def test_counts_out_of_range_are_errors(made: int) -> None:
    optimizer, w = fs.Adam(), np.ones(2)
    optimizer.update(w, np.ones(2))
    before = w.copy()
    optimizer.steps[0] = made
    with pytest.raises(ValueError, match=rf"^steps\[0\] is {made}, expected (0 or more|a number below 2\^63 - 1)$"):
        optimizer.update(w, np.ones(2))
    np.testing.assert_array_equal(w, before)
    assert optimizer.iterations == 1


OLD: dict[str, tuple[Any, Any]] = {
    "adam": (fs.Adam, reference.Adam(0.01, weight_decay=0.1)),
    "adamw": (fs.AdamW, reference.AdamW()),
    "momentum": (fs.Momentum, reference.Momentum(momentum=0.8, lr_in_velocity=False)),
    "book_adam": (book.Adam, reference.Adam(eps=1e-7, eps_corrected=False)),
}


@pytest.mark.parametrize("name", OLD)
def test_state_of_0_1_0_loads(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    cls, theirs = OLD[name]
    ours = cls(0.5)
    fs.load_state(SAVED / f"0.1.0-{name}.npz", ours)
    assert ours.iterations == 3
    assert ours.state.keys() == {"W", 0}
    assert ours.state["W"][ours._state_names[0]].dtype == np.float32
    theirs.iterations = 3
    theirs.steps = dict.fromkeys(ours.state, 3)
    theirs.state = {key: {k: a.copy() for k, a in arrays.items()} for key, arrays in ours.state.items()}
    params: dict[Any, Any] = {"W": rng.standard_normal((3, 4)).astype(np.float32), 0: rng.standard_normal(5)}
    expected = {key: w.copy() for key, w in params.items()}
    grads = {key: rng.standard_normal(w.shape).astype(w.dtype) for key, w in params.items()}
    ours.update(params, grads)
    theirs.update(expected, grads)
    for key, w in params.items():
        np.testing.assert_array_equal(w, expected[key])
    # What is saved now says how many steps each parameter has had.
    path = tmp_path / "state.npz"
    fs.save_state(path, ours)
    again = cls()
    fs.load_state(path, again)
    assert (again.iterations, again.steps) == (4, ours.steps if ours._counts_steps else {})


def test_a_pickle_without_counts_loads() -> None:
    optimizer, w = fs.Adam(0.1), np.ones(3)
    optimizer.update(w, np.ones(3))
    attributes = optimizer.__getstate__()
    del attributes["steps"]  # as 0.1.0 pickled it
    other = fs.Adam.__new__(fs.Adam)
    other.__setstate__(attributes)
    other.update(w, np.ones(3))
    assert other.steps == {0: 2}
