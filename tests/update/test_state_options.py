"""Options in saved state: copies that continue as the original, files of older versions, bfloat16, damage."""

import copy
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusedstep as fs
from cases import KINDS, Row, schedule
from fusedstep import book, schedules

NAME = "fusedstep.optimizers.Adam"
SAVED = Path(__file__).parent / "saved"


def is_vector(key: Any, w: Any) -> bool:
    return bool(w.ndim < 2)


# Options, with those that a loading optimizer must have too: functions.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "average": ({"average": 0.9}, {}),
    "average and clipping": ({"average": 0.5, "clip_norm": 0.5, "clip_value": 0.1, "maximize": True}, {}),
    "average by a schedule": ({}, {"average": schedules.AverageWarmup(0.9)}),
    "groups": ({}, {"groups": [(is_vector, {"lr": schedule, "weight_decay": 0.0}), ("W", {"average": 0.5})]}),
    "decoupled": ({"decoupled": True, "weight_decay": 0.1}, {}),
    "master": ({"master": True, "average": 0.9}, {}),
    "stochastic": ({"rounding": "stochastic", "seed": 2**64 - 1}, {}),
    "narrow state": ({"state_dtype": "bfloat16", "seed": 7, "average": 0.9, "master": True}, {}),
}


def params_of(rng: np.random.Generator) -> Any:
    return {
        "W": np.asfortranarray(rng.standard_normal((4, 5)).astype(ml_dtypes.bfloat16)),
        "b": rng.standard_normal(5).astype(np.float32),
        ("c", 0): rng.standard_normal((2, 0)).astype(np.float16),
    }


