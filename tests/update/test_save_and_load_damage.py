"""Files of trainings that are damaged or made up: each is refused and changes nothing, or loads what was saved."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from snapshots import leaves, saved


def small(seed: int) -> dict[str, Any]:
    optimizer, w = fs.Momentum(0.1 * seed), np.full(2, float(seed))
    optimizer.update(w, w.copy())
    return {"w": w, "o": optimizer, "n": fs.BatchNorm(1, eps=0.1 * seed), "d": fs.Dropout(seed=seed), "v": [seed, (w,)]}


GOOD = saved(small(1))
with zipfile.ZipFile(io.BytesIO(GOOD)) as _archive:
    ENTRIES = {name: _archive.read(name) for name in _archive.namelist()}
ABOUT = json.loads(str(np.load(io.BytesIO(ENTRIES["about.npy"]))))
OTHER = small(2)
UNCHANGED = leaves(OTHER)
RIGHT = leaves(small(1))


def is_refused(content: bytes) -> bool:
    """Whether it is, and has changed nothing then; else it is as if nothing had been damaged."""
    into = OTHER
    try:
        fs.load(io.BytesIO(content), into)
    except ValueError:
        np.testing.assert_equal(leaves(into), UNCHANGED)
        return True
    np.testing.assert_equal(leaves(into), RIGHT)
    fs.load(io.BytesIO(saved(small(2))), into)
    return False


def test_cuts() -> None:
    assert not is_refused(GOOD)
    assert all(is_refused(GOOD[:n]) for n in (*range(0, len(GOOD), 23), *range(len(GOOD) - 30, len(GOOD))))


def test_changed_bytes() -> None:
    places = range(3, len(GOOD), 7)
    refused = sum(is_refused(GOOD[:i] + bytes([GOOD[i] ^ (1 << i % 8)]) + GOOD[i + 1 :]) for i in places)
    assert refused > len(places) / 2  # of the directory, dates and attributes are harmless


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_tree(tree: Any, **entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("about.npy", npy(np.array(json.dumps(ABOUT | {"tree": tree}))))
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return out.getvalue()


ARRAY = {"0.array": npy(np.ones(2))}
STATE = ABOUT["tree"]["dict"][1][1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_tree(None), "damaged"),
        (with_tree([]), "damaged"),
        (with_tree({}), "damaged"),
        (with_tree({"set": []}), "damaged"),
        (with_tree({"list": [], "dict": []}), "damaged"),
        (with_tree({"list": {}}), "list is no list"),
        (with_tree({"dict": {"a": 1}}), "dict is no list"),
        (with_tree({"dict": [["a"]]}), "damaged"),
        (with_tree({"dict": [["a", {"value": 1}], ["a", {"value": 2}]]}), "a key is there twice"),
        (with_tree({"dict": [[None, {"value": 1}]]}), "has key None"),
        (with_tree({"value": {}}), "damaged"),
        (with_tree({"array": None}), "damaged"),
        (with_tree({"value": 1}, **ARRAY), "belongs to no key"),
        (with_tree({"array": None}, **ARRAY, **{"1.array": npy(np.ones(2))}), "belongs to no key"),
        (with_tree({"array": None}, **ARRAY, **{"0.other": npy(np.ones(2))}), "damaged"),
        (with_tree({"array": None}, **{"0.array": npy(np.array(["a"]))}), "0.array has dtype <U1"),
        (with_tree({"array": None}, **{"0.array": npy(np.ones(2))[:-1]}), "15 bytes"),
        (with_tree({"layer": None}), "damaged"),
        (with_tree({"layer": {}}, **{"0.gamma": npy(np.ones(2, int))}), "0.gamma has dtype int64"),
        (with_tree({"optimizer": None}), "damaged"),
        (with_tree({"optimizer": {}}), "damaged"),
        (with_tree({"optimizer": {"split": {}, "optimizers": 1}}), "optimizers is no list"),
        (with_tree({"optimizer": STATE["optimizer"]}, **{"0.v": npy(np.ones(2, int))}), "0.v has dtype int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_made_up_files(content: bytes, message: str) -> None:
    assert is_refused(content)
    with pytest.raises(ValueError, match=rf"path \(a BytesIO\): .*{message}"):
        fs.load(io.BytesIO(content))


def test_a_newer_format() -> None:
    out = io.BytesIO()
    np.savez(out, about=np.array(json.dumps(ABOUT | {"version": 2})))
    with pytest.raises(ValueError, match="has format 2, this version of fusedstep reads up to 1"):
        fs.load(io.BytesIO(out.getvalue()))
