"""Files of state: they go on as the original, replace as a whole, and what isn't one changes nothing."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ALL_ROWS, Row, schedule
from fusedstep import book


def advanced(optimizer: Any, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(3)
    params = {"W": rng.standard_normal((4, 5)).astype(dtype), "b": np.ones((), dtype), 7: np.ones((0, 3), dtype)}
    for _ in range(3):
        optimizer.update(params, {key: rng.standard_normal(w.shape) for key, w in params.items()})
    return optimizer


def assert_equal(a: fs.Optimizer, b: fs.Optimizer) -> None:
    first, second = a.state_dict(), b.state_dict()
    np.testing.assert_equal(first, second)
    for key, arrays in a.state.items():
        assert {letter: array.dtype for letter, array in arrays.items()} == {
            letter: array.dtype for letter, array in b.state[key].items()
        }


@pytest.mark.parametrize("row", [*ALL_ROWS, Row(book.Adam, book.Adam), Row(book.Nesterov, book.Nesterov)])
def test_a_round_trip(row: Row, dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    original, other = advanced(row.optimizer(lr=1 / 3), dtype), row.optimizer(lr=0.9)
    fs.save_state(path, original)
    fs.load_state(str(path), other)
    assert_equal(original, other)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]
    w, v, g = np.ones((4, 5), dtype), np.ones((4, 5), dtype), np.full((4, 5), 0.1, dtype)
    original.update({"W": w}, {"W": g})
    other.update({"W": v}, {"W": g})
    np.testing.assert_array_equal(v, w)


def test_options_and_a_schedule(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for original in (
        fs.Momentum(0.1, lr_in_velocity=False),
        fs.Adam(eps_inside_root=True, weight_decay=0.2),
        book.Nesterov(0.2, legacy=True),
    ):
        fs.save_state(path, advanced(original))
        other = type(original)()
        fs.load_state(path, other)
        assert_equal(original, other)
    fs.save_state(path, advanced(fs.SGD(schedule)))
    sgd = fs.SGD(0.5)
    fs.load_state(path, sgd)
    assert (sgd.lr, sgd.iterations) == (0.5, 3)


def test_lists_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    original, other = fs.Adam(), fs.Adam()
    original.update([np.ones(3), np.ones(2)], [np.ones(3), np.ones(2)])
    original.update(
        {"0": np.ones(4), np.int64(5): np.ones(1), "ä/..\n": np.ones(1)},
        dict.fromkeys(["0", 5, "ä/..\n"], np.ones(1)) | {"0": np.ones(4)},
    )
    fs.save_state(path, original)
    fs.load_state(path, other)
    assert set(other.state) == {0, 1, "0", 5, "ä/..\n"}
    assert_equal(original, other)
    for key in (("W", None), None, 1.5, True):
        strange = fs.Momentum()
        strange.update({key: np.ones(2)}, {key: np.ones(2)})
        with pytest.raises(TypeError, match="expected a string or an integer"):
            fs.save_state(path, strange)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]
    fs.load_state(path, other)


def damaged(path: Path) -> dict[str, bytes]:
    """Files that are not what was written to this one."""
    whole = path.read_bytes()
    files = {f"cut to {n}": whole[:n] for n in (0, 1, 3, 4, 50, len(whole) // 2, len(whole) - 30, len(whole) - 1)}
    files |= {"text": b"W = 3", "zeros": bytes(1000), "more before": b"x" * 10 + whole[:-22]}

    def archive(**entries: Any) -> bytes:
        file = io.BytesIO()
        np.savez(file, **entries)
        return file.getvalue()

    array = io.BytesIO()
    np.save(array, np.ones(3))
    files |= {"npy": array.getvalue(), "another npz": archive(W=np.ones(3)), "number": archive(about=np.ones(3))}
    with np.load(path) as good:
        about, entries = json.loads(str(good["about"])), {name: good[name] for name in good.files if name != "about"}
    for name in about:
        files[f"without {name}"] = archive(about=json.dumps({k: v for k, v in about.items() if k != name}), **entries)
    for name, value in (
        ("format", "another"),
        ("version", 3),
        ("version", "1"),
        ("optimizer", "fusedstep.optimizers.SGD"),
        ("hyperparameters", []),
        ("hyperparameters", about["hyperparameters"] | {"beta1": 2.0}),
        ("iterations", -1),
        ("keys", []),
        ("keys", [None, None, None]),
    ):
        files[f"{name} {value}"] = archive(about=json.dumps(about | {name: value}), **entries)
    files["an array less"] = archive(about=json.dumps(about), **dict(list(entries.items())[1:]))
    files["an array more"] = archive(about=json.dumps(about), **entries, **{"0.x": np.ones(3)})
    files["integers"] = archive(about=json.dumps(about), **(entries | {"0.m": np.ones((4, 5), int)}))
    files["objects"] = archive(about=json.dumps(about), **(entries | {"0.m": np.array([None])}))
    return files


def test_what_is_no_such_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    fs.save_state(path, advanced(fs.Adam()))
    optimizer, usual = advanced(fs.Adam(0.5), np.float32), advanced(fs.Adam(0.5), np.float32)
    for name, content in damaged(path).items():
        if name in ("without fusedstep", "without skipped", "without bfloat16"):  # for people, or it has a default
            continue
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            fs.load_state(path, optimizer)
        assert_equal(optimizer, usual)


def test_every_flipped_bit_is_seen_or_harmless(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "state.npz"
    original = advanced(fs.Momentum())
    fs.save_state(path, original)
    whole = path.read_bytes()
    refused = 0
    for position in rng.choice(8 * len(whole), 500, replace=False):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << (position % 8)
        path.write_bytes(changed)
        other = fs.Momentum()
        try:
            fs.load_state(path, other)
        except ValueError:
            refused += 1
        else:
            assert_equal(original, other)  # dates and the like
    assert refused > 250


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with pytest.raises(FileNotFoundError):
        fs.load_state(path, fs.Adam())
    fs.save_state(path, advanced(fs.Adam()))
    with pytest.raises(ValueError, match=r"the state dict has .*optimizers.Adam.*, but lacks fusedstep.optimizers.SGD"):
        fs.load_state(path, fs.SGD())
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"state.npz: is damaged, or not a file of save_state"):
        fs.load_state(path, fs.Adam())
    changed = whole.replace('"version": 2,'.encode("utf-32-le"), '"version": 9,'.encode("utf-32-le"))
    assert changed != whole
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"state.npz: is damaged"):  # the checksum knows
        fs.load_state(path, fs.Adam())
    about = json.dumps({"format": "fusedstep optimizer state", "version": 3})
    np.savez(path, about=np.array(about))
    with pytest.raises(ValueError, match=r"state.npz: has format 3, this version of fusedstep reads up to 2"):
        fs.load_state(path, fs.Adam())


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links and file modes, which not every system has")
def test_links_and_modes_stay(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link.npz"
    folder.mkdir()
    target = folder / "state.npz"
    link.symlink_to(target)
    fs.save_state(link, advanced(fs.SGD()))
    assert link.is_symlink()
    target.chmod(0o640)
    fs.save_state(link, advanced(fs.Adam()))
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    fs.load_state(link, fs.Adam())
    with pytest.raises(OSError, match="directory"):
        fs.save_state(folder, fs.SGD())
    with pytest.raises(FileNotFoundError):
        fs.save_state(tmp_path / "nowhere" / "state.npz", fs.SGD())
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["folder", "link.npz", "state.npz"]


SAVING = """
import sys
import numpy as np
import fusedstep as fs

optimizer = fs.Adam()
w = np.ones(30_000)
while True:
    optimizer.update(w, w.copy())
    fs.save_state(sys.argv[1], optimizer)
    print(flush=True)
"""
KILLS = int(os.environ.get("FUSEDSTEP_TEST_KILLS", "10"))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL, which only POSIX has")
def test_killed_at_any_moment_a_whole_file_is_there(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "state.npz"
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", SAVING, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # the first file is there
        begin = time.perf_counter()
        process.stdout.readline()
        time.sleep(rng.uniform(0, 3 * (time.perf_counter() - begin)))  # so many updates, each with its file
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        optimizer = fs.Adam()
        fs.load_state(path, optimizer)
        assert optimizer.iterations >= 2
        # Of gradients w = 1 at first the first moment grows with every step; all of it is of one step.
        assert len(np.unique(optimizer.state[0]["m"])) == 1
    for left in tmp_path.glob(".state.npz.*.unfinished"):
        left.unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]