def advance(optimizer: Any, params: Any, rng: np.random.Generator, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.update(params, {key: rng.standard_normal(w.shape) for key, w in params.items()})


def from_file(optimizer: Any, other: Any) -> Any:
    file = io.BytesIO()
    fs.save_state(file, optimizer)
    file.seek(0)
    fs.load_state(file, other)
    return other


def from_snapshot(optimizer: Any, other: Any) -> Any:
    other.load_state_dict(optimizer.state_dict())
    return other


COPIES: dict[str, Callable[[Any, Any], Any]] = {
    "file": from_file,
    "state_dict": from_snapshot,
    "pickle": lambda optimizer, _: pickle.loads(pickle.dumps(optimizer)),
    "deepcopy": lambda optimizer, _: copy.deepcopy(optimizer),
    "copy": lambda optimizer, _: copy.copy(optimizer),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("row", KINDS)
def test_a_copy_goes_on_as_the_original(row: Row, how: str, case: str, rng: np.random.Generator) -> None:
    options, functions = CASES[case]
    original = row.optimizer(0.05, **options, **functions)
    params = params_of(rng)
    advance(original, params, rng)
    original.skipped = 3
    other, others, other_rng = (
        COPIES[how](original, row.optimizer(**functions)),
        copy.deepcopy(params),
        copy.deepcopy(rng),
    )
    assert repr(other) == repr(original)
    assert other.skipped == 3
    for key, state in original.state.items():
        assert list(other.state[key]) == list(state)
        for name, array in state.items():
            np.testing.assert_array_equal(other.state[key][name], array, strict=True)
    advance(original, params, rng)
    advance(other, others, other_rng)
    np.testing.assert_equal(others, params)
    np.testing.assert_equal(other.state, original.state)


@pytest.mark.parametrize("name", ["adam", "adamw", "momentum", "book_adam"])
def test_files_of_the_first_version_have_no_options(name: str) -> None:
    classes: dict[str, Any] = {"adam": fs.Adam, "adamw": fs.AdamW, "momentum": fs.Momentum, "book_adam": book.Adam}
    cls = classes[name]
    for options in ({"clip_norm": 1.0, "seed": 3, "average": 0.5, "decoupled": False}, {"average": schedule}):
        optimizer = cls()
        for option, value in options.items():
            setattr(optimizer, option, value)
        optimizer.groups = [("W", {"lr": 0.5})]
        fs.load_state(SAVED / f"0.1.0-{name}.npz", optimizer)
        average = schedule if options["average"] is schedule else None
        assert (optimizer.clip_norm, optimizer.seed, optimizer.average) == (None, 0, average)
        assert optimizer.decoupled is (name == "adamw")
        assert optimizer.groups == (("W", {"lr": 0.5}),)
        assert optimizer.skipped == 0
        optimizer.update(
            {key: np.ones_like(state[next(iter(state))]) for key, state in optimizer.state.items()},
            {key: np.ones_like(state[next(iter(state))]) for key, state in optimizer.state.items()},
        )


def test_pickles_without_options() -> None:
    optimizer = fs.Adam()
    optimizer.update(np.ones(2), np.ones(2))
    attributes = optimizer.__getstate__()
    for name in ("skipped", "groups", "gradient_norm"):
        attributes.pop(name, None)
    other = fs.Adam.__new__(fs.Adam)
    other.__setstate__(attributes)
    other.update(np.ones(2), np.ones(2), scale=0.5)
    assert (other.skipped, other.groups, other.clip_norm, other.iterations) == (0, (), None, 2)


def parts(optimizer: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    file = io.BytesIO()
    fs.save_state(file, optimizer)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(str(np.load(io.BytesIO(entries["about.npy"])))), entries


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(about: dict[str, Any], entries: dict[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in (entries | {"about.npy": npy(np.array(json.dumps(about)))}).items():
            file.writestr(name, content)
    out.seek(0)
    return out


def narrow() -> fs.Adam:
    optimizer = fs.Adam(state_dtype="bfloat16", average=0.5, groups=[("W", {"lr": 0.5, "beta1": 0.5})])
    params = {"W": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}
    optimizer.update(params, {"W": np.full((2, 3), 0.3, np.float32), "b": np.ones(2)})
    return optimizer


def test_files_that_lack_what_is_new_load() -> None:
    original = fs.Adam()
    original.update([np.ones(3)], [np.ones(3)])
    about, entries = parts(original)
    del about["skipped"], about["bfloat16"]
    about["hyperparameters"] = {
        name: about["hyperparameters"][name]
        for name in ("lr", "beta1", "beta2", "eps", "weight_decay", "eps_inside_root")
    }
    other = fs.Adam(seed=5, skip_nonfinite=True)
    other.skipped = 3
    fs.load_state(archive(about, entries), other)
    np.testing.assert_equal(other.state_dict(), original.state_dict())


def test_bfloat16_is_saved_as_its_bits() -> None:
    optimizer = narrow()
    about, entries = parts(optimizer)
    assert about["bfloat16"] == ["0.m", "0.v", "1.m", "1.v"]
    bits = np.load(io.BytesIO(entries["0.m.npy"]))
    assert bits.dtype == np.uint16
    np.testing.assert_array_equal(bits.view(ml_dtypes.bfloat16), optimizer.state["W"]["m"])
    assert np.load(io.BytesIO(entries["0.average.npy"])).dtype == np.float32
    assert parts(fs.Adam())[0]["bfloat16"] == []


def test_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "narrow.npz"
    fs.save_state(path, narrow())
    other = fs.Adam()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    message = r"narrow.npz: an array in bfloat16 needs ml_dtypes: pip install ml_dtypes$"
    with pytest.raises(ValueError, match=message):
        fs.load_state(path, other)
    assert other.state == {}
    about, entries = parts(fs.Adam())
    about["hyperparameters"]["state_dtype"] = "bfloat16"
    with pytest.raises(ValueError, match=r"state_dtype='bfloat16' needs ml_dtypes"):
        fs.load_state(archive(about, entries), other)
    with pytest.raises(ImportError, match=r"^state_dtype='bfloat16' needs ml_dtypes: pip install ml_dtypes$"):
        other.state_dtype = "bfloat16"
    with pytest.raises(ImportError, match=r"^state_dtype='bfloat16' needs ml_dtypes"):
        fs.Adam(state_dtype="bfloat16")


def changed(**hyperparameters: Any) -> dict[str, Any]:
    about, _ = parts(narrow())
    return {"hyperparameters": about["hyperparameters"] | hyperparameters}


SHAPE = (2, 3)
# Changes of the description and of members, and what the error says.
DAMAGED: dict[str, tuple[dict[str, Any], dict[str, bytes], str]] = {
    "floats for bits": ({}, {"0.m.npy": npy(np.ones(SHAPE, np.float32))}, "0.m has dtype float32"),
    "wide bits": (
        {},
        {"0.m.npy": npy(np.ones(SHAPE, np.uint32))},
        "0.m has dtype uint32, expected the bits of bfloat16",
    ),
    "bits that nothing names": ({"bfloat16": ["0.v"]}, {}, "0.m has dtype uint16"),
    "no names": ({"bfloat16": None}, {}, "bfloat16 is no list"),
    "an average in bits": ({}, {"0.average.npy": npy(np.ones(SHAPE, np.uint16))}, "0.average has dtype uint16"),
    "a narrow average": (
        {"bfloat16": ["0.m", "0.v", "1.m", "1.v", "0.average"]},
        {"0.average.npy": npy(np.ones(SHAPE, np.uint16))},
        r"state\['W'\]\['average'\] has dtype bfloat16, expected float32 or float64",
    ),
    "an average of another shape": (
        {},
        {"0.average.npy": npy(np.ones(3, np.float32))},
        r"state\['W'\]\['average'\] has shape \(3,\) and dtype float32, state\['W'\]\['m'\] has \(2, 3\) and bfloat16",
    ),
    "an average of another type": ({}, {"0.average.npy": npy(np.ones(SHAPE))}, "has shape .* and dtype float64, state"),
    "a master of another type": ({}, {"0.master.npy": npy(np.ones(SHAPE))}, "has shape .* and dtype float64, state"),
    "one state in float32": (
        {"bfloat16": ["0.m", "1.m", "1.v"]},
        {"0.v.npy": npy(np.ones(SHAPE, np.float32))},
        r"state\['W'\]\['v'\] has shape \(2, 3\) and dtype float32",
    ),
    "another state": ({}, {"0.mean.npy": npy(np.ones(SHAPE))}, r"state\['W'\] has average, m, mean, v, expected m, v"),
    "skipped": ({"skipped": -1}, {}, "skipped is -1"),
    "skipped as a text": ({"skipped": "1"}, {}, "skipped is '1'"),
    "no groups": (changed(groups=[]), {}, "the state has 0 groups, the optimizer has 1: give it the same ones"),
    "groups of a number": (changed(groups=1), {}, "groups is a int, expected a list"),
    "a group of a number": (changed(groups=[1]), {}, r"groups\[0\] is a int, expected a dict"),
    "a group less": (changed(groups=[{"lr": 0.5}]), {}, r"groups\[0\] has lr, expected beta1, lr"),
    "a group more": (changed(groups=[{"beta1": 0.5, "eps": 1}]), {}, r"groups\[0\] has beta1, eps, expected beta1, lr"),
    "a group's number": (changed(groups=[{"lr": 0.5, "beta1": 2}]), {}, r"groups\[0\]\['beta1'\] is 2, expected"),
    "clip_norm": (changed(clip_norm=-1), {}, "clip_norm is -1"),
    "clip_value": (changed(clip_value="1"), {}, "clip_value is '1'"),
    "average": (changed(average=[1]), {}, r"average is \[1\]"),
    "maximize": (changed(maximize=2), {}, "maximize is 2"),
    "master": (changed(master=None), {}, "master is None"),
    "rounding": (changed(rounding="down"), {}, "rounding is 'down', expected 'nearest' or 'stochastic'"),
    "rounding null": (changed(rounding=None), {}, "rounding is None, expected"),
    "seed": (changed(seed=2**64), {}, "seed is 18446744073709551616"),
    "state_dtype": (changed(state_dtype="float16"), {}, "state_dtype is 'float16', expected None or 'bfloat16'"),
    "another option": (changed(nesterov=True), {}, f"{NAME} has .*nesterov.*, expected amsgrad, average, beta1"),
    "a split that is none": (
        {"split": {}, "optimizers": []},
        {},
        "has the state of a Split of 0, expected that of one",
    ),
    "optimizers that are none": ({"split": {}, "optimizers": 3}, {}, "optimizers is no list"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str) -> None:
    about, entries = parts(narrow())
    changes, members, message = DAMAGED[name]
    other = fs.Adam(groups=[("W", {"lr": 0.1, "beta1": 0.1})])
    before = other.state_dict()
    with pytest.raises(ValueError, match=message):
        fs.load_state(archive(about | changes, entries | members), other)
    np.testing.assert_equal(other.state_dict(), before)
    assert dict(other.groups[0][1]) == {"lr": 0.1, "beta1": 0.1}
    fs.load_state(archive(about, entries), other)
    assert dict(other.groups[0][1]) == {"lr": 0.5, "beta1": 0.5}


def test_a_damaged_file_of_a_split() -> None:
    split = fs.Split([("a", fs.Adam()), ("b", fs.SGD())])
    split.update({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
    about, entries = parts(split)
    assert list(entries) == ["about.npy", "0.m.npy", "0.v.npy"]
    adam, sgd = about["optimizers"]
    before = split.state_dict()
    for changes, members in (
        ({"split": []}, {}),
        ({"split": {}}, {}),
        ({"split": about["split"] | {"skipped": None}}, {}),
        ({"optimizers": {}}, {}),
        ({"optimizers": [adam]}, {}),
        ({"optimizers": [sgd, adam]}, {}),
        ({"optimizers": [adam, adam]}, {}),
        ({"optimizers": [adam, 3]}, {}),
        ({"optimizers": [{**adam, "steps": None}, sgd]}, {}),
        ({}, {"1.m.npy": npy(np.ones(2))}),
        ({"optimizers": [adam, {**sgd, "keys": ["b"]}]}, {"1.m.npy": npy(np.ones(2))}),
    ):
        with pytest.raises(ValueError, match=r"^path \(a BytesIO\): "):
            fs.load_state(archive(about | changes, entries | members), split)
        np.testing.assert_equal(split.state_dict(), before)
    fs.load_state(archive(about, entries), split)


def test_schedules_are_left_out_and_stay() -> None:
    original = fs.Adam(average=schedule, groups=[("a", {"lr": schedule, "weight_decay": 0.1}), ("b", {"lr": 0.5})])
    saved = original.state_dict()
    assert "average" not in saved[NAME]
    assert saved[NAME]["groups"] == [{"weight_decay": 0.1}, {"lr": 0.5}]
    cosine = schedules.Cosine(0.1, 5)
    for average in (schedules.AverageWarmup(0.5), 0.5, None):
        other = fs.Adam(average=average, groups=[("a", {"lr": cosine, "weight_decay": 0.2}), ("b", {"lr": cosine})])
        other.load_state_dict(saved)
        assert other.average == average
        assert [dict(overrides) for _, overrides in other.groups] == [
            {"lr": cosine, "weight_decay": 0.1},
            {"lr": cosine},
        ]
    other = fs.Adam(groups=[("a", {"lr": 0.3, "weight_decay": 0.2}), ("b", {"lr": 0.4})])
    other.load_state_dict(saved)
    assert [dict(overrides) for _, overrides in other.groups] == [{"lr": 0.3, "weight_decay": 0.1}, {"lr": 0.5}]


def test_loading_takes_effect_at_the_next_update() -> None:
    averaging, plain = fs.SGD(1.0, average=0.5), fs.SGD(1.0)
    for optimizer in (averaging, plain):
        optimizer.update(np.ones(2), np.ones(2))
    plain.load_state_dict(averaging.state_dict())
    plain.update(np.ones(2), np.ones(2))
    assert plain.averages()[0].tolist() == [0.0, 0.0]
    averaging.load_state_dict(fs.SGD(1.0).state_dict())
    averaging.update(np.ones(2), np.ones(2))
    assert averaging.averages() == {}


def test_repr() -> None:
    assert repr(fs.SGD(0.5, clip_norm=1, maximize=1)) == (  # type: ignore[arg-type]
        "SGD(lr=0.5, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, clip_norm=1.0, maximize=True)"
    )
    assert "decoupled" not in repr(fs.AdamW(decoupled=True))
    assert repr(fs.AdamW(decoupled=False)).endswith(", decoupled=False)")
    optimizer = fs.Adam(average=schedules.AverageWarmup(0.9), seed=3, rounding="stochastic", state_dtype="bfloat16")
    assert eval(repr(optimizer), {"Adam": fs.Adam, "AverageWarmup": schedules.AverageWarmup}).state_dict() == (
        optimizer.state_dict()
    )
    split = fs.Split([("a", fs.AdaGrad(0.5))], clip_norm=1)
    assert repr(split) == f"Split([('a', {fs.AdaGrad(0.5)!r})], clip_norm=1.0, skip_nonfinite=False)"
    legacy = book.SGD(0.5)
    legacy.clip_norm = 1.0
    assert repr(legacy) == "SGD(lr=0.5)"


class Averaging(fs.SGD):
    """Has options by its class."""

    average = 0.5
    clip_norm = 1.0


def test_a_subclass_may_set_options_for_its_class() -> None:
    for optimizer in (
        Averaging(1.0),
        pickle.loads(pickle.dumps(Averaging(1.0))),
        from_snapshot(Averaging(1.0), Averaging()),
    ):
        optimizer.update(np.zeros(1), np.full(1, 0.5))
        assert optimizer.averages() == {0: -0.5}
        assert optimizer.gradient_norm == 0.5
        optimizer.average = None
        assert from_file(optimizer, Averaging()).average is None
    assert repr(Averaging(1.0)).endswith(", weight_decay=0.0)")
    assert repr(Averaging(1.0, average=0.9)).endswith(", weight_decay=0.0, average=0.9)")


def test_a_master_is_not_kept_when_the_option_is_off() -> None:
    w = np.ones(3, np.float16)
    optimizer = fs.SGD(0.25, master=True)
    for master in (True, False, True):
        optimizer.master = master
        optimizer.update([w], [np.ones(3)])
        assert ("master" in optimizer.state.get(0, {})) is master
    assert w.tolist() == [0.25] * 3
    optimizer.state[0]["master"][...] = 0.5
    optimizer.update([w], [np.ones(3)])
    assert w.tolist() == [0.25] * 3
