"""What torch.optim's optimizers do besides their arithmetic: closures, schedulers, groups, gradient scaling."""

import copy
import gc
import weakref
from typing import Any

import pytest

from torch_tensors import MODULES, NAMES, parameter

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("module", MODULES)
def test_closures(module: Any, name: str) -> None:
    p = parameter(grad=None)
    optimizer = getattr(module, name)([p])
    calls = []

    def closure() -> Any:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 14.0
    assert optimizer.step(closure=closure).item() != 14.0
    assert calls == [True, True]
    assert optimizer.step() is None


def test_an_error_in_a_closure() -> None:
    p = parameter()
    optimizer = ours.Adam([p])
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert not optimizer.state
    assert p.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", NAMES)
def test_lr_tensor_changed_in_place(name: str) -> None:
    results = []
    for module in (ours, torch.optim):
        p, lr = parameter(dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
        optimizer = getattr(module, name)([p], lr=lr)
        optimizer.step()
        lr.fill_(0.01)
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] is lr
        results.append(p.detach())
    # Two steps of numbers near 1, with about ten roundings each.
    torch.testing.assert_close(*results, rtol=20 * torch.finfo(torch.float64).eps, atol=0)


SCHEDULERS: tuple[tuple[str, dict[str, Any], Any, tuple[str, ...]], ...] = (
    ("SGD", {"lr": 0.1}, lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5), ("lr",)),
    (
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.2, 12),
        ("lr", "momentum"),
    ),
    ("Adam", {"lr": 0.1}, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.2, 12), ("lr", "betas")),
    ("AdamW", {"lr": 0.1}, lambda o: torch.optim.swa_utils.SWALR(o, 0.01, 3), ("lr",)),
)


@pytest.mark.parametrize(
    ("name", "options", "schedule", "scheduled"), SCHEDULERS, ids=["step", "one cycle", "one cycle of betas", "SWALR"]
)
def test_schedulers_change_groups(
    name: str, options: dict[str, Any], schedule: Any, scheduled: tuple[str, ...]
) -> None:
    results, histories = [], []
    for module in (ours, torch.optim):
        p = parameter(dtype=torch.float64)
        optimizer = getattr(module, name)([p], **options)
        scheduler = schedule(optimizer)
        history = []
        for _ in range(10):
            optimizer.step()
            scheduler.step()
            history.append([optimizer.param_groups[0][key] for key in scheduled])
        results.append(p.detach())
        histories.append(history)
    assert histories[0] == histories[1]
    assert all(len({str(row[i]) for row in histories[0]}) > 1 for i in range(len(scheduled)))
    # Ten steps of numbers near 1, with about ten roundings each.
    torch.testing.assert_close(*results, rtol=100 * torch.finfo(torch.float64).eps, atol=0)


def test_schedulers_know_whether_a_step_came_first() -> None:
    optimizer = ours.Adam([parameter()])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)` before `optimizer.step"):
        scheduler.step()
    optimizer = ours.Adam([parameter()])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    scheduler.step()  # any warning is an error here


