"""Checkpoints: PyTorch's classes and ours go on from each other's, and from older ones; copies go on with the bits."""

import copy
import io
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
ours = pytest.importorskip("fusedstep.torch")

STEPS = 50

# The class and options; those that change the kinds of state come all.
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.01}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "amsgrad": True}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.01, "initial_accumulator_value": 0.1}),
    ("RMSprop", {"lr": 0.005}),
    ("RMSprop", {"lr": 0.005, "centered": True, "momentum": 0.5}),
    ("Adadelta", {"lr": 1.0}),
    ("Adamax", {"lr": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.01, "betas": (0.9, 0.95)}),
    ("Rprop", {"lr": 0.01}),
    ("ASGD", {"lr": 0.05, "t0": 10, "lambd": 0.01}),
    ("Adafactor", {"lr": 0.05}),
)
# Flags that came after the classes.
LATE = {"maximize", "foreach", "fused", "differentiable", "capturable", "decoupled_weight_decay"}
ALL = [pytest.param(name, options, id=f"{name}, {', '.join(options)}") for name, options in ROWS]
# The module of the first half, and that of the second.
SIDES = [pytest.param(ours, torch.optim, id="ours first"), pytest.param(torch.optim, ours, id="ours second")]


def model_and_data(dtype: Any = torch.float64) -> tuple[Any, Any, Any]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).to(dtype)
    return model, torch.randn(8, 6, dtype=dtype), torch.randn(8, 2, dtype=dtype)


