"""Where state is saved: what open() takes, save_state takes, and leaves what it is; open files too."""

import errno
import io
import os
import re
import socket
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

posix = pytest.mark.skipif(os.name != "posix", reason="needs files that only POSIX has")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root")


@pytest.fixture
def optimizer() -> fs.Adam:
    optimizer = fs.Adam()
    optimizer.update({"W": np.ones(10)}, {"W": np.ones(10)})
    return optimizer


def assert_loads(source: Any, optimizer: fs.Adam) -> None:
    other = fs.Adam()
    fs.load_state(source, other)
    np.testing.assert_equal(other.state_dict(), optimizer.state_dict())


@pytest.fixture
def kinds(tmp_path: Path) -> Iterator[dict[str, Path]]:
    paths = {name: tmp_path / name for name in ("socket", "loop", "folder", "broken")}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths["socket"]))
        paths["loop"].symlink_to(paths["loop"])
        paths["folder"].mkdir()
        paths["broken"].symlink_to(tmp_path / "nowhere" / "state")
        yield paths


@posix
@pytest.mark.parametrize(
    ("kind", "number"),
    [("socket", errno.ENXIO), ("loop", errno.ELOOP), ("folder", errno.EISDIR), ("broken", errno.ENOENT)],
)
def test_what_open_refuses_is_refused_as_it_does(
    kind: str, number: int, kinds: dict[str, Path], optimizer: fs.Adam
) -> None:
    before = kinds[kind].lstat()
    with pytest.raises(OSError, match=r".") as error:
        fs.save_state(kinds[kind], optimizer)
    assert error.value.errno == number
    after = kinds[kind].lstat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    assert sorted(p.name for p in kinds[kind].parent.iterdir()) == sorted(kinds)


@posix
@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "new/", "new/.", "missing/state", "missing/../state", "old/", "old/."]
)
def test_names_that_open_refuses(
    name: str, optimizer: fs.Adam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old").touch()
    with pytest.raises(OSError, match=r".") as expected:
        open(name, "wb")  # noqa: PTH123, SIM115
    with pytest.raises(type(expected.value)) as error:
        fs.save_state(name, optimizer)
    assert error.value.errno == expected.value.errno
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    with pytest.raises(OSError, match=r"."):
        fs.load_state(name, optimizer)


@posix
def test_a_pipe_is_written_and_read(optimizer: fs.Adam, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=fs.save_state, args=(path, optimizer))
    writer.start()
    assert_loads(path, optimizer)
    writer.join()
    assert stat.S_ISFIFO(path.lstat().st_mode)


@as_root
def test_a_device_stays_one(optimizer: fs.Adam, tmp_path: Path) -> None:
    null, link = tmp_path / "null", tmp_path / "link"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    link.symlink_to(null)
    for path in (null, link):
        fs.save_state(path, optimizer)
        assert stat.S_ISCHR(null.lstat().st_mode)
        assert link.is_symlink()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_a_file_without_a_name_is_written(optimizer: fs.Adam) -> None:
    descriptor = os.memfd_create("state")
    try:
        path = Path(f"/proc/self/fd/{descriptor}")
        fs.save_state(path, optimizer)
        assert_loads(path, optimizer)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "name", ["n" * 226, "n" * 227, "n" * 255, "ä" * 127, "\N{GRINNING FACE}" * 63, ".n", "a b\n", "-"]
)
def test_every_name_that_a_file_may_have(name: str, optimizer: fs.Adam, tmp_path: Path) -> None:
    path = tmp_path / name
    try:
        path.touch()
    except OSError:
        pytest.skip("the file system doesn't take this name")
    for _ in range(2):
        fs.save_state(path, optimizer)
        assert_loads(path, optimizer)
        assert [p.name for p in tmp_path.iterdir()] == [name]
        path.unlink()
    fs.save_state(os.fsencode(path), optimizer)
    assert_loads(os.fsencode(path), optimizer)


@posix
def test_a_new_file_has_the_mode_of_open(optimizer: fs.Adam, tmp_path: Path) -> None:
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            fs.save_state(tmp_path / "state", optimizer)
            (tmp_path / "other").touch()
        finally:
            os.umask(before)
        assert (tmp_path / "state").stat().st_mode == (tmp_path / "other").stat().st_mode
        (tmp_path / "state").unlink()
        (tmp_path / "other").unlink()


@as_root
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660, 0o400])
def test_an_old_file_stays_its_owners(mode: int, optimizer: fs.Adam, tmp_path: Path) -> None:
    path, link = tmp_path / "state", tmp_path / "link"
    path.touch()
    os.chown(path, 1234, 4321)
    path.chmod(mode)
    link.symlink_to(path.name)
    for name in (path, link):
        fs.save_state(name, optimizer)
        found = path.lstat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, mode)
    assert link.is_symlink()
    assert_loads(link, optimizer)


@as_root
def test_a_new_file_has_the_group_of_its_folder(optimizer: fs.Adam, tmp_path: Path) -> None:
    os.chown(tmp_path, -1, 4321)
    tmp_path.chmod(0o2775)
    fs.save_state(tmp_path / "state", optimizer)
    assert (tmp_path / "state").stat().st_gid == 4321


