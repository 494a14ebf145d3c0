"""The rules that torch.optim hasn't: the bits of fusedstep's optimizers of those names, and what PyTorch expects."""

import copy
import inspect
import io
import pickle
from typing import Any

import numpy as np
import pytest

from cases import ROWS
from torch_tensors import draw, parameters, to_array, to_tensor

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")
bfloat16 = pytest.importorskip("ml_dtypes").bfloat16

STEPS = 10
ROW_OF = {row.optimizer: row for row in ROWS}
RULES: list[Any] = [
    each for each in vars(ours).values() if isinstance(each, type) and issubclass(each, ours.FurtherRule)
]
RULES.remove(ours.FurtherRule)
ALL = [pytest.param(rule, id=rule.__name__) for rule in RULES]
MODES = [pytest.param(rule, id=rule.__name__) for rule in RULES if hasattr(rule, "eval")]

# Options of all rules, besides those of the table.
EVERY: tuple[dict[str, Any], ...] = (
    {"weight_decay": 0.1, "decoupled": False, "maximize": True, "clip_value": 0.5},
    {"weight_decay": 0.1, "cautious_decay": True},
    {"weight_decay": 0.1, "decay_after": True},
    {"weight_decay": 0.1, "max_lr": 2.0},
    {"average": 0.75},
)
CASES = [
    pytest.param(rule, options, id=f"{rule.__name__}, {', '.join(f'{k}={v}' for k, v in options.items())}")
    for rule in RULES
    for options in ({}, *ROW_OF[rule._form].options, *EVERY)
]
# The type of PyTorch, that of NumPy, and whether there are masters.
TYPES = [
    pytest.param(torch.float32, np.float32, False, id="float32"),
    pytest.param(torch.float64, np.float64, False, id="float64"),
    pytest.param(torch.bfloat16, bfloat16, True, id="bfloat16"),
]


def step(optimizer: Any, params: list[Any], seed: int, t: Any) -> None:
    for p, grad in zip(params, draw(seed, t), strict=True):
        p.grad = to_tensor(grad)
    optimizer.step()


@pytest.mark.parametrize(("torch_type", "t", "master"), TYPES)
@pytest.mark.parametrize(("rule", "options"), CASES)
def test_bits(rule: Any, options: dict[str, Any], torch_type: Any, t: Any, master: bool) -> None:
    arrays, params = draw(1, t), parameters(1, t)
    expected = rule._form(**options, master=master)
    optimizer = rule(params, **options, master=master)
    for seed in range(2, 2 + STEPS):
        expected.update(arrays, draw(seed, t))
        step(optimizer, params, seed, t)
    for i, (p, array) in enumerate(zip(params, arrays, strict=True)):
        assert p.dtype == torch_type
        np.testing.assert_array_equal(to_array(p), array)
        state = optimizer.state[p]
        assert state["step"] == STEPS
        for key, value in expected.state.get(i, {}).items():
            np.testing.assert_array_equal(to_array(state[key]), value, err_msg=key)


@pytest.mark.parametrize("rule", ALL)
def test_groups_have_their_own(rule: Any) -> None:
    """Each group is as an optimizer of its own; changes of a group, as by a scheduler, act."""
    params, alone = parameters(1, np.float32), parameters(1, np.float32)
    own: tuple[dict[str, Any], ...] = ({"lr": 0.125}, {"weight_decay": 0.25}, {"maximize": True})
    optimizer = rule([{"params": [p], **given} for p, given in zip(params, own, strict=True)], lr=0.5)
    each = [rule([p], **({"lr": 0.5} | given)) for p, given in zip(alone, own, strict=True)]
    for seed in range(2, 5):
        step(optimizer, params, seed, np.float32)
        for p, grad in zip(alone, draw(seed, np.float32), strict=True):
            p.grad = to_tensor(grad)
        for single in each:
            single.step()
            single.param_groups[0]["lr"] *= 0.5
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
    for p, q, before in zip(params, alone, parameters(1, np.float32), strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, before)


WRONG: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"lr": -1.0}, ValueError, "lr is -1.0"),
    ({"lr": "fast"}, TypeError, "lr is 'fast'"),
    ({"weight_decay": float("nan")}, ValueError, "weight_decay is nan"),
    ({"maximize": "yes"}, TypeError, "maximize is 'yes'"),
    ({"clip_value": -0.5}, ValueError, "clip_value is -0.5"),
    ({"max_lr": 0.0}, ValueError, "max_lr is 0.0"),
)


@pytest.mark.parametrize(("given", "error", "text"), WRONG, ids=[text for *_, text in WRONG])
@pytest.mark.parametrize("rule", ALL)
def test_wrong_values(rule: Any, given: dict[str, Any], error: type[Exception], text: str) -> None:
    params = parameters(1, np.float32)
    with pytest.raises(error, match=f"^{text}"):
        rule(params, **given)
    with pytest.raises(error, match=f"^{text}"):
        rule([{"params": params, **given}])
    optimizer = rule(params[:1])
    with pytest.raises(error, match=f"^{text}"):
        optimizer.add_param_group({"params": params[1:], **given})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["lr", "weight_decay", "maximize", "max_lr"])
@pytest.mark.parametrize("rule", ALL)
def test_text_that_was_put_in_a_group(rule: Any, name: str) -> None:
    """As in PyTorch, what is put in a group later isn't checked, but nothing is written where a step can't be made."""
    params = parameters(1, np.float32)
    optimizer = rule([{"params": params[:1]}, {"params": params[1:]}])
    optimizer.param_groups[1][name] = "fast"
    with pytest.raises(TypeError, match="must be real number, not str"):
        step(optimizer, params, 2, np.float32)
    for p, before in zip(params, parameters(1, np.float32), strict=True):
        assert torch.equal(p, before)
        assert not optimizer.state.get(p)


