"""Files that are damaged or made up: each is refused by ValueError, or loads a state with which updates work."""

import io
import json
import math
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs


def saved(optimizer: fs.Optimizer) -> tuple[bytes, dict[str, Any]]:
    arrays: Any = {"W": np.ones((2, 2)), "b": np.ones(1)}
    for _ in range(2):
        optimizer.update(arrays, {"W": np.full((2, 2), 0.3), "b": np.ones(1)})
    file = io.BytesIO()
    fs.save_state(file, optimizer)
    return file.getvalue(), optimizer.state_dict()


GOOD, SNAPSHOT = saved(fs.Adam())
with zipfile.ZipFile(io.BytesIO(GOOD)) as _archive:
    ENTRIES = {name: _archive.read(name) for name in _archive.namelist()}
ABOUT = json.loads(str(np.load(io.BytesIO(ENTRIES["about.npy"]))))


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text: str, version: int = 1) -> bytes:
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(text) + 1)
        + (text + "\n").encode("latin1")
    )


def array_header(shape: str, descr: str = "'<f8'", **options: Any) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", **options)


def described(**changes: Any) -> dict[str, bytes]:
    return {"about.npy": npy(np.array(json.dumps(ABOUT | changes)))}


def options(**changes: Any) -> dict[str, bytes]:
    return described(hyperparameters=ABOUT["hyperparameters"] | changes)


def text(about: str) -> dict[str, bytes]:
    return {"about.npy": npy(np.array(about))}


