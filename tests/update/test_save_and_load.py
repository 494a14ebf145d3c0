"""Files of whole trainings: they continue to the bit, in the same memory, and what doesn't fit changes nothing."""

import io
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS
from fusedstep import schedules
from snapshots import leaves, saved


def training(seed: int) -> dict[Any, Any]:
    """Everything that a file can have, with numbers that depend on the seed."""
    rng = np.random.default_rng(seed)
    params = {
        "W": rng.standard_normal((4, 5)).astype(np.float32),
        "turned": np.asfortranarray(rng.standard_normal((3, 2))),
        "gaps": rng.standard_normal(20)[::3],
        "backwards": rng.standard_normal((4, 2))[::-1],
        "single": rng.standard_normal(()),
        "nothing": np.ones((0, 3), np.float16),
        "others": np.arange(3 * seed, 3 * seed + 3, dtype=">i2"),
        "turned others": np.asfortranarray(rng.standard_normal((2, 3)).astype(">f4")),
        "mask": rng.random(9) > 0.5,
        "complex": rng.standard_normal(3) * (1 + 1j),
    }
    optimizer = fs.Adam(0.1 * seed, average=0.9)
    split = fs.Split([("W", fs.SGD(0.1 * seed, momentum=0.9)), ("turned", fs.AdaGrad())], clip_norm=seed)
    norm, dropout = fs.BatchNorm(5, eps=0.1 * seed), fs.Dropout(0.1 * seed, seed=seed)
    own = {"optimizer": optimizer, "parts": [split, (norm, dropout)], ("block", 1): {7: params}}
    for _ in range(seed):
        step(own)
    values = {"epoch": seed, "best": None if seed == 1 else 0.1, "rng": rng.bit_generator.state, "name": f"run {seed}"}
    return own | {"values": values | {"nan": np.nan, "flag": seed == 1, "scalar": np.float32(seed / 3)}}


def step(own: dict[Any, Any]) -> Any:
    """An iteration, of which everything depends on state."""
    (split, (norm, dropout)), params = own["parts"], own["block", 1][7]
    y = dropout.forward(norm.forward(params["W"].copy()))
    norm.gamma += np.float32(0.5)
    own["optimizer"].update({"W": params["W"]}, {"W": y})
    steppable = {key: params[key] for key in ("W", "turned")}
    split.update(steppable, {"W": y, "turned": np.ones((3, 2))})
    return y


@pytest.mark.parametrize("opened", [False, True])
def test_a_training_continues_in_the_same_memory(opened: bool, tmp_path: Path) -> None:
    path = tmp_path / "training.npz"
    first, other = training(1), training(2)
    if opened:
        path.write_bytes(saved(first))
    else:
        fs.save(path, first)
    params, norm = dict(other["block", 1][7]), other["parts"][1][0]
    gamma, values = norm.gamma, other["values"]
    assert fs.load(io.BytesIO(path.read_bytes()) if opened else path, other) is None
    assert other["block", 1][7].keys() == params.keys()
    assert all(other["block", 1][7][key] is array for key, array in params.items())
    assert (norm.gamma is gamma, other["values"] is values) == (True, True)
    np.testing.assert_equal(leaves(other), leaves(first))
    assert type(values["scalar"]) is float
    np.testing.assert_equal(step(other), step(first))
    np.testing.assert_equal(leaves(other), leaves(first))
    assert [p.name for p in tmp_path.iterdir()] == ["training.npz"]


@pytest.mark.parametrize("row", ALL_ROWS)
def test_every_optimizer(row: Any) -> None:
    w, g = np.linspace(-1, 1, 6).reshape(2, 3), np.full((2, 3), 0.3)
    first, other = row.optimizer(), row.optimizer()
    for _ in range(2):
        first.update(w, g)
    v = np.zeros((2, 3))
    fs.load(io.BytesIO(saved([first, w])), [other, v])
    first.update(w, g)
    other.update(v, g)
    np.testing.assert_array_equal(v, w)