def run(optimizer: Any, model: Any, x: Any, y: Any, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def through_file(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(first: Any, second: Any, name: str, options: dict[str, Any]) -> list[float]:
    model, x, y = model_and_data()
    optimizer = getattr(first, name)(model.parameters(), **options)
    losses = run(optimizer, model, x, y, STEPS // 2)
    saved = through_file({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    model, x, y = model_and_data()
    optimizer = getattr(second, name)(model.parameters(), lr=123.0)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    assert optimizer.param_groups[0]["lr"] == options["lr"]
    return losses + run(optimizer, model, x, y, STEPS // 2)


@pytest.mark.usefixtures("numbers_in_double")
@pytest.mark.parametrize(("first", "second"), SIDES)
@pytest.mark.parametrize(("name", "options"), ALL)
def test_resumed_by_the_other(name: str, options: dict[str, Any], first: Any, second: Any) -> None:
    expected = resumed(torch.optim, torch.optim, name, options)
    assert expected[-1] < expected[0]
    # Differences of a unit in the last place grow by no more than a factor of 1000 in such a training.
    assert resumed(first, second, name, options) == pytest.approx(expected, rel=1000 * torch.finfo(torch.float64).eps)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_resumed_bits(name: str, options: dict[str, Any]) -> None:
    model, x, y = model_and_data()
    expected = run(getattr(ours, name)(model.parameters(), **options), model, x, y, STEPS)
    assert resumed(ours, ours, name, options) == expected


@pytest.mark.parametrize(("name", "options"), ALL)
def test_loading_before_the_first_step(name: str, options: dict[str, Any]) -> None:
    model, x, y = model_and_data()
    expected = run(getattr(ours, name)(model.parameters(), **options), model, x, y, 3)
    model, x, y = model_and_data()
    unused = getattr(ours, name)(model.parameters(), **options).state_dict()
    optimizer = getattr(ours, name)(model.parameters(), lr=9.0)
    optimizer.load_state_dict(through_file(unused))
    assert run(optimizer, model, x, y, 3) == expected
    assert expected[0] != expected[1] != expected[2]


@pytest.mark.usefixtures("numbers_in_double")
@pytest.mark.parametrize(("name", "options"), ALL)
def test_older_state(name: str, options: dict[str, Any]) -> None:
    """Checkpoints of older versions have no flags that came later, and steps that are Python's numbers."""
    model, x, y = model_and_data()
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    run(optimizer, model, x, y, 5)
    parameters = copy.deepcopy(model.state_dict())
    old = copy.deepcopy(optimizer.state_dict())
    (group,) = old["param_groups"]
    without = {key: value for key, value in group.items() if key not in LATE or key in options}
    newer = getattr(torch.optim, name)(model.parameters())
    newer.load_state_dict({**old, "param_groups": [without]})
    for flag in LATE & set(newer.param_groups[0]) - set(options):  # others have always been there
        del group[flag]
    for state in old["state"].values():
        for key, value in state.items():
            if value is not None and value.dim() == 0:
                state[key] = value.item()

    def go_on(module: Any) -> list[float]:
        model, x, y = model_and_data()
        model.load_state_dict(parameters)
        optimizer = getattr(module, name)(model.parameters(), lr=1.0)
        optimizer.load_state_dict(copy.deepcopy(old))
        assert optimizer.param_groups[0].get("maximize", False) is False
        return run(optimizer, model, x, y, 5)

    # See test_resumed_by_the_other.
    assert go_on(ours) == pytest.approx(go_on(torch.optim), rel=1000 * torch.finfo(torch.float64).eps)


def copied(optimizer: Any) -> Any:
    return copy.deepcopy(optimizer)


def pickled(optimizer: Any) -> Any:
    return pickle.loads(pickle.dumps(optimizer))


@pytest.mark.parametrize("duplicate", [copied, pickled])
@pytest.mark.parametrize(("name", "options"), ALL)
def test_duplicates_go_on(name: str, options: dict[str, Any], duplicate: Any) -> None:
    extra = {"max_norm": 0.5, "average": 0.9, "rounding": "stochastic", "seed": 7, "master": True, "strict": True}
    params = [torch.linspace(-1, 1, 35, dtype=dtype).reshape(5, 7) for dtype in (torch.float32, torch.bfloat16)]
    optimizer = getattr(ours, name)(params, **options, **extra)

    def step(optimizer: Any, seed: int) -> None:
        numbers = torch.Generator().manual_seed(seed)
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.randn(p.shape, generator=numbers).to(p.dtype)
        optimizer.step()

    for t in range(3):
        step(optimizer, t)
    twin = duplicate(optimizer)
    assert {key: getattr(twin, key) for key in extra} == extra
    for t in range(3, 6):
        step(optimizer, t)
        step(twin, t)
    for p, q in zip(params, twin.param_groups[0]["params"], strict=True):
        assert p.data_ptr() != q.data_ptr()
        assert torch.equal(p, q)
        assert len(optimizer.state[p]) > 1
        assert list(optimizer.state[p]) == list(twin.state[q])
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, twin.state[q][key])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "options"), ALL)
def test_masters_survive(name: str, options: dict[str, Any], dtype: Any) -> None:
    """State of float32 isn't rounded by loading, as PyTorch's load_state_dict does, so the bits go on."""

    def train(interrupted: bool) -> tuple[Any, dict[str, Any]]:
        p = torch.linspace(-1, 1, 35).reshape(5, 7).to(dtype)
        optimizer = getattr(ours, name)([p], **options, master=True, average=0.9)
        for t in range(6):
            if t == 3 and interrupted:
                saved = through_file(optimizer.state_dict())
                optimizer = getattr(ours, name)([p], **options, master=True, average=0.9)
                optimizer.load_state_dict(saved)
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(t)).to(dtype)
            optimizer.step()
        return p, optimizer.state[p]

    p, state = train(interrupted=True)
    expected_p, expected = train(interrupted=False)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert torch.equal(p, expected_p)
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
    assert torch.equal(p, state["master"].to(dtype))


@pytest.mark.parametrize(("name", "options"), ALL)
def test_state_of_another_type_is_converted(name: str, options: dict[str, Any]) -> None:
    """A checkpoint of a float64 model goes on in a float32 model, parameters without axes included."""

    def params(dtype: Any) -> list[Any]:
        made = [torch.full((3, 2), 0.5, dtype=dtype), torch.full((), 0.5, dtype=dtype)]
        for p in made:
            p.grad = torch.ones_like(p)
        return made

    wide = getattr(torch.optim, name)(params(torch.float64), **options)
    wide.step()
    optimizers = [getattr(module, name)(params(torch.float32), **options) for module in (ours, torch.optim)]
    for optimizer in optimizers:
        optimizer.load_state_dict(wide.state_dict())
        optimizer.step()
    mine, theirs = ([*optimizer.state.values()] for optimizer in optimizers)
    for of_mine, of_theirs in zip(mine, theirs, strict=True):
        assert {key: value.dtype for key, value in of_mine.items()} == {k: v.dtype for k, v in of_theirs.items()}


def test_hooks_of_loading_see_and_change_what_is_loaded() -> None:
    """State that a hook puts in place of the given one is what is loaded, float32 state of bfloat16 parameters, too."""
    p = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    p.grad = torch.ones_like(p)
    optimizer = ours.Adam([p], master=True)
    optimizer.step()
    precise = torch.tensor([1 + 2**-20, 1.0, 1.0])
    later = torch.tensor([1 + 2**-21, 1.0, 1.0])

    def renumber(_: Any, given: dict[str, Any]) -> dict[str, Any]:
        (group,) = given["param_groups"]
        state = {**given["state"]["weight"], "exp_avg": precise}
        return {"state": {0: state}, "param_groups": [{**group, "params": [0]}]}

    given = optimizer.state_dict()
    given = {"state": {"weight": given["state"][0]}, "param_groups": given["param_groups"]}
    given["param_groups"][0]["params"] = ["weight", "of another model"]
    optimizer.register_load_state_dict_pre_hook(renumber)
    optimizer.load_state_dict(given)
    assert torch.equal(optimizer.state[p]["exp_avg"], precise)
    optimizer.register_load_state_dict_post_hook(lambda loaded: loaded.state[p].update(exp_avg=later))
    optimizer.load_state_dict(given)
    assert torch.equal(optimizer.state[p]["exp_avg"], later)
