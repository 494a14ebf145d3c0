"""The two modes of the Schedule-Free rules: gradients are taken at y, evaluation is at the average x."""

import copy
import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference

PAIRS = (
    pytest.param(fs.ScheduleFreeSGD, reference.ScheduleFreeSGD, id="SGD"),
    pytest.param(fs.ScheduleFreeAdamW, reference.ScheduleFreeAdamW, id="AdamW"),
)
STORAGES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


def test_x_is_the_mean_of_z(rng: np.random.Generator) -> None:
    w, optimizer = rng.standard_normal(50), fs.ScheduleFreeSGD(0.1, 0.8)
    points = []
    for _ in range(20):
        optimizer.update(w, rng.standard_normal(50))
        points.append(optimizer.state[0]["z"].copy())
    y = w.copy()
    optimizer.eval(w)
    # Each step, and each of the 20 additions of a mean, makes less than ten roundings of numbers of size 1.
    tolerance = float(400 * np.finfo(float).eps)
    np.testing.assert_allclose(w, np.mean(points, axis=0), rtol=tolerance, atol=tolerance)
    optimizer.train(w)
    np.testing.assert_allclose(w, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("storage", STORAGES, ids=lambda storage: storage.__name__)
@pytest.mark.parametrize("options", [{}, {"master": True}, {"state_dtype": "bfloat16"}, {"rounding": "stochastic"}])
@pytest.mark.parametrize(("cls", "theirs"), PAIRS)
def test_bits(cls: Any, theirs: Any, options: dict[str, Any], storage: Any, rng: np.random.Generator) -> None:
    if "state_dtype" in options and storage is np.float64:
        pytest.skip("float64 has no narrow state")
    beta = "momentum" if cls is fs.ScheduleFreeSGD else "beta1"
    options = options | {"groups": [("b", {beta: 0.5}), ("c", {beta: 0.0})]}
    ours, right = cls(0.1, **options), theirs(0.1, **options)
    whole = rng.standard_normal((60, 80)).astype(storage)
    params = {
        "a": rng.standard_normal(3000).astype(storage),
        "b": whole[::2, 5::3].T,
        "c": whole[1::2, ::2],
        "d": np.float32(0.5),
    }
    expected = {key: np.array(value) if key != "d" else value for key, value in params.items()}
    for _ in range(3):
        for mode in ("train", "eval", "eval", "train", "train"):
            before = fs._native.parallel_regions()
            was = ours.training
            getattr(ours, mode)(params)
            assert fs._native.parallel_regions() - before <= (ours.training != was)
            getattr(right, mode)(expected)
            for key, value in params.items():
                np.testing.assert_array_equal(value, expected[key])
            assert ours.training == (mode == "train")
        grads = {key: rng.standard_normal(np.asarray(value).shape) for key, value in params.items()}
        ours.update(params, grads)
        right.update(expected, grads)
    for key, arrays in right.state.items():
        for letter, array in arrays.items():
            np.testing.assert_array_equal(ours.state[key][letter], array)


def test_nested_containers_and_parameters_without_state(rng: np.random.Generator) -> None:
    w: Any = {"layers": [rng.standard_normal(3), rng.standard_normal(4)], "x": rng.standard_normal(5)}
    optimizer = fs.ScheduleFreeAdamW(0.1)
    optimizer.update(w, {"layers": [np.ones(3), None], "x": np.ones(5)})
    optimizer.update(w, {"layers": [np.ones(3), None], "x": np.ones(5)})
    before = copy.deepcopy(w)
    optimizer.eval(w)
    assert (w["layers"][0] != before["layers"][0]).all()
    assert (w["x"] != before["x"]).all()
    np.testing.assert_array_equal(w["layers"][1], before["layers"][1])


def in_eval_mode() -> tuple[fs.ScheduleFreeAdamW, Any]:
    w, optimizer = np.ones(3), fs.ScheduleFreeAdamW(0.1)
    for _ in range(2):
        optimizer.update(w, np.arange(3.0))
    optimizer.eval(w)
    return optimizer, w


def test_an_update_in_eval_mode_is_an_error() -> None:
    optimizer, w = in_eval_mode()
    before, state = w.copy(), optimizer.state_dict()
    for other in (optimizer, fs.Split([(lambda *_: True, optimizer)])):
        with pytest.raises(RuntimeError, match=r"^the optimizer is in eval mode: call train\(params\) before update$"):
            other.update(w, np.ones(3))
    np.testing.assert_array_equal(w, before)
    np.testing.assert_equal(optimizer.state_dict(), state)
    with pytest.raises(AttributeError, match=r"^training follows from the calls of train\(params\) and eval"):
        optimizer.training = True


def test_an_error_leaves_the_mode() -> None:
    optimizer, w = in_eval_mode()
    with pytest.raises(ValueError, match=r"has shape \(3,\), params has \(4,\)$"):
        optimizer.train(np.ones(4))
    assert not optimizer.training
    optimizer.train(w)
    optimizer.update(w, np.ones(3))


def loaded(optimizer: Any) -> Any:
    other = type(optimizer)()
    other.load_state_dict(optimizer.state_dict())
    return other


def test_copies_and_saved_state_keep_the_mode(tmp_path: Path) -> None:
    optimizer, w = in_eval_mode()
    fs.save_state(tmp_path / "state", optimizer)
    from_file = fs.ScheduleFreeAdamW()
    fs.load_state(tmp_path / "state", from_file)
    copies = [copy.copy(optimizer), pickle.loads(pickle.dumps(optimizer)), loaded(optimizer), from_file]
    params = [w.copy() for _ in copies]
    optimizer.train(w)
    for other, own in zip(copies, params, strict=True):
        assert not other.training
        other.train(own)
        np.testing.assert_array_equal(own, w)
    back = loaded(optimizer)
    assert back.training
    with pytest.raises(TypeError, match=r"^training is 'no', expected True or False$"):
        back.load_state_dict(
            optimizer.state_dict() | {back._full_name(): optimizer.state_dict()[back._full_name()] | {"training": "no"}}
        )
