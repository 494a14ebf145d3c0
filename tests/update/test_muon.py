"""Muon: the reference's bits, orthogonal steps, and what it needs of the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference
from options import average_schedule

Arrays = dict[str, Any]
SHAPES = {"wide": (5, 70), "tall": (70, 5), "square": (40, 40), "one": (1, 1), "none": (0, 3), "large": (300, 40)}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no Nesterov": {"nesterov": False, "momentum": 0.5, "ns_steps": 2},
    "L2": {"weight_decay": 0.3, "decoupled": False},
    "cautious": {"weight_decay": 5.0, "cautious_decay": True, "max_lr": 0.1},
    "match": {"adjust_lr": "match_rms_adamw", "eps": 1e-3},
    "no factor": {"adjust_lr": None, "ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 8},
    "all": {"clip_norm": 0.5, "clip_value": 0.2, "maximize": True, "average": average_schedule, "skip_nonfinite": True},
    "narrow": {"master": True, "state_dtype": "bfloat16", "rounding": "stochastic", "seed": 3},
}


def arrays(rng: np.random.Generator, dtype: Any) -> Arrays:
    return {key: rng.standard_normal(shape).astype(dtype) for key, shape in SHAPES.items()}


def types() -> tuple[Any, ...]:
    return ("float32", "float64", "float16", pytest.importorskip("ml_dtypes").bfloat16)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_bits_of_the_reference(name: str, threads: int, isa: str, rng: np.random.Generator) -> None:
    fs.set_num_threads(threads)
    for dtype in types():
        if dtype == "float64" and "state_dtype" in OPTIONS[name]:
            continue
        ours, theirs = fs.Muon(0.1, **OPTIONS[name]), reference.Muon(0.1, **OPTIONS[name])
        params = arrays(rng, dtype)
        expected = {key: w.copy() for key, w in params.items()}
        for _ in range(3):
            grads = arrays(rng, dtype)
            grads["one"] = None
            ours.update(params, grads)
            theirs.update(expected, grads)
        for key, w in expected.items():
            np.testing.assert_array_equal(params[key].astype("float64"), w.astype("float64"))
        np.testing.assert_equal(ours.state, theirs.state)


@pytest.mark.parametrize(
    "layout", [lambda w: w.T, lambda w: w[::2, ::-1], lambda w: np.asfortranarray(w), lambda w: w[:0]]
)
def test_layouts(layout: Callable[[Any], Any], rng: np.random.Generator) -> None:
    w, g = (layout(rng.standard_normal((20, 30))) for _ in range(2))
    packed = np.array(w, order="C")
    for _ in range(2):
        fs.Muon(0.1).update(w, g)
        fs.Muon(0.1).update(packed, np.array(g, order="C"))
    np.testing.assert_array_equal(w, packed)


def test_singular_values_are_about_one(rng: np.random.Generator) -> None:
    for shape in ((20, 50), (50, 20)):
        w = np.zeros(shape)
        fs.Muon(1.0, weight_decay=0.0, adjust_lr=None).update(w, rng.standard_normal(shape))
        values = np.linalg.svd(w, compute_uv=False)
        # The iteration's own limits (Jordan et al.).
        assert (values > 0.6).all()
        assert (values < 1.3).all()


def test_beside_another_rule_in_one_call(rng: np.random.Generator) -> None:
    ours = fs.Split(
        [(lambda _, w: w.ndim == 2, fs.Muon(0.1)), (lambda *_: True, fs.AdamW(0.1))],
        clip_norm=1.0,
    )
    theirs = reference.Split(
        [(lambda _, w: w.ndim == 2, reference.Muon(0.1)), (lambda *_: True, reference.AdamW(0.1))],
        clip_norm=1.0,
    )
    params = arrays(rng, np.float32) | {"b": rng.standard_normal(7).astype(np.float32)}
    expected = {key: w.copy() for key, w in params.items()}
    for _ in range(3):
        grads = {key: rng.standard_normal(w.shape).astype(np.float32) for key, w in params.items()}
        ours.update(params, grads)
        theirs.update(expected, grads)
    np.testing.assert_equal(params, expected)


def test_groups_and_saved_state(rng: np.random.Generator, tmp_path: Path) -> None:
    def optimizer(**options: Any) -> fs.Muon:
        return fs.Muon(0.1, groups=[("wide", {"lr": 0.3, "momentum": 0.5, "nesterov": False})], **options)

    ours, params = optimizer(ns_steps=3, ns_coefficients=(2.0, -1.5, 0.5)), arrays(rng, np.float32)
    ours.update(params, arrays(rng, np.float32))
    fs.save_state(tmp_path / "state.npz", ours)
    loaded, grads = optimizer(), arrays(rng, np.float32)
    fs.load_state(tmp_path / "state.npz", loaded)
    expected = {key: w.copy() for key, w in params.items()}
    loaded.update(expected, grads)
    ours.update(params, grads)
    np.testing.assert_equal(params, expected)
    assert loaded.ns_coefficients == (2.0, -1.5, 0.5)


def test_parameters_that_share_memory_take_turns(rng: np.random.Generator) -> None:
    memory = rng.standard_normal((30, 20))
    expected = memory.copy()
    grads = [rng.standard_normal((20, 20)) for _ in range(2)]
    for optimizer, array in ((fs.Muon(0.1), memory), (reference.Muon(0.1), expected)):
        optimizer.update([array[:20], array[10:]], grads)
    np.testing.assert_array_equal(memory, expected)


def test_a_gradient_in_the_memory_of_its_parameter(rng: np.random.Generator) -> None:
    memory = rng.standard_normal((30, 20))
    expected, gradient = memory[:20].copy(), memory[10:].copy()
    fs.Muon(0.1).update(memory[:20], memory[10:])
    fs.Muon(0.1).update(expected, gradient)
    np.testing.assert_array_equal(memory[:20], expected)


def test_a_failure_in_between_changes_nothing(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"a": rng.standard_normal((5, 6)), "b": rng.standard_normal(6)}
    before = {key: w.copy() for key, w in params.items()}
    muon, sgd = fs.Muon(0.1), fs.Momentum(0.1)
    optimizer = fs.Split([("a", muon), (lambda *_: True, sgd)])

    def fail(_: Any) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(muon, "_finish", fail, raising=True)
    with pytest.raises(MemoryError, match="no memory"):
        optimizer.update(params, {key: np.ones_like(w) for key, w in params.items()})
    np.testing.assert_equal(params, before)
    assert (muon.iterations, sgd.iterations, muon.state, sgd.state) == (0, 0, {}, {})


@pytest.mark.parametrize(
    ("w", "g", "error", "message"),
    [
        (np.ones(3), np.ones(3), ValueError, r"^params\['W'\] has shape \(3,\), expected a matrix: Split gives"),
        (np.ones((2, 3, 4)), np.ones((2, 3, 4)), ValueError, r"has shape \(2, 3, 4\), expected a matrix"),
        (np.ones((2, 3)), fs.Rows([0], np.ones((1, 3))), TypeError, r"^grads\['W'\] is a Rows, expected an array"),
    ],
)
def test_errors(w: Any, g: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fs.Muon().update({"W": w}, {"W": g})


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("ns_coefficients", (1.0, 2.0), ValueError, r"expected three finite numbers"),
        ("ns_coefficients", 1.0, TypeError, r"expected three numbers"),
        ("ns_steps", -1, ValueError, r"ns_steps is -1, expected 0 or more"),
        ("eps", -1.0, ValueError, r"eps is -1.0, expected a finite number >= 0"),
        ("adjust_lr", "other", ValueError, r"adjust_lr is 'other', expected 'original' or 'match_rms_adamw' or None"),
        ("momentum", 2.0, ValueError, r"momentum is 2.0, expected a number from 0 to 1"),
    ],
)
def test_wrong_settings(name: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fs.Muon(**{name: value})


def test_step_has_no_muon() -> None:
    assert "muon" not in fs.rules()
    with pytest.raises(ValueError, match=r"^'muon' is a rule of its optimizer alone, fusedstep.Muon$"):
        fs.step("muon", np.ones((2, 2)), np.ones((2, 2)), [np.zeros((2, 2))])