M = "0.m.npy"
JSON = json.dumps(ABOUT)
WRONG_KEYS: Any = (None, True, 1.5, {}, ["a", None], [[[1.5]]])
NO_COUNTS: Any = (None, True, False, 1.0, 1.5, "1", [1], {}, -1, 2**63 - 1, 2**63, 10**400, math.nan, math.inf)
NO_VERSIONS: Any = (None, True, 1.0, 2.5, "2", [2], -1, math.nan, math.inf)
NO_NUMBERS: Any = (None, True, "1", "0.5", [0.5], {}, -0.5, math.nan, math.inf, 10**400)
NO_FLAGS: Any = (None, "no", "", "False", [], {}, 0.5, 2, -1, math.nan)
# Members that are changed or added, and what the error says.
CHANGED: dict[str, tuple[dict[str, bytes], str]] = {
    "8 PB": ({M: array_header("(1000000000000000,)")}, r"0\.m has shape \(1000000000000000,\) .* but 0 bytes"),
    "8 PB by deflation": ({M: array_header("(1000000000000000,)")}, "but 0 bytes"),
    "no rows of 8 PB": ({M: array_header("(0, 1000000000000000)")}, "shape"),
    "more than 2^63": ({M: array_header(f"({2**70},)")}, "shape"),
    "more than 2^63 of nothing": ({M: array_header(f"({2**70}, 0)")}, r"."),
    "nothing wide": ({M: array_header("(1000000000000000,)", "'<U0'")}, "dtype <U0"),
    "a negative shape": ({M: array_header("(-1, -4)") + bytes(32)}, "shape"),
    "an array less than its shape": ({M: npy(np.ones((2, 2)))[:-8]}, "24 bytes"),
    "an array and more": ({M: npy(np.ones((2, 2))) + b"x"}, "33 bytes"),
    "two arrays": ({M: 2 * npy(np.ones((2, 2)))}, "bytes"),
    "no array": ({M: b"hello"}, "damaged"),
    "empty": ({M: b""}, "damaged"),
    "npy of version 3": ({M: array_header("(2, 2)", version=3) + bytes(32)}, "damaged"),
    "npy of version 9": ({M: array_header("(2, 2)", version=9) + bytes(32)}, "damaged"),
    "a header that is no Python": ({M: header("{'descr': '''")}, "damaged"),
    "a header of brackets": ({M: header("(" * 9000)}, "damaged"),
    "a header of minuses": ({M: header("-" * 9000 + "1")}, "damaged"),
    "a long header": ({M: header(" " * 60000)}, "damaged"),
    "a header that calls": ({M: header("__import__('os').abort()")}, "damaged"),
    "objects": ({M: npy(np.array([None]), allow_pickle=True)}, "dtype object"),
    "objects in a record": ({M: array_header("(1,)", "[('a', '|O')]") + b"c" * 8}, "dtype"),
    "integers": ({M: npy(np.ones((2, 2), int))}, "dtype int64"),
    "halves": ({M: npy(np.ones((2, 2), np.float16))}, "dtype float16"),
    "the other byte order": ({M: npy(np.ones((2, 2), ">f8"))}, "dtype >f8"),
    "another shape": ({M: npy(np.ones(4))}, r"state\['W'\]\['v'\] has shape \(2, 2\) .*\['m'\] has \(4,\)"),
    "another type": ({M: npy(np.ones((2, 2), np.float32))}, "float64, .* float32"),
    "another letter": ({"0.x.npy": npy(np.ones((2, 2)))}, r"state\['W'\] has m, v, x, expected m, v"),
    "another key": ({"2.m.npy": npy(np.ones(1))}, "'2.m' belongs to no key"),
    "a key before the first": ({"-1.m.npy": npy(np.ones(1))}, "'-1.m' belongs to no key"),
    "a key with a zero": ({"00.m.npy": npy(np.ones(1))}, "'00.m' belongs to no key"),
    "a key in other digits": ({"\u0661.m.npy": npy(np.ones(1))}, "belongs to no key"),
    "a long key": ({"9" * 5000 + ".m.npy": npy(np.ones(1))}, "belongs to no key"),
    "another array": ({"more.npy": npy(np.ones(1))}, "'more' belongs to no key"),
    "another file": ({"readme.txt": b"hello"}, "a member is there twice, or is no array"),
    "a name without .npy": ({"0.m": npy(np.ones(1))}, "no array"),
    "a folder": ({"folder/": b""}, "no array"),
    "about is a number": ({"about.npy": npy(np.ones(()))}, "about has dtype float64"),
    "about is bytes": ({"about.npy": npy(np.array(b"{}"))}, "about has dtype"),
    "about is a list of texts": ({"about.npy": npy(np.array([JSON]))}, "damaged"),
    "about has no letters": ({"about.npy": array_header("()", f"'<U{2**28}'")}, "bytes"),
    "about has wrong letters": ({"about.npy": array_header("()", "'<U1'") + b"\xff\xff\xff\x7f"}, "damaged"),
    "nested JSON": (text("[" * 100_000), "damaged"),
    "nested objects": (text('{"a":' * 100_000), "damaged"),
    "a long number": (text('{"format": ' + "9" * 10_000 + "}"), "damaged"),
    "not JSON": (text("W = 3"), "damaged"),
    "no JSON": (text(""), "damaged"),
    "JSON and more": (text(JSON + "{}"), "damaged"),
    "a list": (text("[]"), "is not a file of save_state"),
    "a name twice": (text('{"iterations": 5, ' + JSON[1:]), "twice"),
    "a hyper-parameter twice": (text(JSON.replace('"beta1":', '"beta1": 0.5, "beta1":')), "twice"),
    "a key twice": (described(keys=["W", "W"]), "a key is there twice"),
    "keys are a text": (described(keys="Wb"), "keys is no list"),
    "keys are an object": (described(keys={"W": 1, "b": 2}), "keys is no list"),
    "keys are null": (described(keys=None), "keys is no list"),
    "a key less": (described(keys=["W"], steps=[2]), "belongs to no key"),
    "a key more": (described(keys=["W", "b", "c"], steps=[2, 2, 2]), r"state\['c'\] has nothing"),
    "steps are a text": (described(steps="22"), "steps is no list"),
    "a step less": (described(steps=[2]), "damaged"),
    "no steps": (described(steps=None), "has no steps"),
    "format": (described(format=["fusedstep optimizer state"]), "is not a file of save_state"),
    "an optimizer of no text": (described(optimizer=["a"]), "damaged"),
    "optimizer iterations": (described(optimizer="iterations"), "lacks"),
    "optimizer null": (described(optimizer=None), "lacks"),
    "hyperparameters": (described(hyperparameters="lr"), "expected a dict"),
    "version 0": (described(version=0), "version is 0"),
    "version 3": (described(version=3), "has format 3, this version of fusedstep reads up to 2"),
}
CHANGED |= {f"key {key!r}": (described(keys=["W", key]), "damaged") for key in WRONG_KEYS}
CHANGED |= {f"iterations {value!r:.20}": (described(iterations=value), "iterations is") for value in NO_COUNTS}
CHANGED |= {f"steps {value!r:.20}": (described(steps=[2, value]), r"steps\['b'\] is") for value in NO_COUNTS}
CHANGED |= {f"version {value!r:.20}": (described(version=value), "version is") for value in NO_VERSIONS}
CHANGED |= {
    f"{name} {value!r:.20}": (options(**{name: value}), f"{name} is")
    for name in ("lr", "beta1", "eps", "weight_decay")
    for value in NO_NUMBERS
}
CHANGED |= {f"flag {value!r}": (options(eps_inside_root=value), "eps_inside_root is") for value in NO_FLAGS}


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return out.getvalue()


def refused(content: bytes, message: str, path: Path) -> None:
    path.write_bytes(content)
    optimizer = fs.Adam(0.5)
    optimizer.update({"c": np.ones(3)}, {"c": np.ones(3)})
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message) as error:
        fs.load_state(path, optimizer)
    assert str(error.value).startswith(f"{path}: ")
    np.testing.assert_equal(optimizer.state_dict(), before)


