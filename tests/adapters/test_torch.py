"""PyTorch as a second opinion: all options that both have."""

from functools import partial
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")

# name: ours, theirs
PAIRS: dict[str, tuple[Any, Any]] = {
    "SGD": (lambda: fs.SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "SGD L2": (lambda: fs.SGD(0.1, weight_decay=0.2), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.2)),
    "Momentum": (
        lambda: fs.Momentum(0.1, 0.8, lr_in_velocity=False),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.8),
    ),
    "Momentum L2": (
        lambda: fs.Momentum(0.1, 0.8, lr_in_velocity=False, weight_decay=0.2),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, weight_decay=0.2),
    ),
    "Momentum, lr in v": (lambda: fs.Momentum(0.1, 0.8), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8)),
    "Nesterov": (lambda: fs.Nesterov(0.1, 0.8), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True)),
    "Nesterov L2": (
        lambda: fs.Nesterov(0.1, 0.8, weight_decay=0.2),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.2),
    ),
    "AdaGrad": (lambda: fs.AdaGrad(0.1, 1e-3), lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-3)),
    "AdaGrad L2": (
        lambda: fs.AdaGrad(0.1, 1e-3, weight_decay=0.2),
        lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-3, weight_decay=0.2),
    ),
    "RMSProp": (lambda: fs.RMSProp(0.1, 0.9, 1e-3), lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.9, eps=1e-3)),
    "RMSProp L2": (
        lambda: fs.RMSProp(0.1, 0.9, 1e-3, weight_decay=0.2),
        lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.9, eps=1e-3, weight_decay=0.2),
    ),
    "Adam": (
        lambda: fs.Adam(0.1, 0.8, 0.95, 1e-3),
        lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.95), eps=1e-3),
    ),
    "Adam L2": (
        lambda: fs.Adam(0.1, 0.8, 0.95, 1e-3, weight_decay=0.2),
        lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2),
    ),
    "AdamW": (
        lambda: fs.AdamW(0.1, 0.8, 0.95, 1e-3, weight_decay=0.2),
        lambda p: torch.optim.AdamW(p, 0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2),
    ),
    "Adafactor": (lambda: fs.Adafactor(eps1=None, eps1_as_floor=True), lambda p: torch.optim.Adafactor(p)),
    "Adafactor decay": (
        lambda: fs.Adafactor(2.0, 0.0, 0.5, 0.5, 0.9, 2.0, eps1_as_floor=True, weight_decay=0.2),
        lambda p: torch.optim.Adafactor(p, 2.0, -0.5, (0.5, 0.9), 2.0, weight_decay=0.2),
    ),
}

