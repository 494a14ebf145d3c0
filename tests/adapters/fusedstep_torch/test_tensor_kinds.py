"""Parameters, gradients and state of all kinds: strided, conjugate, narrow, shared, empty, and of subclasses."""

from typing import Any, ClassVar

import pytest

from torch_tensors import MODULES, NAMES, close, numbers, step

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")


# Gradients and parameters of a shape, of memory that isn't in the order of the elements.
def contiguous(values: Any) -> Any:
    return values.clone()


def transposed(values: Any) -> Any:
    return values.mT.contiguous().mT


def stepped(values: Any) -> Any:
    return torch.zeros((2 * values.shape[0], 3 * values.shape[1]), dtype=values.dtype)[::2, ::3].copy_(values)


def shifted(values: Any) -> Any:
    return torch.zeros(values.numel() + 1, dtype=values.dtype)[1:].view(values.shape).copy_(values)


def negated(values: Any) -> Any:
    return torch._neg_view(-values)


def conjugated(values: Any) -> Any:
    return values.conj().resolve_conj().conj()


def imaginary(values: Any) -> Any:
    """A part of a conjugate tensor, which is negated and strided."""
    return torch.complex(values, -values).conj().imag


LAYOUTS = [contiguous, transposed, stepped, shifted]


@pytest.mark.parametrize("gradient", [*LAYOUTS, negated, imaginary, conjugated])
@pytest.mark.parametrize("parameter", LAYOUTS)
@pytest.mark.parametrize("name", ["SGD", "Adam", "Adafactor"])
def test_layouts(name: str, parameter: Any, gradient: Any) -> None:
    """The bits don't depend on the layout."""
    w, g, h = (numbers(6, 5, seed=seed) for seed in range(3))
    p, q = parameter(w), w.clone()
    mine = step(getattr(ours, name), p, gradient(g), gradient(h))
    step(getattr(ours, name), q, g, h)
    assert torch.equal(p, q)
    assert p.grad.is_neg() == gradient(h).is_neg()
    theirs = w.clone()
    step(getattr(torch.optim, name), theirs, gradient(g), gradient(h))
    torch.testing.assert_close(p, theirs, rtol=0, atol=20 * torch.finfo(torch.float32).eps * float(w.abs().max()))
    assert all(value.layout is torch.strided for value in mine.state[p].values())


