"""Masters of narrow parameters that something else than a step changes, and options that are set later."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the optimizers for PyTorch")
ours = pytest.importorskip("fusedstep.torch")

NARROW = [torch.bfloat16, torch.float16]


def stepped(p: Any, optimizer: Any, steps: int = 3) -> Any:
    for i in range(steps):
        p.grad = torch.linspace(-1, 1, p.numel(), dtype=p.dtype).reshape(p.shape) * (i + 1)
        optimizer.step()
    return p


def parameter(dtype: Any) -> Any:
    return torch.nn.Parameter(torch.linspace(-3, 3, 100).to(dtype))


@pytest.mark.parametrize("dtype", NARROW)
def test_a_change_in_place_is_taken(dtype: Any) -> None:
    p = parameter(dtype)
    optimizer = ours.SGD([p], lr=1e-3, master=True)
    stepped(p, optimizer)
    kept = optimizer.state[p]["master"].clone()
    with torch.no_grad():
        p[:50] += 1
    p.grad = torch.zeros_like(p)
    optimizer.step()
    master = optimizer.state[p]["master"]
    torch.testing.assert_close(master[:50], p[:50].float(), rtol=0, atol=0)
    torch.testing.assert_close(master[50:], kept[50:], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_steps_and_what_gives_the_same_values_keep_them(dtype: Any, rounding: str) -> None:
    p, q = parameter(dtype), parameter(dtype)
    optimizers = [ours.Adam([each], lr=1e-4, master=True, average=0.9, rounding=rounding) for each in (p, q)]
    for _ in range(5):
        stepped(p, optimizers[0], 1)
        with optimizers[0].averaged():  # changes the parameter, and changes it back
            pass
        optimizers[0].load_state_dict(optimizers[0].state_dict())
        stepped(q, optimizers[1], 1)
    torch.testing.assert_close(optimizers[0].state[p]["master"], optimizers[1].state[q]["master"], rtol=0, atol=0)
    torch.testing.assert_close(p, q, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", NARROW)
def test_a_training_that_pytorch_has_continued(dtype: Any) -> None:
    p = parameter(dtype)
    optimizer = ours.Adam([p], lr=0.125, master=True)
    stepped(p, optimizer)
    theirs = torch.optim.Adam([p], lr=0.125)
    theirs.load_state_dict(optimizer.state_dict())
    stepped(p, theirs, 10)
    resumed = ours.Adam([p], lr=0.125, master=True)
    resumed.load_state_dict(theirs.state_dict())
    before = p.detach().float().clone()
    stepped(p, resumed, 1)
    assert (p.float() - before).abs().max() < 0.2  # a step of Adam's is about lr


def test_special_numbers_are_no_changes() -> None:
    p = torch.nn.Parameter(torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, 3e38, 1e-40], dtype=torch.bfloat16))
    optimizer = ours.SGD([p], lr=0.0, master=True)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.state[p]["master"][4] *= 1 + 2**-12
    optimizer.state[p]["master"][5] = 1.0000001e-40
    kept = optimizer.state[p]["master"].clone()
    torch.autograd.graph.increment_version(p)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[p]["master"][:5], kept[:5], rtol=0, atol=0, equal_nan=True)


def test_a_sparse_momentum_of_pytorch_is_loaded() -> None:
    p, q = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    grad = torch.sparse_coo_tensor([[1, 3]], torch.ones(2, 3), (4, 3), check_invariants=True)
    theirs = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    for _ in range(2):
        p.grad = grad.clone()
        theirs.step()
    optimizer = ours.SGD([q], lr=0.1, momentum=0.9)
    q.data.copy_(p.data)
    optimizer.load_state_dict(theirs.state_dict())
    for each, own in ((p, theirs), (q, optimizer)):
        each.grad = grad.clone()
        own.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "value"), [("max_norm", -3), ("average", 2.0), ("seed", -3), ("rounding", "up"), ("master", 2)]
)
def test_options_that_are_set_later_are_checked(name: str, value: Any) -> None:
    optimizer = ours.SGD([torch.nn.Parameter(torch.ones(3))])
    before = getattr(optimizer, name)
    with pytest.raises((TypeError, ValueError), match=name):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16])
def test_large_states_have_other_places_in_their_pages(dtype: Any) -> None:
    p = torch.nn.Parameter(torch.ones(300, 200, dtype=dtype))
    optimizer = ours.Adam([p], amsgrad=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    states = [optimizer.state[p][key] for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")]
    places = [each.data_ptr() // 64 % 64 for each in states]
    assert len({p.data_ptr() // 64 % 64, places[0], places[1]}) == 3
    assert all((each.dtype, each.shape, each.stride()) == (p.dtype, p.shape, p.stride()) for each in states)
