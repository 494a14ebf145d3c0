"""PyTorch's own database of optimizer inputs: each of its classes with our step, against that class itself."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import fusedstep as fs

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
pytest.importorskip("expecttest", reason="PyTorch's database needs it")
ours = pytest.importorskip("fusedstep.torch")
database = pytest.importorskip("torch.testing._internal.common_optimizers")

STEPS = 10
SHAPES = ((4, 5), (7,), (), (2, 3, 3))  # none is empty, which PyTorch's Adafactor can't step
INFOS = [info for info in database.optim_db if hasattr(ours, info.name)]
CLASSES = [pytest.param(info, id=info.name) for info in INFOS]
DTYPES = [torch.float32, torch.float64, torch.complex64]

# Options that the database leaves at values that a few small steps don't show.
MORE: dict[str, dict[str, Any]] = {
    "ASGD": {"t0": 3, "alpha": 0.5, "lambd": 0.1},
    "Adafactor": {"eps": (0.5, 0.9), "lr": 0.5},
    "Adagrad": {"eps": 0.1, "lr_decay": 0.1},
    "Adam": {"eps": 0.1, "betas": (0.5, 0.75), "amsgrad": True},
    "AdamW": {"eps": 0.1, "betas": (0.0, 0.75)},
    "Adamax": {"eps": 0.1, "betas": (0.5, 0.75)},
    "NAdam": {"eps": 0.1, "betas": (0.5, 0.75), "momentum_decay": 0.5},
    "RAdam": {"eps": 0.1, "betas": (0.5, 0.75)},
    "RMSprop": {"eps": 0.1, "alpha": 0.5, "momentum": 0.5},
    "Rprop": {"lr": 0.1, "step_sizes": (0.05, 0.2)},
}


def inputs(info: Any) -> list[Any]:
    given = list(database._get_optim_inputs_including_global_cliquey_kwargs("cpu", None, info))
    if info.name in MORE:
        given.append(database.OptimizerInput(params=None, kwargs=MORE[info.name], desc="more"))
    return given


CASES = [
    pytest.param(info, given.kwargs, dtype, id=f"{info.name}, {given.desc}, {str(dtype).removeprefix('torch.')}")
    for info in INFOS
    for given in inputs(info)
    for dtype in DTYPES
    if not dtype.is_complex or (info.supports_complex and not given.kwargs.get("fused"))
]


def parameters(dtype: Any) -> list[Any]:
    numbers = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=numbers, dtype=dtype) for shape in SHAPES]


def train(optimizer: Any, params: list[Any], steps: int, after: Callable[[Any], None] = lambda loss: None) -> None:
    """Steps with gradients of a fixed seed; each parameter has none in a third of the steps, but for the first."""
    numbers = torch.Generator().manual_seed(2)
    for t in range(steps):
        for i, p in enumerate(params):
            grad = torch.randn(p.shape, generator=numbers, dtype=p.dtype)
            p.grad = None if t > 0 and (t + i) % 3 == 2 else grad
        optimizer.step()
        after(torch.tensor(1.0 + t))


def assert_close(actual: Any, expected: Any, ulps: float) -> None:
    """Within so many units in the last place of the largest element, of real and imaginary parts alone."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.is_complex():
        actual, expected = torch.view_as_real(actual), torch.view_as_real(expected)
    error = (actual - expected).abs().max()
    limit = ulps * torch.finfo(expected.dtype).eps * expected.abs().max()
    assert error <= limit, f"{error / limit * ulps:.3g} ulps, expected at most {ulps:.3g}"


def assert_same_training(mine: Any, theirs: Any, params: list[Any], their_params: list[Any], steps: int) -> None:
    """Parameters and state agree, and keys have the same order.

    Of the roundings of a step, the last one of each tensor is of a number as large as its largest, by half a unit on
    either side; those before it are of terms that are smaller, and give as much again together. No rule makes an
    earlier error larger, so that n steps differ by at most 2 n units.
    """
    ulps = 2 * steps
    for p, q in zip(params, their_params, strict=True):
        assert_close(p, q, ulps)
        mine_of, theirs_of = mine.state.get(p, {}), theirs.state.get(q, {})
        assert list(mine_of) == list(theirs_of)
        for key, expected in theirs_of.items():
            if torch.is_tensor(expected):
                assert mine_of[key].layout == expected.layout
                assert mine_of[key].stride() == expected.stride()
                assert_close(mine_of[key], expected, ulps)
            else:
                assert mine_of[key] == expected
    strip = [{k: v for k, v in group.items() if k != "params"} for group in mine.param_groups]
    assert strip == [{k: v for k, v in group.items() if k != "params"} for group in theirs.param_groups]