def test_what_is_in_a_file() -> None:
    first = training(1)
    found = fs.load(io.BytesIO(saved(first)))
    assert list(found) == list(first)
    np.testing.assert_equal(leaves(found), leaves(first))
    assert type(found["parts"][1]) is tuple
    other = fs.Adam()
    other.load_state_dict(found["optimizer"])
    np.testing.assert_equal(other.state_dict(), first["optimizer"].state_dict())
    alone: Any
    for alone in (np.ones(3), 5, "text", None, [], {}, ()):
        np.testing.assert_equal(fs.load(io.BytesIO(saved(alone))), alone)


def test_schedules_stay() -> None:
    first, other = fs.SGD(schedules.Cosine(0.1, 9)), fs.SGD(schedules.Exponential(0.1, 0.5))
    first.update(np.ones(2), np.ones(2))
    fs.load(io.BytesIO(saved(first)), other)
    assert (other.lr, other.iterations) == (schedules.Exponential(0.1, 0.5), 1)


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    w, v = np.linspace(0, 1, 7).astype(ml_dtypes.bfloat16), np.zeros(14, ml_dtypes.bfloat16)[::2]
    content = saved({"w": w, "turned": np.asfortranarray(w[:6].reshape(2, 3)), "single": np.array(w[3])})
    into = {"w": v, "turned": v.base[:6].reshape(2, 3), "single": np.zeros((), w.dtype)}  # type: ignore[index]
    fs.load(io.BytesIO(content), {key: array.copy("K") for key, array in into.items()} | {"w": v})
    np.testing.assert_array_equal(v, w)
    fs.load(io.BytesIO(content), into)
    assert into["single"] == w[3]
    assert [array.dtype for array in fs.load(io.BytesIO(content)).values()] == [w.dtype] * 3
    with pytest.raises(ValueError, match="dtype bfloat16"):
        fs.load(io.BytesIO(content), into | {"w": np.zeros(7, np.uint16)})
    with pytest.raises(ValueError, match=r"the file has an array of shape \(7,\) and dtype uint16"):
        fs.load(io.BytesIO(saved(w.view(np.uint16))), v)


def test_the_other_byte_order() -> None:
    w, v = np.arange(6.0).reshape(2, 3), np.zeros((2, 3))
    for arranged in (np.ascontiguousarray(w), np.asfortranarray(w)):
        fs.load(io.BytesIO(saved(arranged.astype(">f8"))), v)
        np.testing.assert_array_equal(v, w)
        v[...] = 0


def test_overlapping_arrays_are_written_one_after_the_other() -> None:
    a = np.zeros(4)
    fs.load(io.BytesIO(saved([np.arange(3.0), np.arange(10.0, 13.0)])), [a[:3], a[1:]])
    assert a.tolist() == [0, 10, 11, 12]


def test_objects_that_share_memory() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    parameters = list(other.parameters())
    tensors = {"leaf": torch.ones(2, requires_grad=True), "bf": torch.linspace(0, 1, 5, dtype=torch.bfloat16)}
    tensors |= {"view": torch.arange(12).reshape(3, 4).t(), "flags": torch.tensor([True, False])}
    content = saved([model.state_dict(), list(model.parameters()), tensors, memoryview(b"abc")])
    into = {key: torch.zeros_like(tensor) for key, tensor in tensors.items()}
    squared = parameters[0].square().sum()
    buffer = bytearray(3)
    fs.load(io.BytesIO(content), [other.state_dict(), parameters, into, memoryview(buffer)])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(into[key], tensor) for key, tensor in tensors.items())
    assert buffer == b"abc"
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        squared.backward()
    with pytest.raises(ValueError, match=r"into\[3\] is read-only$"):
        fs.load(io.BytesIO(content), [other.state_dict(), parameters, into, memoryview(b"xyz")])


