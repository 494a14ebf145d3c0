"""The keywords that PyTorch's classes haven't: clipping, averages, stochastic rounding, masters, and strict."""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import reference
from torch_tensors import draw, parameters, to_array, to_tensor

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")
bfloat16 = pytest.importorskip("ml_dtypes").bfloat16

STEPS = 6

# The class and its options, and the reference that does the same.
ROWS: tuple[tuple[str, dict[str, Any], Any], ...] = (
    ("SGD", {"lr": 0.1}, lambda **own: reference.SGD(0.1, **own)),
    ("SGD", {"lr": 0.1, "momentum": 0.9}, lambda **own: reference.SGD(0.1, momentum=0.9, **own)),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}, lambda **own: reference.Adam(0.1, weight_decay=0.1, **own)),
    ("AdamW", {"lr": 0.1}, lambda **own: reference.AdamW(0.1, weight_decay=0.01, **own)),
    ("RMSprop", {"lr": 0.1}, lambda **own: reference.RMSProp(0.1, 0.99, 1e-8, **own)),
    ("Adagrad", {"lr": 0.1}, lambda **own: reference.AdaGrad(0.1, 1e-10, **own)),
    ("Lion", {"lr": 0.1}, lambda **own: reference.Lion(0.1, **own)),
)
THEIRS = [
    pytest.param(name, options, id=f"{name}, {', '.join(options)}")
    for name, options, _ in ROWS
    if hasattr(torch.optim, name)
]

TYPES = {np.float32: torch.float32, np.float64: torch.float64, bfloat16: torch.bfloat16}
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_norm": ({"max_norm": 0.5}, {"clip_norm": 0.5}),
    "max_norm, large": ({"max_norm": 1e4}, {"clip_norm": 1e4}),
    "average": ({"average": 0.9}, {"average": 0.9}),
    "rounding": ({"rounding": "stochastic", "seed": 2**63 + 5}, {"rounding": "stochastic", "seed": 2**63 + 5}),
    "master": ({"master": True}, {"master": True}),
}
OPTIONS["all"] = tuple(  # type: ignore[assignment]
    {key: value for each in OPTIONS.values() for key, value in each[side].items()} for side in (0, 1)
)
# A narrow parameter without a master has narrow state, where the reference's is float32.
CASES = [
    pytest.param(*row, option, t, id=f"{row[0]}, {', '.join(row[1])}, {option}, {t.__name__}")
    for row in ROWS
    for option, (own, _) in OPTIONS.items()
    for t in TYPES
    if t is not bfloat16 or "master" in own or not row[2]().state_names
]


def give(params: list[Any], seed: int, t: Any) -> list[Any]:
    for p, grad in zip(params, draw(seed, t), strict=True):
        p.grad = to_tensor(grad)
    return [p.grad for p in params]


@pytest.mark.parametrize(("name", "options", "make", "option", "t"), CASES)
def test_bits_of_the_reference(name: str, options: dict[str, Any], make: Any, option: str, t: Any) -> None:
    own, of_reference = OPTIONS[option]
    arrays, params = draw(1, t), parameters(1, t)
    optimizer = getattr(ours, name)([{"params": params[:2]}, {"params": params[2:]}], **options, **own)
    expected = make(**of_reference)
    for seed in range(2, 2 + STEPS):
        expected.update(arrays, draw(seed, t))
        grads = give(params, seed, t)
        optimizer.step()
        for grad, before in zip(grads, draw(seed, t), strict=True):
            np.testing.assert_array_equal(to_array(grad), before)
    for i, (p, array) in enumerate(zip(params, arrays, strict=True)):
        np.testing.assert_array_equal(to_array(p), array)
        for key in ("average", "master"):
            kept = key in own and (key == "average" or t is bfloat16)
            assert (key in optimizer.state[p]) == kept
            if kept:
                np.testing.assert_array_equal(to_array(optimizer.state[p][key]), expected.state[i][key])


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e4])
@pytest.mark.parametrize(("name", "options"), THEIRS)
def test_clipping_as_in_pytorch(name: str, options: dict[str, Any], max_norm: float) -> None:
    t = np.float64
    params, their_params = parameters(1, t), parameters(1, t)
    mine: Any = getattr(ours, name)([{"params": params[:1]}, {"params": params[1:]}], **options, max_norm=max_norm)
    theirs = getattr(torch.optim, name)(their_params, **options)
    assert [mine.gradient_norm] == [None]
    for seed in range(2, 2 + STEPS):
        give(params, seed, t)
        give(their_params, seed, t)
        mine.step()
        norm = torch.nn.utils.clip_grad_norm_(their_params, max_norm)
        theirs.step()
        # A sum of 45 squares in another order, of which the root halves the error.
        assert mine.gradient_norm == pytest.approx(norm.item(), rel=23 * np.finfo(t).eps, abs=0)
    for p, q in zip(params, their_params, strict=True):
        # The error of a norm, and ten roundings of numbers of size 1, in each step.
        torch.testing.assert_close(p, q, rtol=0, atol=STEPS * 33 * np.finfo(t).eps * float(q.abs().max()))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_clipping_of_gradients_that_are_not_finite(value: float) -> None:
    results = []
    for module in (ours, torch.optim):
        params = [torch.ones(2), torch.ones(2)]
        params[0].grad, params[1].grad = torch.tensor([value, 1.0]), torch.ones(2)
        optimizer = module.SGD(params, lr=0.5, **({"max_norm": 1.0} if module is ours else {}))
        norm = torch.nn.utils.clip_grad_norm_(params, 1.0).item() if module is torch.optim else None
        optimizer.step()
        results.append((torch.cat(params), norm or optimizer.gradient_norm))
    torch.testing.assert_close(results[0][0], results[1][0], equal_nan=True)
    assert str(results[0][1]) == str(results[1][1])


