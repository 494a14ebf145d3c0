"""An error in one process is an error in all: no process waits for ever, nothing has changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import _native
from fusedstep.distributed import Serial, Sharded
from ranks import run
from sharded_cases import arrays, assert_same_params


def masked(grads: dict[str, Any]) -> None:
    grads["bias"] = np.ma.masked_array(grads["bias"])


def read_only(params: dict[str, Any]) -> None:
    params["bias"].flags.writeable = False


ROWS = fs.Rows(np.array([0]), np.ones(1, np.float32))
CASES: dict[str, tuple[type[Exception], str, Callable[[Any, Any], Any]]] = {
    "a gradient's shape": (ValueError, r"grads\['bias'\] has shape \(3,\)", lambda p, g: g.update(bias=np.ones(3))),
    "no gradient": (KeyError, "grads lacks 'bias'", lambda p, g: g.pop("bias")),
    "integers": (TypeError, r"grads\['bias'\] has dtype int64", lambda p, g: g.update(bias=np.ones(12, np.int64))),
    "rows": (
        TypeError,
        r"grads\['bias'\] is Rows",
        lambda p, g: g.update(bias=fs.Rows(np.array([0]), np.ones(1, np.float32))),
    ),
    "a mask": (TypeError, "masked array", lambda p, g: masked(g)),
    "read-only": (ValueError, r"params\['bias'\] is read-only", lambda p, g: read_only(p)),
    "a number": (TypeError, r"params\['bias'\] is a float", lambda p, g: p.update(bias=1.0)),
    "other keys": (ValueError, "other keys, shapes or types", lambda p, g: (p.pop("bias"), g.pop("bias"))),
    "another type": (
        ValueError,
        "other keys, shapes or types",
        lambda p, g: p.update(bias=p["bias"].astype(np.float64)),
    ),
}


@pytest.mark.parametrize("when", ["first step", "later"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_errors(case: Any, when: str) -> None:
    kind, text, spoil = case

    def train(comm: Any) -> None:
        optimizer, params = fs.Adam(), arrays(0)
        sharded = Sharded(optimizer, comm)
        if when == "later":
            sharded.update(params, arrays(1))
        before = {key: array.copy() for key, array in params.items()}
        given, grads = dict(params), arrays(2)
        if comm.Get_rank() == 1:
            spoil(given, grads)
        with pytest.raises(kind, match=text) as error:
            sharded.update(given, grads)
        if text != "other keys, shapes or types" and comm.Get_rank() != 1:
            assert "process 1: " in str(error.value)
        assert_same_params(params, before)
        assert optimizer.iterations == (when == "later")
        params["bias"].flags.writeable = True
        sharded.update(params, arrays(2))

    run(3, train)


def test_a_nan_in_one_process_is_a_skip_in_all() -> None:
    def train(comm: Any) -> None:
        optimizer, params = fs.Adam(skip_nonfinite=True), arrays(0)
        sharded = Sharded(optimizer, comm)
        grads = arrays(1)
        if comm.Get_rank() == 2:
            grads["long"][777] = np.nan
        sharded.update(params, grads, zero_grads=True)
        assert_same_params(params, arrays(0))
        assert (sharded.skipped, optimizer.iterations) == (1, 0)
        assert sharded.gradient_norm is not None
        assert np.isnan(sharded.gradient_norm)
        assert not any(grad.any() for grad in grads.values())

    run(3, train)


def test_options_that_differ() -> None:
    def train(comm: Any) -> None:
        params = arrays(0)
        options: dict[str, Any] = {"clip_norm": 1.0} if comm.Get_rank() == 1 else {}
        with pytest.raises(ValueError, match="other options in one process"):
            Sharded(fs.Adam(**options), comm).update(params, arrays(1))
        with pytest.raises(ValueError, match="Sharded other arguments"):
            Sharded(fs.Adam(), comm, mean=comm.Get_rank() == 1).update(params, arrays(1))
        assert_same_params(params, arrays(0))

    run(2, train)


def test_a_schedule_out_of_range() -> None:
    def train(comm: Any) -> None:
        params, optimizer = arrays(0), fs.Adam(lambda n: -1.0 if comm.Get_rank() == 1 else 0.1)
        with pytest.raises(ValueError, match="lr is -1"):
            Sharded(optimizer, comm).update(params, arrays(1))
        assert_same_params(params, arrays(0))
        assert optimizer.iterations == 0

    run(2, train)


def test_a_failure_after_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    native = _native.update

    def train(comm: Any) -> None:
        optimizer, params = fs.Adam(), arrays(0)
        optimizer.seed = comm.Get_rank()
        with pytest.raises(RuntimeError, match=r"process 1 could not make its part of the step.*MemoryError: gone"):
            Sharded(optimizer, comm).update(params, arrays(1))

    def update(members: Any, *arguments: Any) -> Any:
        if members[0][0].seed == 1:
            raise MemoryError("gone")
        return native(members, *arguments)

    monkeypatch.setattr(_native, "update", update)
    run(2, train)


def test_arguments() -> None:
    with pytest.raises(TypeError, match="optimizer is a int"):
        Sharded(1, Serial())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="comm is a object without Get_rank"):
        Sharded(fs.SGD(), object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction"):
        Sharded(fs.SGD(), Serial(), reduction="tree")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bucket_bytes is 10"):
        Sharded(fs.SGD(), Serial(), bucket_bytes=10)
    with pytest.raises(ValueError, match="scale"):
        Sharded(fs.SGD(), Serial()).update([np.ones(3)], [np.ones(3)], scale=float("nan"))
    assert "rank 0 of 1" in repr(Sharded(fs.SGD(), Serial()))


def test_arrays_of_several_types_that_share_memory() -> None:
    whole = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="different types share memory"):
        Sharded(fs.SGD(), Serial()).update([whole, whole.view(np.float64)], [np.ones(8), np.ones(4)])