# By what the error has: what is put in place of an object.
MISFITS: dict[str, Callable[[dict[Any, Any]], object]] = {
    r"into lacks 'values', which the file has": lambda o: o.pop("values"),
    r"into has 'more', which the file lacks": lambda o: o.update(more=1),
    r"into\['values'\] is an array of shape \(3,\) and dtype float64, the file has a dict": lambda o: o.update(
        values=np.ones(3)
    ),
    r"into\['values'\]\['name'\] is an array .* the file has the value 'run 1'": lambda o: o["values"].update(
        name=np.ones(3)
    ),
    r"into\['parts'\] has length 3, the file has 2": lambda o: o["parts"].append(1),
    r"into\['parts'\] is a tuple, the file has a list": lambda o: o.update(parts=tuple(o["parts"])),
    r"into\['parts'\] is the value 1, the file has a list": lambda o: o.update(parts=1),
    r"into\['parts'\]\[1\]\[1\]: the state dict has calls, drawn, rate, seed, expected beta": lambda o: o.update(
        parts=[o["parts"][0], (o["parts"][1][0], fs.BatchNorm(3))]
    ),
    r"into\['parts'\]\[0\]: the state dict has 2 optimizers, Split has 1": lambda o: o["parts"].__setitem__(
        0, fs.Split([("W", fs.SGD())])
    ),
    r"into\['optimizer'\]: the state dict has .*Adam.* lacks fusedstep.optimizers.SGD": lambda o: o.update(
        optimizer=fs.SGD()
    ),
    r"into\['optimizer'\] is the value None, the file has the state of an optimizer or a layer": lambda o: o.update(
        optimizer=None
    ),
    r"into\['values'\] is a Dropout, the file has a dict": lambda o: o.update(values=fs.Dropout()),
    r"into\[\('block', 1\)\]\[7\]\['W'\] is an array of shape \(5, 4\) and dtype float32, the file has an array of "
    r"shape \(4, 5\) and dtype float32": lambda o: o["block", 1][7].update(W=np.ones((5, 4), np.float32)),
    r"\['gaps'\] is an array of shape \(7,\) and dtype float32, the file has": lambda o: o["block", 1][7].update(
        gaps=np.ones(7, np.float32)
    ),
    r"\['complex'\] is a dict, the file has an array": lambda o: o["block", 1][7].update(complex={}),
    r"\['complex'\] is a object, expected an optimizer, a layer": lambda o: o["block", 1][7].update(complex=object()),
    r"\['complex'\] is read-only": lambda o: o["block", 1][7]["complex"].setflags(write=False),
}


@pytest.mark.parametrize("message", MISFITS)
def test_what_does_not_fit_changes_nothing(message: str, tmp_path: Path) -> None:
    path = tmp_path / "training"
    fs.save(path, training(1))
    other = training(2)
    MISFITS[message](other)
    before = leaves({key: item for key, item in other.items() if key != ("block", 1)})
    arrays = [np.array(array) for array in other["block", 1][7].values() if isinstance(array, np.ndarray)]
    with pytest.raises(ValueError, match=message) as error:
        fs.load(path, other)
    assert str(error.value).startswith(f"{path}: into")
    np.testing.assert_equal(leaves({key: item for key, item in other.items() if key != ("block", 1)}), before)
    np.testing.assert_equal([a for a in other["block", 1][7].values() if isinstance(a, np.ndarray)], arrays)


def test_a_value_in_a_tuple_is_compared() -> None:
    content = saved((1, "a", float("nan")))
    fs.load(io.BytesIO(content), (1, "a", float("nan")))
    for into in ((2, "a", float("nan")), (1, "a", 0.0)):
        with pytest.raises(ValueError, match=r"into\[.\] is .*, which can't be replaced: the file has"):
            fs.load(io.BytesIO(content), into)


class Note:
    """Nothing that a file can have."""

    def save_state(self, path: str) -> None:
        """Saves itself."""