@pytest.mark.parametrize("name", CHANGED)
def test_made_up_files(name: str, tmp_path: Path) -> None:
    change, message = CHANGED[name]
    compression = zipfile.ZIP_DEFLATED if "deflation" in name else zipfile.ZIP_STORED
    tracemalloc.start()
    try:
        refused(archive(ENTRIES | change, compression), message, tmp_path / "state.npz")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def rewritten(**fields: Any) -> bytes:
    """With other fields in the entry of the first member's directory, and of its own header."""
    out = bytearray(archive(ENTRIES))
    local, central = 0, out.index(b"PK\x01\x02")
    for name, value in fields.items():
        form, at = {
            "flags": ("<H", 6),
            "method": ("<H", 8),
            "crc": ("<I", 14),
            "packed": ("<I", 18),
            "size": ("<I", 22),
        }[name]
        struct.pack_into(form, out, local + at, value)
        struct.pack_into(form, out, central + at + 2, value)
    return bytes(out)


def twice() -> bytes:
    return archive(ENTRIES | {"0.w.npy": ENTRIES[M]}).replace(b"0.w.npy", b"0.m.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rewritten(flags=1), "encrypted"),
        (rewritten(flags=0x20), "damaged"),
        (rewritten(flags=0x40), "damaged"),
        (rewritten(method=99), "compression"),
        (rewritten(method=12), "compression"),
        (rewritten(method=8), "damaged"),
        (rewritten(crc=1), "CRC"),
        (rewritten(size=2**32 - 2), "wrong size"),
        (rewritten(size=2**32 - 2, packed=2**32 - 2), "less data than its members"),
        (archive(ENTRIES, zipfile.ZIP_BZIP2), "compression"),
        (twice(), "a member is there twice"),
        (b"x" + GOOD, "other data before it"),
        (GOOD + GOOD, "other data before it"),
        (archive({}), "is not a file of save_state"),
        (npy(np.ones(3)), "damaged"),
        (b"\x80\x04N.", "damaged"),
        (b"", "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_made_up_archives(content: bytes, message: str, tmp_path: Path) -> None:
    refused(content, message, tmp_path / "state.npz")


def test_the_parts_put_together_again_load() -> None:
    file = io.BytesIO()
    np.savez(file, **np.load(io.BytesIO(GOOD)))
    by_numpy = file.getvalue()
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for content in (archive(ENTRIES, compression), archive(dict(reversed(ENTRIES.items())), compression), by_numpy):
            optimizer = fs.Adam()
            fs.load_state(io.BytesIO(content), optimizer)
            assert {key: list(arrays) for key, arrays in optimizer.state.items()} == {"W": ["m", "v"], "b": ["m", "v"]}
            assert list(optimizer.state) == ["W", "b"]


def loads(content: bytes) -> bool:
    """Whether it loads, and then as if nothing had been changed."""
    optimizer = fs.Adam()
    try:
        fs.load_state(io.BytesIO(content), optimizer)
    except ValueError:
        return False
    np.testing.assert_equal(optimizer.state_dict(), SNAPSHOT)
    return True


def test_every_cut() -> None:
    assert loads(GOOD)
    for n in range(len(GOOD)):
        assert not loads(GOOD[:n])


CHANGES: dict[str, Callable[[int], int]] = {
    "plus 1": lambda byte: byte + 1,
    "zero": lambda byte: 0,
    "bit 0": lambda byte: byte ^ 1,
    "bit 5": lambda byte: byte ^ 32,
    "bit 7": lambda byte: byte ^ 128,
}


def changed(content: bytes, change: str) -> Iterator[bytes]:
    for i, byte in enumerate(content):
        new = CHANGES[change](byte) & 255
        if new != byte:
            yield content[:i] + bytes([new]) + content[i + 1 :]


@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_byte(change: str) -> None:
    loaded = [loads(content) for content in changed(GOOD, change)]
    assert sum(loaded) <= len(loaded) / 4  # dates, versions, attributes


@pytest.mark.filterwarnings("ignore:.*additional header parsing")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("entry", ["about.npy", M])
def test_every_changed_byte_with_its_checksum(entry: str, change: str) -> None:
    for content in changed(ENTRIES[entry], change):
        optimizer = fs.Adam()
        try:
            fs.load_state(io.BytesIO(archive(ENTRIES | {entry: content})), optimizer)
        except ValueError:
            continue
        shapes = [{a.shape for a in arrays.values()} for arrays in optimizer.state.values()]
        assert shapes == [{(2, 2)}, {(1,)}]
        params: Any = {key: np.ones(arrays["m"].shape) for key, arrays in optimizer.state.items()}
        optimizer.update(params, params)
        fs.save_state(io.BytesIO(), optimizer)
