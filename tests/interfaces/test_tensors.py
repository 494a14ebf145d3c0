"""PyTorch's tensors, read by DLPack's C functions: which are refused, and whose memory is kept."""

import gc
import threading
import weakref
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
    tensor, other = torch.ones(1000), np.ones(3)

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
        fs.SGD().update([tensor, Changes()], [torch.ones(1000), np.ones(3)])
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
