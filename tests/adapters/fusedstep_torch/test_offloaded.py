"""Offloading, with parameters on the CPU and on a device that is made up of its memory."""

import copy
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the optimizers for PyTorch")

from fusedstep import torch as ours  # noqa: E402
from fusedstep.torch import _offloaded  # noqa: E402


class Far(ours.Offloaded):
    """Takes all parameters for those of a device."""

    @staticmethod
    def _is_near(p: Any) -> bool:
        return False


CLASSES = (ours.Offloaded, Far)


def network(dtype: Any = torch.bfloat16) -> Any:
    torch.manual_seed(1)
    layers = torch.nn.Linear(20, 30), torch.nn.Tanh(), torch.nn.Linear(30, 5)
    return torch.nn.Sequential(*layers).to(dtype)


def train(model: Any, optimizer: Any, steps: int, seed: int = 2) -> None:
    generator = torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    for _ in range(steps):
        x = torch.randn(16, 20, generator=generator).to(dtype)
        optimizer.zero_grad()
        model(x).float().pow(2).mean().backward()
        optimizer.step()


def values(model: Any) -> list[Any]:
    return [p.detach().clone() for p in model.parameters()]


def assert_same(a: list[Any], b: list[Any]) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("bucket_bytes", [1, 700, 1 << 25])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("keywords", [{}, {"max_norm": 0.05}, {"average": 0.9, "rounding": "stochastic", "seed": 3}])
def test_the_bits_of_the_optimizer(cls: Any, bucket_bytes: int, dtype: Any, keywords: dict[str, Any]) -> None:
    plain, offloaded = network(dtype), network(dtype)
    expected = ours.AdamW(plain.parameters(), lr=1e-2, master=True, **keywords)
    optimizer = cls(offloaded.parameters(), ours.AdamW, lr=1e-2, bucket_bytes=bucket_bytes, **keywords)
    train(plain, expected, 4)
    train(offloaded, optimizer, 4)
    assert_same(values(plain), values(offloaded))
    assert optimizer.gradient_norm == expected.gradient_norm
    for p, q in zip(plain.parameters(), offloaded.parameters(), strict=True):
        assert list(optimizer.state[q]) == list(expected.state[p])
        assert all(each.device.type == "cpu" for each in optimizer.state[q].values())
        assert_same(list(optimizer.state[q].values()), list(expected.state[p].values()))


@pytest.mark.parametrize("cls", CLASSES)
def test_groups_and_schedules(cls: Any) -> None:
    plain, offloaded = network(), network()
    groups = [
        [{"params": [p for p in model.parameters() if p.dim() > 1]}, {"params": iter([model[0].bias]), "lr": 0.1}]
        for model in (plain, offloaded)
    ]
    expected = ours.SGD(groups[0], lr=1e-2, momentum=0.9, master=True)
    optimizer = cls(groups[1], ours.SGD, lr=1e-2, momentum=0.9)
    for each, model in ((expected, plain), (optimizer, offloaded)):
        schedule = torch.optim.lr_scheduler.StepLR(each, 1, 0.5)
        train(model, each, 2)
        schedule.step()
        each.add_param_group({"params": [model[2].bias], "weight_decay": 0.1})
        train(model, each, 2)
    assert_same(values(plain), values(offloaded))
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in expected.param_groups]


@pytest.mark.parametrize("cls", CLASSES)
def test_checkpoints_go_both_ways(cls: Any) -> None:
    def offload(model: Any) -> Any:
        return cls(model.parameters(), ours.Adam, lr=1e-2)

    def keep(model: Any) -> Any:
        return ours.Adam(model.parameters(), lr=1e-2, master=True)

    undisturbed = network()
    train(undisturbed, keep(undisturbed), 3)
    optimizer = keep(undisturbed)
    for first, second in ((offload, keep), (keep, offload), (offload, offload)):
        before, after = network(), network()
        optimizer = first(before)
        train(before, optimizer, 3)
        file = io.BytesIO()
        torch.save((before.state_dict(), optimizer.state_dict()), file)
        file.seek(0)
        weights, state = torch.load(file, weights_only=True)
        after.load_state_dict(weights)
        resumed = second(after)
        resumed.load_state_dict(state)
        assert resumed.state[after[0].weight]["exp_avg"].dtype == torch.float32
        train(before, optimizer, 3, seed=5)
        train(after, resumed, 3, seed=5)
        assert_same(values(before), values(after))


