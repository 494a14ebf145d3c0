"""Other libraries' updates, one small adapter each. None of them has to be installed."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.baselines import FIRST_EPS, Stepper
from benchmarks.workloads import BETA1, BETA2, DECAY, EPS, LR, MOMENTUM, WEIGHT_DECAY, Array

BOTH = ("float32", "float64")


@dataclass(frozen=True)
class Peer:
    """A library as a row.

    Attributes:
        package: What has to be installed.
        rules: The rules it has.
        dtypes: The types it has them for.
        threads: "any" number that is asked for, "one", or "all" whatever is asked for.
        make: Its stepper.
    """

    package: str
    rules: tuple[str, ...]
    dtypes: tuple[str, ...]
    threads: str
    make: Callable[[str, list[Array], list[Array]], Stepper]

    def has(self, rule: str, dtype: str, threads: int, largest: bool) -> bool:
        """Whether it can be a row of such a group."""
        fits = {"any": True, "one": threads == 1, "all": largest}[self.threads]
        return fits and rule in self.rules and dtype in self.dtypes

    def missing(self) -> str | None:
        """Why it can't be measured here, if it can't."""
        return missing(self.package)

    def set_threads(self, threads: int) -> None:
        """Sets the threads of a peer that is given "any" number; the others have those that they have."""
        if self.threads == "any" and self.missing() is None:
            set_torch_threads(threads)


def set_torch_threads(threads: int) -> None:
    """Sets the threads of PyTorch, which has to be installed."""
    importlib.import_module("torch").set_num_threads(threads)


@cache
def missing(package: str) -> str | None:
    """Why a package can't be measured here, if it can't."""
    if any(importlib.util.find_spec(name) is None for name in package.split("+")):
        return f"{package} is not installed"
    if package != "deepspeed":
        return None
    try:  # it compiles its kernels at first use
        deepspeed_adam = importlib.import_module("deepspeed.ops.op_builder").CPUAdamBuilder
        deepspeed_adam().load(verbose=False)
    except Exception as error:
        return f"deepspeed is installed, but its CPUAdam doesn't build: {type(error).__name__}"
    return None


@cache
def versions() -> list[str]:
    """The packages, with their versions or that they are missing."""
    packages = dict.fromkeys(name for peer in PEERS.values() for name in peer.package.split("+"))
    return [
        f"{name} {metadata.version(name)}" if importlib.util.find_spec(name) else f"{name} missing" for name in packages
    ]


def torch_adam() -> dict[str, Any]:
    """The options of PyTorch's Adam."""
    return {"betas": (BETA1, BETA2), "eps": EPS}


def _torch_options(rule: str) -> tuple[str, dict[str, Any]]:
    adam = torch_adam()
    return {
        "SGD": ("SGD", {}),
        "Momentum": ("SGD", {"momentum": MOMENTUM}),
        "Nesterov": ("SGD", {"momentum": MOMENTUM, "nesterov": True}),
        "AdaGrad": ("Adagrad", {"eps": EPS}),
        "RMSProp": ("RMSprop", {"alpha": DECAY, "eps": EPS}),
        "Adam": ("Adam", adam),
        "AdamW": ("AdamW", {**adam, "weight_decay": WEIGHT_DECAY}),
    }[rule]


def torch_parameters(params: list[Array], grads: list[Array]) -> list[Any]:
    """Parameters that require a gradient and have one, and share the arrays' memory."""
    torch = importlib.import_module("torch")
    parameters = []
    for w, g in zip(params, grads, strict=True):
        parameter = torch.nn.Parameter(torch.from_numpy(w))
        parameter.grad = torch.from_numpy(g)
        parameters.append(parameter)
    return parameters


def torch_optimizer(rule: str, parameters: list[Any], **options: Any) -> Any:
    """PyTorch's optimizer of a rule."""
    name, own = _torch_options(rule)
    return getattr(importlib.import_module("torch.optim"), name)(parameters, lr=LR, **own, **options)


