"""Other libraries' optimizers beside the dialects of fusedstep that are to give their numbers.

A cell is a function of a dialect and the options that it is tried with, which both libraries get; its bound is how far
the two may be apart, in units in the last place of the largest weight of an array.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fusedstep as fs

# Before the libraries are imported.
os.environ.setdefault("KERAS_BACKEND", "numpy")
os.environ.setdefault("JAX_ENABLE_X64", "1")

STEPS = 100
SHAPES: dict[str, tuple[int, ...]] = {"matrix": (12, 7), "vector": (9,), "still": (6, 5), "paused": (4, 3)}
PAUSE = range(20, 40)  # updates in which "paused" has no gradient
Arrays = dict[str, NDArray[Any]]
Step = Callable[[Arrays, float], Arrays]


def schedule(updates: int) -> float:
    return 0.02 / (1 + 0.1 * updates)


@dataclass(frozen=True)
class Cell:
    dialect: str
    name: str
    bounds: tuple[int, ...]  # for each type of the peer; 0: the same bits
    options: tuple[dict[str, Any], ...] = field(default=({},))
    pauses: bool = True  # a parameter may be without gradient now and then
    matrices: bool = False  # it takes nothing else

    @property
    def id(self) -> str:
        return f"{self.dialect}.{self.name}"


def torch_step(name: str, options: dict[str, Any], arrays: Arrays, lr: float) -> Step:
    torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
    params = {key: torch.tensor(array, requires_grad=True) for key, array in arrays.items()}
    optimizer = getattr(torch.optim, name)(list(params.values()), lr, **options)

    def step(grads: Arrays, lr: float) -> Arrays:
        optimizer.param_groups[0]["lr"] = lr
        for key, param in params.items():
            param.grad = torch.from_numpy(grads[key]) if key in grads else None
        optimizer.step()
        return {key: param.detach().numpy() for key, param in params.items()}

    return step


def keras_step(name: str, options: dict[str, Any], arrays: Arrays, lr: float) -> Step:
    keras = pytest.importorskip("keras", reason="compares with Keras where that is installed")
    dtype = str(next(iter(arrays.values())).dtype)
    keras.config.set_floatx(dtype)
    variables = {key: keras.Variable(array, dtype=dtype) for key, array in arrays.items()}
    optimizer = getattr(keras.optimizers, name)(lr, **options)
    optimizer.build(list(variables.values()))

    def step(grads: Arrays, lr: float) -> Arrays:
        optimizer.learning_rate = lr
        optimizer.apply([grads.get(key) for key in variables], list(variables.values()))
        return {key: keras.ops.convert_to_numpy(variable) for key, variable in variables.items()}

    return step


def optax_step(name: str, options: dict[str, Any], arrays: Arrays, lr: float) -> Step:
    optax = pytest.importorskip("optax", reason="compares with optax where that is installed")
    import jax

    make: Any = getattr(optax, name, None) or getattr(optax.contrib, name)
    optimizer: Any = make(schedule, **options)
    params = {key: jax.numpy.asarray(array) for key, array in arrays.items()}
    state = optimizer.init(params)
    update: Any = jax.jit(optimizer.update)

    def step(grads: Arrays, lr: float) -> Arrays:
        nonlocal params, state
        updates, state = update({key: jax.numpy.asarray(g) for key, g in grads.items()}, state, params)
        params = optax.apply_updates(params, updates)
        return {key: np.asarray(param) for key, param in params.items()}

    return step


def sklearn_step(name: str, options: dict[str, Any], arrays: Arrays, lr: float) -> Step:
    solvers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers", reason="compares with scikit-learn")
    params = {key: array.copy() for key, array in arrays.items()}
    optimizer = getattr(solvers, name)(list(params.values()), lr, **options)

    def step(grads: Arrays, lr: float) -> Arrays:
        optimizer.learning_rate = optimizer.learning_rate_init = lr
        optimizer.update_params(list(params.values()), [grads[key] for key in params])
        return params

    return step


def thinc_step(name: str, options: dict[str, Any], arrays: Arrays, lr: float) -> Step:
    optimizers = pytest.importorskip("thinc.optimizers", reason="compares with thinc where that is installed")
    from thinc.schedules import constant

    optimizer: Any = getattr(optimizers, name)(lr, grad_clip=0.0, use_averages=False, **options)
    params = {key: array.copy() for key, array in arrays.items()}

    def step(grads: Arrays, lr: float) -> Arrays:
        optimizer.learn_rate = constant(lr)
        for key, g in grads.items():
            params[key], _ = optimizer((0, key), params[key], g)
        return params

    return step


@dataclass(frozen=True)
class Peer:
    title: str
    step: Callable[..., Step]
    dtypes: tuple[str, ...] = ("float32", "float64")
    pauses: bool = True  # a parameter may be without gradient


PEERS = {
    "torch": Peer("PyTorch", torch_step),
    "keras": Peer("Keras", keras_step, dtypes=("float32",)),  # which it computes in whatever the type
    "optax": Peer("optax", optax_step, pauses=False),
    "sklearn": Peer("scikit-learn", sklearn_step, pauses=False),
    "thinc": Peer("thinc", thinc_step, dtypes=("float32",)),
}


def gradients(rng: np.random.Generator, arrays: Arrays, update: int, pauses: bool) -> Arrays:
    """Of sizes from 1e-3 to 1; "still" has zeros, and "paused" has none now and then."""
    size = 10.0 ** rng.uniform(-3, 0)
    grads = {key: (size * rng.standard_normal(w.shape)).astype(w.dtype) for key, w in arrays.items()}
    grads["still"][...] = 0
    if pauses and update in PAUSE:
        del grads["paused"]
    return grads


def distance(cell: Cell, options: dict[str, Any], dtype: str, seed: int = 0) -> float:
    """How far the two are apart after STEPS steps, or infinity if one has a NaN."""
    peer = PEERS[cell.dialect]
    rng = np.random.default_rng(seed)
    shapes = {key: shape for key, shape in SHAPES.items() if len(shape) == 2 or not cell.matrices}
    ours: Arrays = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    theirs = {key: w.copy() for key, w in ours.items()}
    optimizer = getattr(getattr(fs.dialects, cell.dialect), cell.name)(schedule, **options)
    step = peer.step(cell.name, options, theirs, schedule(0))
    for update in range(STEPS):
        grads = gradients(rng, ours, update, cell.pauses and peer.pauses)
        given: dict[str, Any] = {key: grads[key].copy() if key in grads else None for key in ours}
        optimizer.update(ours, given)
        theirs = step(grads, schedule(update))
    most = 0.0
    for key, w in ours.items():
        right = theirs[key].astype("float64")
        unit = np.finfo(dtype).eps * max(np.abs(right).max(), np.finfo(dtype).tiny)
        apart = float(np.abs(w - right).max() / unit)
        most = max(most, apart if math.isfinite(apart) else math.inf)
    return most


DECAY: tuple[dict[str, Any], ...] = ({}, {"weight_decay": 0.1})
THINC_DECAY: tuple[dict[str, Any], ...] = ({}, {"L2": 0.1}, {"L2": 0.1, "L2_is_weight_decay": False})
CELLS = (
    Cell("torch", "SGD", (4, 4), (*DECAY, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.8, "nesterov": True})),
    Cell("torch", "Adam", (8, 8), (*DECAY, {"amsgrad": True}, {"betas": (0.8, 0.95), "eps": 1e-3})),
    Cell("torch", "AdamW", (4, 8), ({}, {"amsgrad": True, "weight_decay": 0.3})),
    Cell("torch", "Adagrad", (4, 4), (*DECAY, {"initial_accumulator_value": 0.1, "eps": 1e-3})),
    Cell("torch", "RMSprop", (8, 8), (*DECAY, {"momentum": 0.9}, {"centered": True, "momentum": 0.5, "eps": 1e-3})),
    Cell("torch", "Adadelta", (4, 4), (*DECAY, {"rho": 0.5})),
    Cell("torch", "Adamax", (4, 4), DECAY),
    Cell("torch", "NAdam", (64, 2**23), (*DECAY, {"decoupled_weight_decay": True, "weight_decay": 0.1})),
    Cell("torch", "RAdam", (4, 4), (*DECAY, {"decoupled_weight_decay": True, "weight_decay": 0.1})),
    Cell("torch", "Rprop", (0, 0), ({}, {"etas": (0.4, 1.1), "step_sizes": (1e-4, 1e-2)})),
    Cell("torch", "ASGD", (4, 2**25), (*DECAY, {"lambd": 0.1, "t0": 50.0})),
    Cell("torch", "Adafactor", (4, 4), (*DECAY, {"d": 1.5, "eps": (1e-8, 1e-2), "beta2_decay": -0.5})),
    Cell("torch", "Muon", (2**15, 2**44), ({}, {"adjust_lr_fn": "match_rms_adamw", "nesterov": False}), matrices=True),
    Cell("keras", "SGD", (32,), (*DECAY, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True})),
    Cell("keras", "Adam", (32,), (*DECAY, {"amsgrad": True})),
    Cell("keras", "AdamW", (64,), ({}, {"amsgrad": True})),
    Cell("keras", "Adagrad", (32,), DECAY),
    Cell("keras", "RMSprop", (32,), (*DECAY, {"momentum": 0.9}, {"centered": True, "epsilon": 1e-3})),
    Cell("keras", "Adadelta", (64,), DECAY),
    Cell("keras", "Adamax", (32,), DECAY),
    Cell("keras", "Nadam", (32,), DECAY),
    Cell(
        "keras",
        "Ftrl",
        (16,),
        (*DECAY, {"l1_regularization_strength": 0.1, "l2_regularization_strength": 0.2, "beta": 0.1}),
    ),
    Cell("keras", "Lion", (32,), DECAY),
    Cell("keras", "Lamb", (32,), DECAY),
    Cell("keras", "Adafactor", (32,), (*DECAY, {"relative_step": False, "clip_threshold": 0.5})),
    Cell("keras", "ScheduleFreeAdamW", (64,), ({}, {"warmup_steps": 10}), pauses=False),
    Cell("keras", "Muon", (32,), ({}, {"nesterov": False, "weight_decay": 0.1}), matrices=True),
    Cell("optax", "sgd", (4, 8), ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True})),
    Cell("optax", "adam", (4, 8), ({}, {"eps": 0.0, "eps_root": 1e-6})),
    Cell("optax", "adamw", (64, 64), ({}, {"weight_decay": 0.1})),
    Cell("optax", "nadam", (4, 8)),
    Cell("optax", "nadamw", (64, 64), ({"weight_decay": 0.1},)),
    Cell("optax", "amsgrad", (4, 4)),
    Cell("optax", "adamax", (4, 4)),
    Cell("optax", "adamaxw", (32, 32), ({"weight_decay": 0.1},)),
    Cell("optax", "radam", (4, 4), ({}, {"threshold": 4.0})),
    Cell("optax", "adagrad", (4, 4)),
    Cell("optax", "adadelta", (4, 4), DECAY),
    Cell(
        "optax",
        "rmsprop",
        (16, 8),
        ({}, {"eps_in_sqrt": False, "initial_scale": 0.1}, {"momentum": 0.9}, {"centered": True, "eps": 1e-3}),
    ),
    Cell("optax", "lion", (64, 32), ({}, {"weight_decay": 0.1})),
    Cell("optax", "sign_sgd", (0, 4)),
    Cell("optax", "signum", (0, 4)),
    Cell("optax", "adabelief", (8, 8), ({}, {"eps": 1e-8})),
    Cell("optax", "yogi", (4, 4)),
    Cell("optax", "adan", (32, 64), DECAY),
    Cell("optax", "ademamix", (64, 32), DECAY),
    Cell("optax", "adopt", (16, 8), ({}, {"use_clipping": False})),
    Cell("optax", "lamb", (8, 8), DECAY),
    Cell("optax", "lars", (4, 4), (*DECAY, {"nesterov": True})),
    Cell("sklearn", "SGDOptimizer", (32, 64), ({}, {"nesterov": False})),
    Cell("sklearn", "AdamOptimizer", (4, 4)),
    Cell("thinc", "Adam", (64,), THINC_DECAY),
    Cell("thinc", "SGD", (0,), THINC_DECAY),
)


def trials() -> Iterator[Any]:
    for cell in CELLS:
        for options in cell.options:
            for dtype in PEERS[cell.dialect].dtypes:
                text = ",".join(f"{name}={value}" for name, value in options.items())
                yield pytest.param(cell, options, dtype, id=f"{cell.id}({text})-{dtype}")
