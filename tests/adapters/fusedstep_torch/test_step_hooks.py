"""Hooks of steps and state dicts, and the profiler: each runs once, in a user's subclasses, too."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from torch_tensors import MODULES, parameter

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")
base = pytest.importorskip("torch.optim.optimizer")


Adam: Any = ours.Adam


class OwnStep(Adam):  # type: ignore[misc]
    """A user's class."""

    calls = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        self.calls += 1
        return super().step(closure)


class OwnRule(Adam):  # type: ignore[misc]
    """A user's class with its parent's step."""


def after_their_instance(params: Any, **options: Any) -> Any:
    """Making the first instance of a class is when PyTorch wraps its step."""
    torch.optim.Adam(params)
    return ours.Adam(params, **options)


MAKERS = [
    pytest.param(torch.optim.Adam, id="theirs"),
    pytest.param(ours.Adam, id="ours"),
    pytest.param(after_their_instance, id="after their instance"),
    pytest.param(OwnStep, id="own step"),
    pytest.param(OwnRule, id="own class"),
]


@pytest.fixture
def log() -> Iterator[list[str]]:
    entries: list[str] = []
    handles = [
        base.register_optimizer_step_pre_hook(lambda *_: entries.append("all pre")),
        base.register_optimizer_step_post_hook(lambda *_: entries.append("all post")),
    ]
    yield entries
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("options", [{}, {"differentiable": True}], ids=["own", "fallback"])
@pytest.mark.parametrize("make", MAKERS)
def test_step_hooks_run_once(make: Any, options: dict[str, Any], log: list[str]) -> None:
    p = torch.ones(3)
    p.grad = torch.ones(3)
    optimizer = make([p], **options)
    optimizer.register_step_pre_hook(lambda *_: log.append("pre"))
    optimizer.register_step_post_hook(lambda *_: log.append("post"))
    optimizer.step(lambda: log.append("closure"))
    assert log == ["all pre", "pre", "closure", "post", "all post"]
    assert optimizer.state[p]["step"] == 1


@pytest.mark.parametrize("make", MAKERS)
def test_hooks_of_all_run_once(make: Any, log: list[str]) -> None:
    make([parameter()]).step()
    assert log == ["all pre", "all post"]


@pytest.mark.parametrize("make", MAKERS)
def test_hooks_change_the_arguments(make: Any) -> None:
    optimizer = make([parameter()])
    optimizer.register_step_pre_hook(lambda mine, args, keywords: ((mine,), {"closure": lambda: 7}))
    seen = []
    optimizer.register_step_post_hook(lambda mine, args, keywords: seen.append((len(args), list(keywords))))
    assert optimizer.step() == 7
    assert seen == [(1, ["closure"])]


@pytest.mark.parametrize("make", MAKERS)
def test_a_hook_that_returns_something_else(make: Any) -> None:
    p = parameter()
    optimizer = make([p])
    optimizer.register_step_pre_hook(lambda *_: "nothing")
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()
    assert p.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("module", MODULES)
def test_hooks_of_state_dicts(module: Any) -> None:
    seen = []
    optimizer = module.Adam([parameter()])
    optimizer.register_state_dict_pre_hook(lambda mine: seen.append("before"))
    optimizer.register_state_dict_post_hook(lambda mine, state: {**state, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda mine, state: seen.append(str(state["more"])))
    optimizer.register_load_state_dict_post_hook(lambda mine: seen.append("after"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before", "1", "after"]


@pytest.mark.parametrize("make", MAKERS)
def test_the_profiler_sees_steps(make: Any) -> None:
    optimizer = make([parameter()])
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    names = [event.name for event in profile.function_events]
    assert names.count(f"Optimizer.step#{type(optimizer).__name__}.step") == 1


def test_own_step_of_a_subclass() -> None:
    optimizer = OwnStep([parameter()])
    optimizer.step()
    assert optimizer.calls == 1