@as_root
def test_a_file_that_may_not_be_written_is_not_replaced(optimizer: fs.Adam, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for folder in list(tmp_path.parents)[:2]:
        folder.chmod(0o755)
    path = tmp_path / "state"
    path.write_bytes(b"old")
    path.chmod(0o444)
    child = os.fork()
    if child == 0:
        os.setuid(1234)
        try:
            fs.save_state(path, optimizer)
        except PermissionError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert path.read_bytes() == b"old"


class OneByOne(io.RawIOBase):
    """A file without positions that takes and gives less than it is asked for, as pipes may."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)[:1000]
        self.content += part
        return len(part)

    def readinto(self, into: Any) -> int:
        n = min(len(into), 1000, len(self.content))
        into[:n] = self.content[:n]
        del self.content[:n]
        return n


def test_open_files(optimizer: fs.Adam, tmp_path: Path) -> None:
    path = tmp_path / "state"
    with path.open("wb") as file:
        file.write(b"before")
        fs.save_state(file, optimizer)
    with path.open("rb") as saved:
        saved.seek(6)
        assert_loads(saved, optimizer)
        assert not saved.read()
    memory = io.BytesIO()
    fs.save_state(memory, optimizer)
    memory.seek(0)
    assert_loads(memory, optimizer)
    assert_loads(io.BytesIO(memory.getvalue()), optimizer)
    with np.load(io.BytesIO(memory.getvalue())) as arrays:
        assert sorted(arrays) == ["0.m", "0.v", "about"]
    raw = OneByOne()
    fs.save_state(raw, optimizer)  # type: ignore[arg-type]
    assert_loads(raw, optimizer)

    class OnlyWrites:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: Any) -> None:
            self.parts.append(bytes(data))

    writes: Any = OnlyWrites()
    fs.save_state(writes, optimizer)
    path.write_bytes(b"".join(writes.parts))
    assert_loads(path, optimizer)


def test_two_states_in_one_file_are_not_taken_for_one(optimizer: fs.Adam) -> None:
    memory = io.BytesIO()
    fs.save_state(memory, optimizer)
    fs.save_state(memory, optimizer)
    memory.seek(0)
    with pytest.raises(ValueError, match=r"path \(a BytesIO\): is damaged, .* other data before it"):
        fs.load_state(memory, optimizer)


def test_messages(optimizer: fs.Adam, tmp_path: Path) -> None:
    strange: Any
    for strange in (5, None, io.StringIO(), object()):
        name = type(strange).__name__
        for function in (fs.save_state, fs.load_state):
            with pytest.raises(TypeError, match=rf"^path is a {name}, expected a path or a binary file$"):
                function(strange, optimizer)
    strange = 5
    for function in (fs.save_state, fs.load_state):
        with pytest.raises(TypeError, match=r"^optimizer is a int, expected one of fusedstep"):
            function(tmp_path / "state", strange)

    class Noted(fs.SGD):
        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"note": "mine"}

    with pytest.raises(TypeError, match=r"^note of the state dict can't be saved"):
        fs.save_state(tmp_path / "state", Noted())
    assert not list(tmp_path.iterdir())


class Tagged(fs.SGD):
    def __init__(self, lr: float = 0.1, tag: Any = None) -> None:
        super().__init__(lr)
        self.tag = tag


@pytest.mark.parametrize("tag", [np.int64(3), np.float32(0.1), np.bool_(True), np.str_("a"), None, [1, {"a": 2}], "ä"])
def test_hyperparameters_of_other_classes(tag: Any) -> None:
    memory, other = io.BytesIO(), Tagged()
    fs.save_state(memory, Tagged(tag=tag))
    memory.seek(0)
    fs.load_state(memory, other)
    assert other.tag == tag


@pytest.mark.parametrize("tag", [object(), {1, 2}, 1j, np.longdouble(1), np.ones(3)])
def test_hyperparameters_that_no_file_can_hold(tag: Any) -> None:
    with pytest.raises(TypeError, match=rf"^tag is {re.escape(repr(tag))}, which can't be saved"):
        fs.save_state(io.BytesIO(), Tagged(tag=tag))


def test_flags_of_numpy() -> None:
    memory, other = io.BytesIO(), fs.Adam()
    optimizer = fs.Adam(eps_inside_root=np.bool_(True))  # type: ignore[arg-type]
    fs.save_state(memory, optimizer)
    memory.seek(0)
    fs.load_state(memory, other)
    assert other.eps_inside_root is True


KEYS = [("W", 1), ("W", ("b", 2)), (), ("1",), (1,), "W", 1, (np.int64(2), "ä"), -5, 10**30]


def test_tuples_are_keys(tmp_path: Path) -> None:
    original, other = fs.Adam(), fs.Adam()
    arrays: Any = {key: np.ones(2) for key in KEYS}
    original.update(arrays, arrays)
    fs.save_state(tmp_path / "state", original)
    fs.load_state(tmp_path / "state", other)
    assert list(other.state) == list(other.steps) == KEYS
    assert {"".join(arrays) for arrays in other.state.values()} == {"mv"}
    assert [type(key) for key in other.state] == [type(key) for key in KEYS]
    with zipfile.ZipFile(tmp_path / "state") as archive:
        assert archive.namelist()[1:3] == ["0.m.npy", "0.v.npy"]
    np.testing.assert_equal(other.state_dict(), original.state_dict())


@pytest.mark.parametrize("key", [("W", None), (1.5,), (("W", True),), frozenset(), b"W"])
def test_other_keys_can_not_be_saved(key: Any) -> None:
    optimizer = fs.Adam()
    optimizer.update({key: np.ones(2)}, {key: np.ones(2)})
    with pytest.raises(TypeError, match="expected a string or an integer, or a tuple of them"):
        fs.save_state(io.BytesIO(), optimizer)