def test_clipping_without_gradients_and_with_a_scale() -> None:
    p = torch.ones(4)
    optimizer = ours.SGD([p], lr=1.0, max_norm=1.0)
    optimizer.step()
    assert optimizer.gradient_norm == 0.0
    p.grad = torch.full((4,), 64.0)
    optimizer.grad_scale = torch.tensor(128.0)  # the gradient is 0.5, its norm 1
    optimizer.step()
    assert optimizer.gradient_norm == 1.0
    assert p.tolist() == [1 - np.float32(0.5 * (1 / (1 + 1e-6)))] * 4
    optimizer.max_norm = None
    optimizer.step()


def test_clipping_of_complex_gradients() -> None:
    p = torch.zeros(2, dtype=torch.complex64)
    p.grad = torch.tensor([3 + 4j, 12j], dtype=torch.complex64)
    optimizer = ours.SGD([p], lr=1.0, max_norm=1e9)
    optimizer.step()
    assert optimizer.gradient_norm == 13.0


def test_average_as_a_loop() -> None:
    p = torch.tensor([1.0, 2.0], dtype=torch.float64)
    optimizer = ours.SGD([p], lr=0.25, average=0.75)
    mean: Any = None
    for _ in range(STEPS):
        p.grad = p.clone()
        optimizer.step()
        mean = p.numpy().copy() if mean is None else mean + (1 - 0.75) * (p.numpy() - mean)
    # Two roundings in each step, on either side.
    np.testing.assert_allclose(optimizer.state[p]["average"].numpy(), mean, rtol=2 * STEPS * np.finfo(float).eps)


class InterruptedTestError(Exception):
    pass


@pytest.mark.parametrize("t", TYPES, ids=lambda t: t.__name__)
def test_averaged(t: Any) -> None:
    params = parameters(1, t)
    late = torch.ones(3)
    optimizer = ours.SGD([*params, late], lr=0.5, average=0.5)
    with pytest.raises(RuntimeError, match="there are no averages"), optimizer.averaged():
        pass
    for seed in (2, 3):  # the first average is a copy
        give(params, seed, t)
        optimizer.step()
    trained = [p.clone() for p in params]
    averages = [optimizer.state[p]["average"].clone() for p in params]

    def swapped() -> Iterator[bool]:
        return (torch.equal(p, q.to(p.dtype)) for p, q in zip(params, averages, strict=True))

    assert not any(swapped())
    with optimizer.averaged():
        assert all(swapped())
        assert torch.equal(late, torch.ones(3))
    assert all(torch.equal(p, q) for p, q in zip(params, trained, strict=True))
    with suppress(InterruptedTestError), optimizer.averaged():
        assert all(swapped())
        raise InterruptedTestError
    assert all(torch.equal(p, q) for p, q in zip(params, trained, strict=True))
    assert all(torch.equal(optimizer.state[p]["average"], q) for p, q in zip(params, averages, strict=True))


def test_averages_among_state_that_is_no_parameters() -> None:
    """PyTorch keeps what a checkpoint has besides."""
    p = torch.ones(2)
    p.grad = torch.ones(2)
    optimizer = ours.SGD([p], lr=0.5, average=0.5)
    optimizer.step()
    given = optimizer.state_dict()
    given["state"] |= {"ours": {"average": torch.ones(3)}, "theirs": 5}
    optimizer.load_state_dict(given)
    optimizer.step()
    with optimizer.averaged():
        assert p.tolist() == [0.25, 0.25]
    assert p.tolist() == [0.0, 0.0]


def test_averaged_parameters_that_require_gradients() -> None:
    layer = torch.nn.Linear(2, 1)
    optimizer = ours.Adam(layer.parameters(), average=0.5)
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    with optimizer.averaged():
        layer(torch.ones(2)).sum().backward()
    assert layer.weight.requires_grad
    assert layer.weight.is_leaf


def test_an_average_that_begins_and_ends_later() -> None:
    p = torch.ones(2)
    p.grad = torch.ones(2)
    optimizer = ours.SGD([p], lr=0.5)
    optimizer.step()
    assert "average" not in optimizer.state[p]
    optimizer.average = 0.5
    optimizer.step()
    # As the reference's: the first average is the parameter that its first step has made.
    assert optimizer.state[p]["average"].tolist() == p.tolist() == [0.0, 0.0]
    optimizer.step()
    assert optimizer.state[p]["average"].tolist() == [-0.25, -0.25]


