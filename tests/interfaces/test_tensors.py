"""PyTorch's tensors, read by DLPack's C functions: which are refused, and whose memory is kept."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

torch = pytest.importorskip("torch", reason="takes PyTorch's tensors where that is installed")


def test_a_contiguous_tensor_with_the_other_sign_is_refused() -> None:
    pair = torch.tensor([1 + 1j, 2 + 2j]).conj().imag.as_strided((2,), (1,), 0)
    assert pair.is_neg()
    assert pair.is_contiguous()
    w = np.ones(2, np.float32)
    for params, grads in (([w], [pair]), ([pair], [w])):
        with pytest.raises(TypeError, match=r"can't be shared: .*negative bit"):
            fs.SGD().update(params, grads)


@pytest.mark.parametrize("how", ["data", "set_", "resize_"])
def test_a_tensor_that_gets_other_memory_before_the_step_is_an_error(how: str) -> None:
    # Often, as new memory may begin where the old did.
    for size in [1000] * 30:
        change_before_a_step(how, torch.ones(size))


def change_before_a_step(how: str, tensor: Any) -> None:
    other = np.ones(3)

    class Changes:
        @property
        def __array_interface__(self) -> dict[str, Any]:
            if how == "data":
                tensor.data = torch.zeros(1)
            elif how == "set_":
                tensor.set_()
            else:
                tensor.untyped_storage().resize_(0)
            return other.__array_interface__

    with pytest.raises(ValueError, match=r"^params\[0\] was given other memory during the update$"):
        fs.SGD().update([tensor, Changes()], [np.ones(1000, np.float32), np.ones(3)])
    assert (other == 1).all()


def test_a_thread_may_give_a_tensor_other_memory_during_a_step() -> None:
    n, stop = 3_000_000, threading.Event()
    tensor, gradient = torch.ones(n), torch.ones(n)

    def swap() -> None:
        while not stop.wait(0.0005):
            tensor.data = torch.ones(n)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        optimizer = fs.Adam()
        for _ in range(40):
            optimizer.update([tensor], [gradient])
    finally:
        stop.set()
        thread.join()
    assert optimizer.iterations == 40


def test_many_subclasses_don_t_live_for_ever() -> None:
    gone = []
    for _ in range(40):
        cls = type("Mine", (torch.Tensor,), {})
        tensor = torch.ones(3).as_subclass(cls)
        fs.SGD(lr=1.0).update([tensor], [torch.ones(3)])
        assert not torch.Tensor(tensor).any()
        gone.append(weakref.ref(cls))
        del cls, tensor
    gc.collect()
    assert sum(ref() is not None for ref in gone) <= 16


def needs_gradient(*shape: int) -> Any:
    return torch.ones(shape, dtype=torch.float64, requires_grad=True)


X, C = np.ones((4, 2)), np.ones(2)
LAYER_CALLS: dict[str, Callable[[], Any]] = {
    "x": lambda: fs.batch_norm(needs_gradient(4, 2), C, C),
    "gamma": lambda: fs.batch_norm(X, needs_gradient(2), C),
    "beta": lambda: fs.batch_norm(X, C, torch.nn.Parameter(torch.ones(2))),
    "out": lambda: fs.batch_norm(X, C, C, out=needs_gradient(4, 2)),
    "var": lambda: fs.batch_norm_inference(X, C, C, C, needs_gradient(2)),
    "dout": lambda: fs.batch_norm_backward(needs_gradient(4, 2), X, C, C, C),
    "x of dropout": lambda: fs.dropout(needs_gradient(4, 2), 0.5, seed=1),
    "x of a layer": lambda: fs.BatchNorm(2).forward(needs_gradient(4, 2)),
    "x of a layer, inference": lambda: fs.BatchNorm(2).forward(needs_gradient(4, 2), training=False),
    "x that isn't a leaf": lambda: fs.dropout(needs_gradient(4, 2) * 2, 0.5, seed=1),
}


@pytest.mark.parametrize("name", LAYER_CALLS)
def test_layers_refuse_tensors_that_would_lose_their_gradient(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{name.split()[0].strip(',')} requires a gradient"):
        LAYER_CALLS[name]()


@pytest.mark.parametrize("size", [3, 300_000])  # with the GIL and without
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_autograd_sees_an_update(size: int, dtype: Any) -> None:
    p = torch.nn.Parameter(torch.ones(size, dtype=dtype))
    g = torch.ones(size, dtype=dtype)
    loss = (p * p).sum()
    before, gradient_before = p._version, g._version
    fs.SGD(0.5).update({"p": p, "q": np.ones(2)}, {"p": g, "q": np.ones(2)})
    assert p._version > before
    assert g._version == gradient_before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    (p * p).sum().backward()
    assert (p.grad == 1).all()


def test_autograd_sees_changed_state_and_views_of_parameters() -> None:
    base, state = torch.ones(6), torch.zeros(3)
    versions = base._version, state._version
    fs.step("momentum", [base[:3]], [torch.ones(3)], [(state,)], t=1, lr=0.5)
    assert base._version > versions[0]
    assert state._version > versions[1]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("is_bad", [False, True])
def test_what_a_step_changes_gets_another_version(is_bad: bool, zero: bool) -> None:
    p, g = torch.ones(5), torch.full((5,), torch.inf if is_bad else 1.0)
    versions = p._version, g._version
    fs.SGD(skip_nonfinite=True).update([p], [g], zero_grads=zero)
    assert (p._version > versions[0], g._version > versions[1]) == (not is_bad, zero)


def test_tensors_without_a_version_are_stepped() -> None:
    with torch.inference_mode():
        p = torch.ones(3)
    fs.SGD(0.5).update([p], [torch.ones(3)])
    assert (p == 0.5).all()