@pytest.mark.parametrize("gradient", [contiguous, transposed, conjugated, negated])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "Adafactor"])
def test_complex_gradients(name: str, gradient: Any) -> None:
    w, g = (numbers(4, 3, seed=seed, dtype=torch.complex64) for seed in range(2))
    p, q = w.clone(), w.clone()
    step(getattr(ours, name), p, gradient(g))
    step(getattr(torch.optim, name), q, gradient(g).resolve_conj().resolve_neg())
    torch.testing.assert_close(p, q, rtol=0, atol=20 * torch.finfo(torch.float32).eps * float(w.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_narrow_parameters(name: str, dtype: Any) -> None:
    """Each step is PyTorch's in float32 from the same numbers, rounded once."""
    p = numbers(6, 5).to(dtype)
    options = {"momentum": 0.9} if name == "SGD" else {"eps": (2.0**-20, 1e-3)} if name == "Adafactor" else {}
    optimizer = getattr(ours, name)([p], **options)
    for seed in range(2, 6):
        p.grad = numbers(6, 5, seed=seed).to(dtype)
        wide = p.float()
        wide.grad = p.grad.float()
        theirs = getattr(torch.optim, name)([wide], **options)
        theirs.state[wide] = {key: value.clone().float() for key, value in optimizer.state.get(p, {}).items()}
        optimizer.step()
        theirs.step()
        own = optimizer.state.get(p, {})
        for mine, expected in [(p, wide), *((own[key], value) for key, value in theirs.state[wide].items())]:
            # A unit, where the few roundings in float32 are next to a tie.
            rounded = expected.to(mine.dtype).float()
            tiny = torch.finfo(mine.dtype).smallest_normal * torch.finfo(mine.dtype).eps
            torch.testing.assert_close(mine.float(), rounded, rtol=torch.finfo(mine.dtype).eps, atol=tiny)


@pytest.mark.parametrize("name", NAMES)
def test_an_expanded_gradient(name: str) -> None:
    p, q = numbers(4, 3), numbers(4, 3)
    step(getattr(ours, name), p, torch.tensor(0.5).expand(4, 3))
    step(getattr(ours, name), q, torch.full((4, 3), 0.5))
    assert torch.equal(p, q)
    assert not torch.equal(p, numbers(4, 3))


@pytest.mark.parametrize("module", MODULES)
def test_expanded_parameters_are_refused(module: Any) -> None:
    p, q = torch.ones(3), torch.ones(1).expand(3)
    p.grad, q.grad = torch.ones(3), torch.ones(3)
    with pytest.raises((RuntimeError, ValueError)):
        module.SGD([p, q], lr=0.1).step()
    assert torch.equal(q, torch.ones(3))


def test_a_gradient_in_the_memory_of_its_parameter() -> None:
    memory = torch.arange(6.0)
    results = []
    for module in (ours, torch.optim):
        p = memory.clone()
        step(module.SGD, p, p.detach(), lr=0.5)
        results.append(p)
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_awkward_shapes(name: str, shape: tuple[int, ...]) -> None:
    p = numbers(*shape)
    optimizer = step(getattr(ours, name), p, numbers(*shape, seed=2), numbers(*shape, seed=3))
    assert optimizer.state[p].get("step", 2) == 2
    if p.numel() or name != "Adafactor":  # where PyTorch divides by zero
        q = numbers(*shape)
        theirs = step(getattr(torch.optim, name), q, numbers(*shape, seed=2), numbers(*shape, seed=3))
        torch.testing.assert_close(p, q, rtol=20 * torch.finfo(torch.float32).eps, atol=1e-7)
        assert [value.shape for value in optimizer.state[p].values()] == [v.shape for v in theirs.state[q].values()]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_gradients(name: str) -> None:
    p, q = torch.ones(3), torch.ones(3)
    q.grad = torch.ones(3)
    optimizer = getattr(ours, name)([p, q])
    optimizer.step()
    assert torch.equal(p, torch.ones(3))
    assert optimizer.state.get(p, {}).get("step", 0) == 0
    optimizer.zero_grad()
    optimizer.step()
    assert optimizer.state[q].get("step", 1) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_tensor_that_a_step_has_changed(name: str) -> None:
    w = torch.ones(3, requires_grad=True)
    w.grad = torch.ones(3)
    optimizer = getattr(ours, name)([w])
    optimizer.step()
    y, grad_version = (w * w * w).sum(), w.grad._version
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    assert w.grad._version == grad_version


def test_inference_tensors() -> None:
    first = torch.ones(3)
    with torch.inference_mode():
        second = torch.ones(3)
    first.grad = torch.ones(3)
    optimizer = ours.SGD([first, second], lr=0.5)
    with torch.inference_mode():
        second.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        optimizer.step()
    assert first.tolist() == second.tolist() == [1.0] * 3
    with torch.inference_mode():
        optimizer.step()
    assert first.tolist() == second.tolist() == [0.5] * 3


def test_tensors_stay_resizable() -> None:
    p = torch.ones(4, requires_grad=True)
    p.grad = torch.ones(4)
    optimizer = ours.Adam([p], average=0.5)
    optimizer.step()
    for tensor in (p.data, p.grad, optimizer.state[p]["exp_avg"], optimizer.state[p]["average"]):
        tensor.resize_(400)
    p.untyped_storage().resize_(0)
    assert p.untyped_storage().size() == 0


def test_a_parameter_without_memory_is_refused() -> None:
    """As FSDP leaves a parameter between its uses."""
    p, q = torch.ones(3), torch.ones(1000)
    p.grad, q.grad = torch.ones(3), torch.ones(1000)
    q.untyped_storage().resize_(0)
    optimizer = ours.SGD([p, q], lr=0.5)
    with pytest.raises(ValueError, match=r"params\[1\] has no memory"):
        optimizer.step()
    assert p.tolist() == [1.0] * 3


def test_other_memory_of_a_parameter() -> None:
    p = torch.ones(4, requires_grad=True)
    p.grad = torch.ones(4)
    optimizer = ours.Adam([p], lr=0.5)
    optimizer.step()
    before, other = p.data, torch.full((4,), 5.0)
    kept = before.clone()
    p.data = other
    optimizer.step()
    assert torch.equal(before, kept)
    assert p.data_ptr() == other.data_ptr()
    assert (other < 5).all()


@pytest.mark.parametrize("name", NAMES)
def test_duplicates_in_a_group(name: str) -> None:
    """PyTorch warns, and steps such a parameter once for each time."""
    results = []
    for module in (ours, torch.optim):
        p = torch.linspace(0.5, 1, 8, dtype=torch.float64)
        p.grad = torch.linspace(1, 2, 8, dtype=torch.float64)
        with pytest.warns(UserWarning, match="duplicate parameters"):
            optimizer = getattr(module, name)([p, p], lr=0.01)
        optimizer.step()
        results.append((p, optimizer.state[p].get("step")))
    close(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("option", [{"strict": True}, {"max_norm": 1.0}], ids=["strict", "max_norm"])
def test_duplicates_need_the_fallback(option: dict[str, Any]) -> None:
    p = torch.ones(3)
    p.grad = torch.ones(3)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = ours.Adam([p, p], **option)
    with pytest.raises(RuntimeError, match="parameter group 0 has a parameter twice, wh"):
        optimizer.step()
    assert torch.equal(p, torch.ones(3))


@pytest.mark.parametrize("module", MODULES)
def test_two_parameters_of_one_memory(module: Any) -> None:
    memory = torch.ones(4)
    p, q = memory.view(2, 2), memory.view(4)
    p.grad, q.grad = torch.ones(2, 2), torch.ones(4)
    module.SGD([p, q], lr=0.25).step()
    assert memory.tolist() == [0.5] * 4


Parameter: Any = torch.nn.Parameter
Tensor: Any = torch.Tensor


class OwnParameter(Parameter):  # type: ignore[misc]
    pass


class Logging(Tensor):  # type: ignore[misc]
    """A subclass that sees all of its operations."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(getattr(function, "__name__", ""))
        return super().__torch_function__(function, types, args, kwargs or {})


class Plain(Tensor):  # type: ignore[misc]
    __torch_function__ = torch._C._disabled_torch_function_impl


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [OwnParameter, Plain, Logging])
def test_subclasses(kind: Any, name: str) -> None:
    values = numbers(4, 3)
    p = OwnParameter(values.clone()) if kind is OwnParameter else values.clone().as_subclass(kind)
    q = values.clone()
    step(getattr(ours, name), p, torch.ones(4, 3).as_subclass(kind) if kind is Logging else torch.ones(4, 3))
    step(getattr(ours, name), q, torch.ones(4, 3))
    assert type(p) is kind
    assert torch.equal(p.detach().as_subclass(torch.Tensor), q)
    assert not torch.equal(q, values)


def test_wrappers_of_other_tensors() -> None:
    """A class like DTensor has no memory of its own, and takes PyTorch's step."""
    kind = pytest.importorskip("torch.testing._internal.two_tensor").TwoTensor
    p, q = kind(torch.ones(3), torch.full((3,), 2.0)), torch.ones(3)
    p.grad, q.grad = kind(torch.ones(3), torch.ones(3)), torch.ones(3)
    optimizer = ours.SGD([{"params": [q]}, {"params": [p]}], lr=0.5)
    optimizer.step()
    assert [p.a.tolist(), p.b.tolist(), q.tolist()] == [[0.5] * 3, [1.5] * 3, [0.5] * 3]
    optimizer.strict = True
    with pytest.raises(RuntimeError, match=r"parameter group 1 is .* of a class without memory of its own, which SGD"):
        optimizer.step()
    assert q.tolist() == [0.5] * 3


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam", "Adagrad", "ASGD", "Adafactor"])
def test_the_step_at_which_float32_stops_counting(name: str) -> None:
    results = []
    for module in (ours, torch.optim):
        p = torch.ones(3, dtype=torch.float64)
        optimizer = step(getattr(module, name), p, torch.ones(3, dtype=torch.float64))
        optimizer.state[p]["step"].fill_(2.0**24)
        optimizer.step()
        results.append((p, optimizer.state[p]["step"]))
    assert results[0][1] == results[1][1] == 2.0**24
    # PyTorch counts in float32, so its step is one less; no rule changes by more than 2^-24 of a step between them.
    torch.testing.assert_close(results[0][0], results[1][0], rtol=2.0**-24, atol=0)