# Rules that have the same arguments on both sides but for their names.
SAME: dict[str, tuple[Any, Any]] = {
    "SGD": (fs.SGD, torch.optim.SGD),
    "SGD, momentum": (partial(fs.SGD, momentum=0.8), partial(torch.optim.SGD, momentum=0.8)),
    "SGD, dampening": (
        partial(fs.SGD, momentum=0.8, dampening=0.3),
        partial(torch.optim.SGD, momentum=0.8, dampening=0.3),
    ),
    "SGD, nesterov": (
        partial(fs.SGD, momentum=0.8, nesterov=True),
        partial(torch.optim.SGD, momentum=0.8, nesterov=True),
    ),
    "ASGD": (fs.ASGD, torch.optim.ASGD),
    "ASGD, averaging": (
        partial(fs.ASGD, lambd=0.01, alpha=0.6, t0=30),
        partial(torch.optim.ASGD, lambd=0.01, alpha=0.6, t0=30),
    ),
    "Rprop": (fs.Rprop, torch.optim.Rprop),
    "Rprop, limits": (
        partial(fs.Rprop, eta_minus=0.3, eta_plus=1.5, step_min=0.01, step_max=0.05),
        partial(torch.optim.Rprop, etas=(0.3, 1.5), step_sizes=(0.01, 0.05)),
    ),
    "AdaGrad": (
        partial(fs.AdaGrad, eps=1e-3, initial_accumulator=0.2),
        partial(torch.optim.Adagrad, eps=1e-3, initial_accumulator_value=0.2),
    ),
    "Adadelta": (partial(fs.Adadelta, rho=0.8, eps=1e-3), partial(torch.optim.Adadelta, rho=0.8, eps=1e-3)),
    "RMSProp, centered": (
        partial(fs.RMSProp, decay_rate=0.9, eps=1e-3, centered=True),
        partial(torch.optim.RMSprop, alpha=0.9, eps=1e-3, centered=True),
    ),
    "RMSProp, momentum": (
        partial(fs.RMSProp, decay_rate=0.9, eps=1e-3, momentum=0.8),
        partial(torch.optim.RMSprop, alpha=0.9, eps=1e-3, momentum=0.8),
    ),
    "RMSProp, centered, momentum": (
        partial(fs.RMSProp, decay_rate=0.9, eps=1e-3, momentum=0.8, centered=True),
        partial(torch.optim.RMSprop, alpha=0.9, eps=1e-3, momentum=0.8, centered=True),
    ),
    "Adam": (fs.Adam, torch.optim.Adam),
    "Adam, amsgrad": (
        partial(fs.Adam, beta2=0.9, eps=1e-3, amsgrad=True),
        partial(torch.optim.Adam, betas=(0.9, 0.9), eps=1e-3, amsgrad=True),
    ),
    "AdamW, amsgrad": (
        partial(fs.AdamW, beta2=0.9, eps=1e-3, amsgrad=True),
        partial(torch.optim.AdamW, betas=(0.9, 0.9), eps=1e-3, amsgrad=True),
    ),
    "Adamax": (partial(fs.Adamax, eps=1e-3), partial(torch.optim.Adamax, eps=1e-3)),
    "RAdam": (partial(fs.RAdam, beta2=0.99, eps=1e-3), partial(torch.optim.RAdam, betas=(0.9, 0.99), eps=1e-3)),
    "RAdam, decoupled": (
        partial(fs.RAdam, beta2=0.99, decoupled=True),
        partial(torch.optim.RAdam, betas=(0.9, 0.99), decoupled_weight_decay=True),
    ),
    "NAdam": (partial(fs.NAdam, eps=1e-3), partial(torch.optim.NAdam, eps=1e-3)),
    "NAdam, decoupled": (
        partial(fs.NAdam, momentum_decay=0.1, decoupled=True),
        partial(torch.optim.NAdam, momentum_decay=0.1, decoupled_weight_decay=True),
    ),
}


# PyTorch's Rprop has no weight decay.
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in SAME for options in ({}, {"weight_decay": 0.2})[: 1 if "Rprop" in name else 2]],
)
@pytest.mark.usefixtures("numbers_in_double")
def test_a_hundred_steps(name: str, options: dict[str, float], dtype: Any, rng: np.random.Generator) -> None:
    make_ours, make_theirs = SAME[name]
    steps = 100
    w = rng.standard_normal((20, 30)).astype(dtype)
    theirs_w = torch.tensor(w.copy(), requires_grad=True)
    ours, theirs = make_ours(lr=0.05, **options), make_theirs([theirs_w], lr=0.05, **options)
    for _ in range(steps):
        g = rng.standard_normal(w.shape).astype(dtype)
        ours.update(w, g)
        theirs_w.grad = torch.from_numpy(g.copy())
        theirs.step()
    # Each step makes about ten roundings of numbers of size 1 on either side.
    tolerance = 20 * steps * np.finfo(dtype).eps
    np.testing.assert_allclose(w, theirs_w.detach().numpy(), rtol=tolerance, atol=tolerance)