COUNT = 100_000


def stochastic_step(seed: int, step: int = 1, count: int = COUNT) -> Any:
    """A step from 1 by a quarter of the way to the next number, as often as there are elements."""
    p = torch.ones(count, dtype=torch.bfloat16)
    optimizer = ours.SGD([p], lr=2.0**-10, rounding="stochastic", seed=seed)
    p.grad = torch.full((count,), -2.0, dtype=torch.bfloat16)  # the next number is 1 + 2^-7
    for _ in range(step):
        p.fill_(1.0)
        optimizer.step()
    return p


def test_stochastic_rounding_is_unbiased() -> None:
    p = stochastic_step(seed=3)
    up = int((p == 1 + 2**-7).sum())
    assert up + int((p == 1).sum()) == COUNT
    # Of a binomial distribution with p = 1/4: five standard deviations.
    assert abs(up - COUNT / 4) < 5 * math.sqrt(COUNT * 3 / 16)


def test_stochastic_rounding_depends_on_seed_step_and_element() -> None:
    first = stochastic_step(seed=3)
    assert torch.equal(first, stochastic_step(seed=3))
    # Both up or both not, of independent ones: 1/16 + 9/16 of the elements.
    for other in (stochastic_step(seed=4), stochastic_step(seed=3, step=2), first.roll(1)):
        same = int((first == other).sum())
        assert abs(same - COUNT * 10 / 16) < 5 * math.sqrt(COUNT * 60 / 256)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion", "Adafactor"])
def test_stochastic_rounding_in_threads(name: str) -> None:
    results = []
    for threads in (1, 2):
        fs.set_num_threads(threads)
        params = [torch.linspace(0.1, 1, 300_000).to(torch.bfloat16) for _ in range(2)]
        optimizer = getattr(ours, name)(params, lr=1e-4, rounding="stochastic", seed=9)
        for p in params:
            p.grad = p.clone()
        optimizer.step()
        results.append(torch.stack(params))
    assert torch.equal(*results)
    assert not torch.equal(*results[0])  # parameters have bits of their own


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "options"), THEIRS)
def test_masters_are_a_float32_training(name: str, options: dict[str, Any], narrow: Any) -> None:
    params = [array.to(narrow) for array in parameters(1, np.float32)]
    wide = [p.float() for p in params]
    mine = getattr(ours, name)(params, **options, master=True)
    expected = getattr(ours, name)(wide, **options)
    for seed in range(2, 2 + STEPS):
        for p, q, grad in zip(params, wide, draw(seed, np.float32), strict=True):
            p.grad = to_tensor(grad).to(narrow)
            q.grad = p.grad.float()
        mine.step()
        expected.step()
    for p, q in zip(params, wide, strict=True):
        assert torch.equal(p, q.to(narrow))
        assert torch.equal(mine.state[p]["master"], q)
        assert {value.dtype for value in mine.state[p].values()} == {torch.float32}


def test_masters_of_a_mixed_group() -> None:
    narrow, wide = torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.float64)
    for p in (narrow, wide):
        p.grad = torch.ones_like(p)
    optimizer = ours.Adam([wide, narrow], master=True)
    optimizer.step()
    assert "master" in optimizer.state[narrow]
    assert "master" not in optimizer.state[wide]


def test_a_master_that_is_deleted_is_made_again() -> None:
    p = torch.ones(3, dtype=torch.bfloat16)
    p.grad = torch.full((3,), 2.0**-9, dtype=torch.bfloat16)
    optimizer = ours.SGD([p], lr=0.5, master=True)
    for _ in range(3):
        optimizer.step()
    assert optimizer.state[p]["master"].tolist() == [1 - 3 * 2.0**-10] * 3
    with torch.no_grad():
        p.fill_(2.0)
    del optimizer.state[p]["master"]
    optimizer.step()
    assert optimizer.state[p]["master"].tolist() == [2 - 2.0**-10] * 3


WRONG: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    ({"max_norm": -1.0}, ValueError, r"max_norm is -1.0, expected a finite number >= 0"),
    ({"max_norm": math.inf}, ValueError, r"max_norm is inf"),
    ({"max_norm": "1"}, TypeError, r"max_norm is '1', expected a number"),
    ({"average": 1.5}, ValueError, r"average is 1.5, expected a number from 0 to 1"),
    ({"average": lambda t: 0.9}, TypeError, r"average is <function .*, expected a number"),
    ({"rounding": "up"}, ValueError, r"rounding is 'up', expected"),
    ({"seed": -1}, ValueError, r"seed is -1"),
    ({"seed": 2**64}, ValueError, r"seed is 18446744073709551616"),
    ({"seed": 0.5}, TypeError, r"seed is 0.5"),
    ({"master": "yes"}, TypeError, r"master is 'yes', expected True or False"),
    ({"strict": 2}, TypeError, r"strict is 2, expected True or False"),
)


@pytest.mark.parametrize(("given", "error", "text"), WRONG, ids=[text[:16] for *_, text in WRONG])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Lion"])
def test_wrong_values(name: str, given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        getattr(ours, name)([torch.ones(3)], **given)