@pytest.mark.parametrize("cls", CLASSES)
def test_it_copies_with_its_parameters(cls: Any) -> None:
    model = network()
    optimizer = cls(model.parameters(), ours.Adam, lr=1e-2)
    train(model, optimizer, 2)
    model_copy, optimizer_copy = copy.deepcopy((model, optimizer))
    train(model, optimizer, 2)
    train(model_copy, optimizer_copy, 2)
    assert_same(values(model), values(model_copy))


@pytest.mark.parametrize("cls", CLASSES)
def test_masters_are_taken_again(cls: Any) -> None:
    model = network()
    optimizer = cls(model.parameters(), ours.SGD, lr=0.0)
    train(model, optimizer, 1)
    other = [torch.randn_like(p) for p in model.parameters()]
    with torch.no_grad():
        for p, value in zip(model.parameters(), other, strict=True):
            p.copy_(value)
    train(model, optimizer, 1)
    assert_same(values(model), other)


def test_averages_and_missing_gradients() -> None:
    model = network()
    optimizer = Far(model.parameters(), ours.Adam, lr=1e-2, average=0.5)
    model[0].weight.requires_grad_(False)
    before = values(model)
    train(model, optimizer, 2)
    after = values(model)
    assert torch.equal(after[0], before[0])
    with optimizer.averaged():
        changed = [not torch.equal(a, b) for a, b in zip(values(model), after, strict=True)]
    assert changed == [False, True, True, True]
    assert_same(values(model), after)


def test_closure_and_hooks() -> None:
    model = network()
    optimizer = Far(model.parameters(), ours.Adam, lr=1e-2)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append("hook"))

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 20, dtype=torch.bfloat16)).float().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(closure().item(), abs=10)
    assert calls == ["hook"]


def test_buckets_are_fetched_while_earlier_ones_are_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    may_fetch_second = threading.Event()
    fetch, step_groups = _offloaded.Bucket.fetch, ours.Adam._step_groups

    def slow_fetch(bucket: Any) -> None:
        number = sum(event.startswith("fetch") for event in events)
        if number == 1:  # waits for the step of the first bucket, which must not wait for it
            assert may_fetch_second.wait(10)
        events.append(f"fetch {number}")
        fetch(bucket)

    def step(optimizer: Any, groups: Any, *arguments: Any, **keywords: Any) -> None:
        step_groups(optimizer, groups, *arguments, **keywords)
        events.append("step")
        may_fetch_second.set()

    monkeypatch.setattr(_offloaded.Bucket, "fetch", slow_fetch)
    monkeypatch.setattr(ours.Adam, "_step_groups", step)
    model = network()
    optimizer = Far(model.parameters(), ours.Adam, bucket_bytes=700)
    train(model, optimizer, 1)
    assert events[:3] == ["fetch 0", "step", "fetch 1"]


def test_an_error_of_a_transfer_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bucket: Any) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(_offloaded.Bucket, "fetch", fail)
    model = network()
    before = values(model)
    with pytest.raises(RuntimeError, match="the device is lost"):
        train(model, Far(model.parameters(), ours.Adam), 1)
    assert_same(values(model), before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: ours.Offloaded(p, torch.optim.Adam), TypeError, "expected one of fusedstep.torch's classes"),
        (lambda p: ours.Offloaded(p, ours.Adam, bucket_bytes=0), ValueError, "bucket_bytes is 0"),
        (lambda p: ours.Offloaded(p, ours.Adam, lr=-1.0), ValueError, "Invalid learning rate"),
        (lambda p: ours.Offloaded([], ours.Adam), ValueError, "empty parameter list"),
        (lambda p: ours.Offloaded(p[0], ours.Adam), TypeError, "should be an iterable of Tensors"),
        (lambda p: ours.Offloaded([{"params": set(p)}], ours.Adam), TypeError, "ordered collections"),
    ],
)
def test_errors(make: Callable[[list[Any]], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(list(network().parameters()))