@pytest.mark.parametrize("name", NAMES)
def test_a_group_added_later_and_own_hyperparameters(name: str) -> None:
    results = []
    for module in (ours, torch.optim):
        params = [parameter(1.0, -2.0, dtype=torch.float64), parameter(3.0, dtype=torch.float64)]
        optimizer = getattr(module, name)([{"params": params[:1], "lr": 0.02}], lr=0.5)
        optimizer.step()
        optimizer.add_param_group({"params": [parameter(4.0, grad=None)], "maximize": True})
        extra = getattr(module, name)(params[1:], lr=0.3, maximize=True)
        optimizer.step()
        extra.step()
        results.append(torch.cat([p.detach() for p in params]))
        assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.5]
    torch.testing.assert_close(*results, rtol=20 * torch.finfo(torch.float64).eps, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_keywords_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'momentun'"):
        getattr(ours, name)([parameter()], momentun=0.9)


@pytest.mark.parametrize("module", MODULES)
def test_unknown_keys_of_groups_are_kept(module: Any) -> None:
    optimizer = module.Adam([{"params": [parameter()], "of_mine": "x"}])
    optimizer.step()
    assert optimizer.param_groups[0]["of_mine"] == "x"
    assert optimizer.state_dict()["param_groups"][0]["of_mine"] == "x"


def test_named_parameters() -> None:
    layer = torch.nn.Linear(2, 1)
    optimizer = ours.Adam(layer.named_parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_gradient_scaler_skips_infinite_gradients(name: str, fused: bool | None) -> None:
    p = parameter(grad=None)
    optimizer = getattr(ours, name)([p], lr=0.1, fused=fused)
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    state = copy.deepcopy(dict(optimizer.state[p]))
    scaler.scale((p * torch.tensor([1.0, torch.inf, 1.0])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [1.0, 2.0, 3.0]
    assert {key: value.tolist() for key, value in optimizer.state[p].items()} == {
        k: v.tolist() for k, v in state.items()
    }
    assert scaler.get_scale() == 4.0
    optimizer.zero_grad()
    scaler.scale(p.sum()).backward()
    scaler.step(optimizer)
    q = parameter(grad=1.0)
    getattr(ours, name)([q], lr=0.1).step()
    assert torch.equal(p, q)
    assert p.tolist() != [1.0, 2.0, 3.0]


def test_scale_and_found_inf_as_attributes() -> None:
    p = parameter(grad=4.0)
    optimizer = ours.SGD([p], lr=1.0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    optimizer.step()
    assert p.tolist() == [0.5, 1.5, 2.5]
    optimizer.found_inf = torch.tensor(1.0)
    assert optimizer.step(lambda: 3) == 3
    assert p.tolist() == [0.5, 1.5, 2.5]
    optimizer.found_inf = optimizer.grad_scale = None
    optimizer.step()
    assert p.tolist() == [-3.5, -2.5, -1.5]


def test_one_optimizer_for_each_parameter_in_hooks_of_the_backward_pass() -> None:
    model, twin = (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    each = {p: ours.Adam([p], lr=0.1) for p in model.parameters()}

    def step(p: Any) -> None:
        each[p].step()
        each[p].zero_grad()

    for p in each:
        p.register_post_accumulate_grad_hook(step)
    whole = ours.Adam(twin.parameters(), lr=0.1)
    for _ in range(3):
        model(torch.ones(2, 3)).sum().backward()
        whole.zero_grad()
        twin(torch.ones(2, 3)).sum().backward()
        whole.step()
    assert all(p.grad is None and each[p].state[p]["step"] == 3 for p in each)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)


def test_averaged_models() -> None:
    model = torch.nn.Linear(3, 1)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = ours.SGD(model.parameters(), lr=0.1)
    weights = []
    for _ in range(3):
        model(torch.ones(3)).sum().backward()
        optimizer.step()
        averaged.update_parameters(model)
        weights.append(model.weight.detach().clone())
    assert weights[0].ne(weights[2]).all()
    torch.testing.assert_close(averaged.module.weight.detach(), torch.stack(weights).mean(0))


@pytest.mark.parametrize("name", NAMES)
def test_state_that_a_user_replaces_or_clears(name: str) -> None:
    results = []
    for module in (ours, torch.optim):
        p = parameter(dtype=torch.float64)
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(module, name)([p], lr=0.1, **options)
        optimizer.step()
        for key, value in optimizer.state[p].items():
            optimizer.state[p][key] = value.clone() * 2
        optimizer.step()
        if name != "Adagrad":  # whose state PyTorch makes in the constructor only
            optimizer.state.clear()
            optimizer.step()
        results.append(p.detach())
    torch.testing.assert_close(*results, rtol=30 * torch.finfo(torch.float64).eps, atol=0)


@pytest.mark.parametrize("master", [False, True])
def test_the_accumulator_of_a_group_that_comes_later(master: bool) -> None:
    """It begins with the constructor's value, as those that PyTorch's constructor makes."""
    dtype = torch.bfloat16 if master else torch.float32
    first, second = parameter(dtype=dtype), parameter(dtype=dtype)
    optimizer = ours.Adagrad([first], initial_accumulator_value=0.3, master=master)
    optimizer.add_param_group({"params": [second]})
    optimizer.step()
    expected = torch.full((3,), 0.3) + 0.25
    for p in (first, second):
        assert optimizer.state[p]["sum"].dtype == torch.float32
        assert torch.equal(optimizer.state[p]["sum"], expected)


def test_momentum_set_later() -> None:
    results = []
    for module in (ours, torch.optim):
        p = parameter()
        optimizer = module.SGD([p], lr=0.5)
        optimizer.step()
        optimizer.param_groups[0]["momentum"] = 0.5
        optimizer.step()
        optimizer.step()
        results.append(p.tolist())
    assert results[0] == results[1]  # powers of two: without roundings


@pytest.mark.parametrize("name", NAMES)
def test_numbers_have_the_default_type(name: str) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        results = []
        for module in (ours, torch.optim):
            p = parameter()
            optimizer = getattr(module, name)([p])
            optimizer.step()
            results.append({key: (value.dtype, value.shape) for key, value in optimizer.state[p].items()})
    finally:
        torch.set_default_dtype(torch.float32)
    assert results[0] == results[1]


@pytest.mark.parametrize("module", MODULES)
def test_differentiable_steps(module: Any) -> None:
    """The gradient of a loss after a step, with respect to the parameter before and to lr."""
    w, lr = torch.tensor(1.5, requires_grad=True), torch.tensor(0.25, requires_grad=True)
    p = w.clone()
    optimizer = module.SGD([p], lr=lr, differentiable=True)
    p.grad = 2 * p
    optimizer.step()
    (p**2).backward()
    assert p.item() == 0.75  # w - lr 2 w
    assert w.grad.item() == 2 * 0.75 * 0.5
    assert lr.grad.item() == 2 * 0.75 * -3


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Adafactor"])
def test_strict_refuses_differentiable_groups(name: str) -> None:
    first, second = torch.ones(3), torch.ones(3)
    first.grad, second.grad = torch.ones(3), torch.ones(3)
    optimizer = getattr(ours, name)([first], strict=True)
    optimizer.add_param_group({"params": [second], "differentiable": True})
    with pytest.raises(RuntimeError, match=f"parameter group 1 is differentiable, which {name} can't step itself"):
        optimizer.step()
    assert torch.equal(first, torch.ones(3))
    assert all(own.get("step", 0) == 0 for own in optimizer.state.values())


EXTRA: tuple[dict[str, Any], ...] = ({"max_norm": 1.0}, {"average": 0.5}, {"master": True}, {"rounding": "stochastic"})


@pytest.mark.parametrize("option", EXTRA, ids=lambda option: "".join(option))
@pytest.mark.parametrize("where", [{"differentiable": True}, {"device": "meta"}], ids=["differentiable", "meta"])
def test_there_is_no_fallback_with_own_options(option: dict[str, Any], where: dict[str, Any]) -> None:
    first, second = torch.ones(3), torch.ones(3, device=where.get("device", "cpu"))
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    other = {"params": [second], "differentiable": where.get("differentiable", False)}
    optimizer = ours.SGD([{"params": [first]}, other], **option)
    with pytest.raises(RuntimeError, match=f"parameter group 1 is .*, where there is no {next(iter(option))}"):
        optimizer.step()
    assert torch.equal(first, torch.ones(3))


@pytest.mark.parametrize("name", NAMES)
def test_other_devices(name: str) -> None:
    """A group on another device takes PyTorch's step, the others ours; with strict nothing is written."""

    def step(make: Any, **options: Any) -> tuple[Any, Any]:
        here, there = torch.ones(3), torch.ones(3, device="meta")
        here.grad, there.grad = torch.full((3,), 0.5), torch.ones(3, device="meta")
        optimizer = make([{"params": [there]}, {"params": [here]}], **options)
        try:
            optimizer.step()
        except Exception as error:  # of the shapes without memory
            return here, (type(error), str(error))
        return here, None

    mine, error = step(getattr(ours, name))
    theirs, their_error = step(getattr(torch.optim, name))
    assert error == their_error
    if error is None:
        torch.testing.assert_close(mine, theirs, rtol=10 * torch.finfo(torch.float32).eps, atol=0)
    mine, error = step(getattr(ours, name), strict=True)
    assert error is not None
    assert "parameter group 0" in error[1]
    assert torch.equal(mine, torch.ones(3))


def test_an_optimizer_is_freed_with_its_last_reference() -> None:
    optimizer = ours.Adam([parameter()], max_norm=1.0, average=0.5)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    reference = weakref.ref(optimizer)
    gc.collect()
    gc.disable()
    try:
        del optimizer
        assert reference() is None
    finally:
        gc.enable()