@pytest.mark.parametrize("rule", ALL)
def test_schedules_as_functions_are_refused(rule: Any) -> None:
    params = parameters(1, np.float32)
    with pytest.raises(TypeError, match=r"^lr is .*, expected a number"):
        rule(params, lambda count: 0.1)
    with pytest.raises(TypeError, match=r"^lr is .*, expected a number"):
        rule([{"params": params, "lr": lambda count: 0.1}])
    with pytest.raises(TypeError, match="unexpected keyword argument 'betas'"):
        rule(params, betas=(0.9, 0.999))


@pytest.mark.parametrize("rule", ALL)
def test_signature(rule: Any) -> None:
    names = list(inspect.signature(rule).parameters)
    form = inspect.signature(rule._form).parameters
    own = [name for name, each in form.items() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    assert names[: 1 + len(own)] == ["params", *own]
    assert len(set(names)) == len(names)
    defaults = {name: each.default for name, each in inspect.signature(rule).parameters.items() if name != "params"}
    assert {name: defaults[name] for name in own} == {name: form[name].default for name in own}
    assert {"max_norm", "average", "rounding", "seed", "master", "strict"} <= set(names)
    params = parameters(1, np.float32)
    given, without = rule(params, **defaults), rule(params)
    assert given.defaults == without.defaults
    positional = [name for name in own if form[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert rule(params, *(defaults[name] for name in positional)).defaults == without.defaults
    assert issubclass(rule, torch.optim.Optimizer)


def test_lr_as_a_tensor() -> None:
    lr = torch.tensor(0.5)
    p = torch.ones(3)
    p.grad = torch.ones(3)
    optimizer = ours.SignSGD([p], lr)
    optimizer.step()
    lr.fill_(0.25)
    optimizer.step()
    assert p.tolist() == [0.25] * 3


@pytest.mark.parametrize("master", [False, True])
@pytest.mark.parametrize("rule", ALL)
def test_checkpoints(rule: Any, master: bool) -> None:
    """Through a file, a pickle and a deep copy, the bits go on."""
    t = bfloat16 if master else np.float64
    options = {"lr": 0.1, "master": master, "average": 0.5, "max_norm": 2.0}
    params = parameters(1, t)
    optimizer = rule(params, **options)
    for seed in range(2, 5):
        step(optimizer, params, seed, t)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded_params = copy.deepcopy(params)
    loaded = rule(loaded_params, **(options | {"lr": 0.7}))
    loaded.load_state_dict(torch.load(file, weights_only=True))
    twins = [pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)]
    others = [(loaded, loaded_params), *((twin, twin.param_groups[0]["params"]) for twin in twins)]
    for seed in range(5, 8):
        step(optimizer, params, seed, t)
        for other, other_params in others:
            step(other, other_params, seed, t)
    for other, other_params in others:
        for p, q in zip(params, other_params, strict=True):
            assert torch.equal(p, q)
            assert optimizer.state[p]["step"] == 6
            assert list(optimizer.state[p]) == list(other.state[q])
            for key, value in optimizer.state[p].items():
                assert value.dtype == other.state[q][key].dtype
                assert torch.equal(value, other.state[q][key])


@pytest.mark.parametrize("rule", ALL)
def test_there_is_no_fallback(rule: Any) -> None:
    params = parameters(1, np.float32)
    optimizer = rule([{"params": params[:1]}, {"params": params[1:], "differentiable": True}])
    with pytest.raises(RuntimeError, match=f"group 1 is differentiable, which {rule.__name__} can't step itself"):
        step(optimizer, params, 2, np.float32)
    assert torch.equal(params[0], parameters(1, np.float32)[0])


@pytest.mark.parametrize(("torch_type", "t", "master"), TYPES)
@pytest.mark.parametrize("rule", MODES)
def test_modes(rule: Any, torch_type: Any, t: Any, master: bool) -> None:
    arrays, params = draw(1, t), parameters(1, t)
    late = torch.ones(3, dtype=torch_type)
    expected, optimizer = rule._form(0.1, master=master), rule([*params, late], 0.1, master=master)
    for seed in range(2, 6):
        expected.update(arrays, draw(seed, t))
        step(optimizer, params, seed, t)
    trained = [p.clone() for p in params]
    expected.eval(arrays)
    for _ in range(2):
        optimizer.eval()
        # One interpolation, of the same numbers on both sides: a product and a sum on each.
        eps = float(torch.finfo(torch_type).eps)
        for p, array in zip(params, arrays, strict=True):
            np.testing.assert_allclose(
                to_array(p).astype(float), array.astype(float), rtol=0, atol=2 * eps * float(np.abs(array).max())
            )
    assert any(not torch.equal(p, before) for p, before in zip(params, trained, strict=True))
    assert torch.equal(late, torch.ones(3, dtype=torch_type))
    with pytest.raises(RuntimeError, match=r"eval mode: call train\(\) before step\(\)"):
        optimizer.step()
    twin = rule([*params, late], 0.1, master=master)
    twin.load_state_dict(optimizer.state_dict())
    with pytest.raises(RuntimeError, match="eval mode"):
        twin.step()
    for _ in range(2):
        optimizer.train()
        for p, before in zip(params, trained, strict=True):
            torch.testing.assert_close(p, before, rtol=0, atol=4 * eps * float(before.abs().max()))
    step(optimizer, params, 6, t)