def _torch(kind: str) -> Callable[[str, list[Array], list[Array]], Stepper]:
    def make(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
        optimizer = torch_optimizer(rule, torch_parameters(params, grads), **{kind: True})
        return Stepper(optimizer.step, lambda: params)

    return make


def _deepspeed(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    optimizer = importlib.import_module("deepspeed.ops.adam").DeepSpeedCPUAdam(
        torch_parameters(params, grads),
        lr=LR,
        betas=(BETA1, BETA2),
        eps=EPS,
        weight_decay=WEIGHT_DECAY if rule == "AdamW" else 0.0,
        adamw_mode=rule == "AdamW",
    )
    return Stepper(optimizer.step, lambda: params)


def _thinc(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    make = importlib.import_module("thinc.optimizers").Adam
    optimizer = make(LR, beta1=BETA1, beta2=BETA2, eps=FIRST_EPS, grad_clip=0.0, use_averages=False)
    keys = [(i, "W") for i in range(len(params))]
    scratch = [np.empty_like(g) for g in grads]

    def step() -> None:
        # thinc clears the gradient; without the copy, which its time includes, the moments would die away.
        for key, w, g, copy in zip(keys, params, grads, scratch, strict=True):
            np.copyto(copy, g)
            optimizer(key, w, copy)

    return Stepper(step, lambda: params)


def _jax(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    jax.config.update("jax_enable_x64", True)
    adam = {"b1": BETA1, "b2": BETA2, "eps": EPS}
    transform = {
        "SGD": lambda: optax.sgd(LR),
        "Momentum": lambda: optax.sgd(LR, momentum=MOMENTUM),
        "Nesterov": lambda: optax.sgd(LR, momentum=MOMENTUM, nesterov=True),
        "RMSProp": lambda: optax.rmsprop(LR, decay=DECAY, eps=EPS, eps_in_sqrt=False),
        "Adam": lambda: optax.adam(LR, **adam),
        "AdamW": lambda: optax.adamw(LR, **adam, weight_decay=WEIGHT_DECAY),
    }[rule]()

    def update(weights: Any, state: Any, gradients: Any) -> Any:
        updates, state = transform.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    # Copies, as a donated array that shares NumPy's memory would be overwritten.
    weights, gradients = ([jax.numpy.array(a, copy=True) for a in arrays] for arrays in (params, grads))
    now = [weights, transform.init(weights)]
    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step() -> None:
        now[:] = jax.block_until_ready(compiled(*now, gradients))

    return Stepper(step, lambda: [np.asarray(w) for w in now[0]])


@cache
def _numba_adam() -> Any:
    numba = importlib.import_module("numba")

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator]  # a division that may raise is no vector
    def adam(w: Any, g: Any, m: Any, v: Any, step: Any, c1: Any, c2: Any, eps: Any) -> None:
        for i in range(w.size):
            m[i] += c1 * (g[i] - m[i])
            v[i] += c2 * (g[i] * g[i] - v[i])
            w[i] -= step * m[i] / (np.sqrt(v[i]) + eps)

    return adam


def _numba(rule: str, params: list[Array], grads: list[Array]) -> Stepper:
    loop, t = _numba_adam(), params[0].dtype.type
    flat = [(w.reshape(-1), g.reshape(-1), *np.zeros((2, w.size), t)) for w, g in zip(params, grads, strict=True)]
    iterations = [0]

    def step() -> None:
        iterations[0] += 1
        root = float(np.sqrt(1 - BETA2 ** iterations[0]))
        coefficients = (LR * root / (1 - BETA1 ** iterations[0]), 1 - BETA1, 1 - BETA2, EPS * root)
        rounded = [t(c) for c in coefficients]
        for arrays in flat:
            loop(*arrays, *rounded)

    return Stepper(step, lambda: params)


_FUSED = ("SGD", "Momentum", "Nesterov", "AdaGrad", "Adam", "AdamW")
# Its foreach Nesterov adds the velocity to the gradient itself, so no second step would be like the first.
_FOREACH = ("SGD", "Momentum", "AdaGrad", "RMSProp", "Adam", "AdamW")
_JAX = ("SGD", "Momentum", "Nesterov", "RMSProp", "Adam", "AdamW")

PEERS = {
    "PyTorch (fused)": Peer("torch", _FUSED, BOTH, "any", _torch("fused")),
    "PyTorch (foreach)": Peer("torch", _FOREACH, BOTH, "any", _torch("foreach")),
    "thinc": Peer("thinc", ("Adam",), ("float32",), "one", _thinc),
    "JAX + optax": Peer("jax+optax", _JAX, BOTH, "all", _jax),
    "numba": Peer("numba", ("Adam",), BOTH, "one", _numba),
    "DeepSpeed": Peer("deepspeed", ("Adam", "AdamW"), ("float32",), "any", _deepspeed),
}