# PyTorch's sign of NaN is 0, so its Rprop goes on.
@pytest.mark.parametrize("name", [name for name in SAME if "Rprop" not in name])
@pytest.mark.usefixtures("numbers_in_double")
def test_nan_and_zeros(name: str, dtype: Any) -> None:
    make_ours, make_theirs = SAME[name]
    w = np.ones(5, dtype)
    theirs_w = torch.tensor(w.copy(), requires_grad=True)
    ours, theirs = make_ours(lr=0.05), make_theirs([theirs_w], lr=0.05)
    for first in (np.nan, 1.0, 1.0):
        g = np.array([first, 0.0, -0.0, 2.0, np.finfo(dtype).tiny], dtype)
        ours.update(w, g)
        theirs_w.grad = torch.from_numpy(g.copy())
        theirs.step()
    assert np.isnan(w[0])
    tolerance = 20 * 3 * np.finfo(dtype).eps  # as above
    np.testing.assert_allclose(w, theirs_w.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", PAIRS)
def test_optimizers(name: str, dtype: Any, rng: np.random.Generator) -> None:
    make_ours, make_theirs = PAIRS[name]
    steps = 20
    w = rng.standard_normal((50, 40)).astype(dtype)
    theirs_w = torch.tensor(w.copy(), requires_grad=True)
    ours, theirs = make_ours(), make_theirs([theirs_w])
    for _ in range(steps):
        g = rng.standard_normal(w.shape).astype(dtype)
        ours.update(w, g)
        theirs_w.grad = torch.from_numpy(g.copy())
        theirs.step()
    # Each step makes about ten roundings of numbers of size 1 on either side.
    tolerance = 20 * steps * np.finfo(dtype).eps
    np.testing.assert_allclose(w, theirs_w.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_schedule(rng: np.random.Generator) -> None:
    w = rng.standard_normal(100)
    theirs_w = torch.tensor(w.copy(), requires_grad=True)
    ours = fs.Adam(lambda n: 0.1 * 0.5 ** (n // 3))
    theirs = torch.optim.Adam([theirs_w], 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(theirs, 3, 0.5)
    for _ in range(10):
        g = rng.standard_normal(100)
        ours.update(w, g)
        theirs_w.grad = torch.from_numpy(g.copy())
        theirs.step()
        scheduler.step()
    np.testing.assert_allclose(w, theirs_w.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(32, 7), (8, 5, 9), (4, 6, 10, 11)], ids=str)
def test_batch_norm(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    channels = shape[1]
    ours = fs.BatchNorm(channels, eps=1e-3, decay=0.7, dtype=dtype, unbiased_running_var=True)
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    theirs = kind(channels, eps=1e-3, momentum=0.3, dtype=torch.from_numpy(ours.gamma).dtype)
    ours.gamma[...], ours.beta[...] = rng.standard_normal(channels), rng.standard_normal(channels)
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(ours.gamma))
        theirs.bias.copy_(torch.from_numpy(ours.beta))
    # Sums of up to 500 numbers of size up to 25, the product of a gradient and a normalised value, in another order.
    close = {"rtol": 500 * np.finfo(dtype).eps, "atol": 500 * 25 * np.finfo(dtype).eps}
    for _ in range(3):
        x, dout = (rng.standard_normal(shape).astype(dtype) + 2 for _ in range(2))
        tensor = torch.tensor(x, requires_grad=True)
        y = theirs(tensor)
        theirs.zero_grad()
        y.backward(torch.from_numpy(dout))
        np.testing.assert_allclose(ours.forward(x), y.detach().numpy(), **close)
        np.testing.assert_allclose(ours.backward(dout), tensor.grad.numpy(), **close)
        np.testing.assert_allclose(ours.dgamma, theirs.weight.grad.numpy(), **close)  # type: ignore[arg-type]
        np.testing.assert_allclose(ours.dbeta, theirs.bias.grad.numpy(), **close)  # type: ignore[arg-type]
        np.testing.assert_allclose(ours.running_mean, theirs.running_mean.numpy(), **close)
        np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy(), **close)
    theirs.eval()
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.forward(x, training=False), expected, **close)