@pytest.mark.parametrize(("info", "keywords", "dtype"), CASES)
def test_parameters_and_state(info: Any, keywords: dict[str, Any], dtype: Any) -> None:
    params, their_params = parameters(dtype), parameters(dtype)
    strict = not keywords.get("differentiable")
    mine = getattr(ours, info.name)(params, **keywords, strict=strict)
    theirs = info.optim_cls(their_params, **keywords)
    assert isinstance(mine, info.optim_cls)
    train(mine, params, STEPS)
    train(theirs, their_params, STEPS)
    assert_same_training(mine, theirs, params, their_params, STEPS)


@pytest.mark.parametrize(
    ("info", "make_schedulers"),
    [
        pytest.param(info, schedulers, id=f"{info.name}-{i}")
        for info in INFOS
        for i, schedulers in enumerate(info.scheduler_inputs)
    ],
)
def test_schedulers(info: Any, make_schedulers: list[Callable[[Any], Any]]) -> None:
    def run(make: Any, params: list[Any]) -> Any:
        optimizer = make(params, lr=0.1)
        schedulers = [scheduler(optimizer) for scheduler in make_schedulers]

        def after(loss: Any) -> None:
            for scheduler in schedulers:
                needs_loss = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(loss) if needs_loss else scheduler.step()

        train(optimizer, params, 25, after)
        return optimizer

    params, their_params = parameters(torch.float64), parameters(torch.float64)
    mine = run(getattr(ours, info.name), params)
    theirs = run(info.optim_cls, their_params)
    assert mine.param_groups[0]["lr"] != 0.1
    assert_same_training(mine, theirs, params, their_params, 25)


def error_of(call: Callable[[], Any]) -> tuple[type[BaseException], str] | None:
    try:
        call()
    except Exception as error:  # whatever it is, both must raise it
        return type(error), str(error)
    return None


@pytest.mark.parametrize("info", [pytest.param(info, id=info.name) for info in INFOS if info.has_capturable_arg])
def test_capturable(info: Any) -> None:
    def step(make: Any) -> None:
        params = parameters(torch.float32)
        train(make(params, capturable=True), params, 1)

    expected = error_of(lambda: step(info.optim_cls))
    assert expected is not None
    assert error_of(lambda: step(getattr(ours, info.name))) == expected


@pytest.mark.parametrize(
    ("info", "case"),
    [
        pytest.param(info, case, id=f"{info.name}, {case.optimizer_error_input.desc}")
        for info in INFOS
        for case in info.optim_error_inputs_func("cpu", torch.float32)
    ],
)
def test_errors(info: Any, case: Any) -> None:
    at_step = case.error_on is database.OptimizerErrorEnum.STEP_ERROR
    given = case.optimizer_error_input

    def fail(make: Any) -> Any:
        params = parameters(torch.float32) if given.params is None else given.params
        if not at_step:
            return error_of(lambda: make(params, **given.kwargs))
        optimizer = make(params, **given.kwargs)
        return error_of(optimizer.step)

    expected = fail(info.optim_cls)
    assert expected is not None
    assert expected[0] is case.error_type
    assert fail(getattr(ours, info.name)) == expected


@pytest.mark.parametrize("info", CLASSES)
def test_signature(info: Any) -> None:
    theirs = list(inspect.signature(info.optim_cls).parameters.values())
    mine = list(inspect.signature(getattr(ours, info.name)).parameters.values())
    assert mine[: len(theirs)] == theirs
    extra = {each.name: each.default for each in mine[len(theirs) :]}
    assert extra == {
        "max_norm": None,
        "average": None,
        "rounding": "nearest",
        "seed": 0,
        "master": False,
        "strict": False,
    }
    assert {each.kind for each in mine[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("info", CLASSES)
def test_threads(info: Any) -> None:
    """The bits are the same in one thread and several."""
    results = []
    for threads in (1, 3):
        fs.set_num_threads(threads)
        p = torch.linspace(-1, 1, 100_003)
        train(getattr(ours, info.name)([p]), [p], 2)
        results.append(p)
    assert torch.equal(*results)
    assert not torch.equal(p, torch.linspace(-1, 1, 100_003))