around: list[Any] = []
around.append(around)
deep: Any = 1
for _ in range(101):
    deep = [deep]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"objects\['x'\] is a object, expected an optimizer, a layer, an array, a value, or a dict"),
        (Note(), r"is a Note, .*: it has a method save_state of its own$"),
        (schedules.Cosine(0.1, 3), "is a Cosine"),
        (1j, "is a complex"),
        (b"abc", "is a bytes"),
        ({1}, "is a set"),
        (iter([1]), "is a list_iterator"),
        (10**5000, r"objects\['x'\] is <int object .*>, which can't be saved in a file"),
        (np.longdouble(1), "can't be saved in a file"),
        (np.datetime64("2020-01-01"), "can't be saved in a file"),
        (np.array([None]), r"objects\['x'\] has dtype object, expected numbers"),
        (np.array("text"), "has dtype <U4, expected numbers"),
        (np.ones(2, [("a", "f4")]), r"expected numbers"),
        (np.ma.ones(2), r"is a masked array, whose mask would be ignored"),
        ({1.5: 1}, r"objects\['x'\] has key 1.5, expected a string or an integer"),
        ({("a", None): 1}, r"expected a string or an integer"),
        (around, r"objects\['x'\]\[0\] contains itself"),
        (deep, r"is in more than 100 containers"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_no_file_can_have(value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "training"
    path.write_bytes(b"old")
    with pytest.raises((TypeError, ValueError), match=message):
        fs.save(path, {"before": np.ones(3), "x": value})
    assert (path.read_bytes(), [p.name for p in tmp_path.iterdir()]) == (b"old", ["training"])


def test_objects_of_pytorch_and_of_processes_have_files_of_their_own() -> None:
    torch = pytest.importorskip("torch")
    from fusedstep.distributed import Sharded
    from fusedstep.torch import Adam
    from ranks import run

    for given in (torch.nn.Linear(2, 2), Adam([torch.ones(2)])):
        with pytest.raises(TypeError, match=r"^objects\[0\] is a \w+, .*: torch.save saves its state_dict\(\)$"):
            fs.save(io.BytesIO(), [given])
    with pytest.raises(
        TypeError, match=r"^objects\[0\] is a Tensor whose memory can't be shared: it is on device meta"
    ):
        fs.save(io.BytesIO(), [torch.ones(2, device="meta")])

    def save(comm: Any) -> None:
        with pytest.raises(TypeError, match=r"^objects is a Sharded, .*: it has a method save_state of its own$"):
            fs.save(io.BytesIO(), Sharded(fs.SGD(), comm))

    run(1, save)


def test_the_other_functions_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fs.save(path, fs.Adam())
    with pytest.raises(
        ValueError, match=r"file: is not a file of save_state, but one of fusedstep.save, for fusedstep"
    ):
        fs.load_state(path, fs.Adam())
    fs.save_state(path, fs.Adam())
    for into in (None, fs.Adam()):
        with pytest.raises(ValueError, match=r"file: is not a file of save, but one of fusedstep.save_state, for "):
            fs.load(path, into)
    with pytest.raises(TypeError, match=r"^path is a Adam, expected a path or a binary file"):
        fs.save(fs.Adam(), path)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        fs.load(tmp_path / "missing", fs.Adam())


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with names")
def test_a_pipe(tmp_path: Path) -> None:
    path, first, other = tmp_path / "pipe", training(1), training(2)
    os.mkfifo(path)
    writer = threading.Thread(target=fs.save, args=(path, first))
    writer.start()
    fs.load(path, other)
    writer.join()
    np.testing.assert_equal(leaves(other), leaves(first))


def test_arrays_are_streamed(tmp_path: Path) -> None:
    w, v = np.arange(8_000_000.0), np.zeros(8_000_000)
    tracemalloc.start()
    try:
        fs.save(tmp_path / "file", {"w": w})
        fs.load(tmp_path / "file", {"w": v})
        assert tracemalloc.get_traced_memory()[1] < w.nbytes / 2
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(v, w)


def test_an_error_while_a_file_is_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training"
    fs.save(path, training(1))
    before, written, write_array = path.read_bytes(), [0], np.lib.format.write_array

    def fails(*arguments: Any, **options: Any) -> None:
        written[0] += 1
        if written[0] == 5:
            raise OSError("no space")
        write_array(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fails)
    with pytest.raises(OSError, match="no space"):
        fs.save(path, training(2))
    assert (path.read_bytes(), [p.name for p in tmp_path.iterdir()]) == (before, ["training"])
