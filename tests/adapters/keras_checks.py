"""fusedstep.keras beside Keras' own classes, on one backend: test_keras.py runs it for each."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import fusedstep as fs
import fusedstep.keras
from fusedstep.keras._optimizer import Fused
from keras_trials import (
    BACKEND,
    BOUND,
    CLASSES,
    COMMON,
    SHAPES,
    STEPS,
    assert_close,
    gradients,
    made,
    numbers,
    of_keras,
    trained,
)

# Keras' variables have an __array__ without copy. It warns of variables without gradient, and its Lamb divides by 0.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning"),
    pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning"),
]


@pytest.fixture
def left() -> Iterator[list[str]]:
    """The names of the classes that leave a step to Keras."""
    names: list[str] = []
    own = Fused._step

    def watched(self: Fused, grads: list[Any], variables: list[Any]) -> list[Any] | None:
        gradients = own(self, grads, variables)
        if gradients is not None:
            names.append(type(self).__name__)
        return gradients

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fused, "_step", watched)
        yield names


def trials() -> Iterator[Any]:
    for name, own in CLASSES.items():
        for options in own:
            yield pytest.param(name, options, id=f"{name}-{options}")
        for title, options in COMMON.items():
            if title != "plain":
                yield pytest.param(name, options, id=f"{name}-{title}")


@pytest.mark.parametrize(("name", "options"), list(trials()))
def test_the_numbers_are_those_of_keras(name: str, options: dict[str, Any], left: list[str]) -> None:
    theirs, right = trained(of_keras(name), options)
    ours, found = trained(getattr(fusedstep.keras, name), options)
    assert left == [name] * (name == "ScheduleFreeAdamW") * options.get("gradient_accumulation_steps", 1)
    ignored: tuple[str, ...] = ()
    if name == "Adafactor":  # a product that no step reads
        matrices = [v for v, shape in zip(ours._v, SHAPES.values(), strict=True) if len(shape) > 1]
        ignored = tuple(
            f"{i} of the optimizer" for i, v in enumerate(ours.variables) if any(v is each for each in matrices)
        )
    assert_close(found, right, ignored)
    names = [
        [v.path.removeprefix(each.name) for v in each.variables if v is not getattr(each, "_u_product", None)]
        for each in (ours, theirs)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["Adam", "Muon", "ScheduleFreeAdamW"])
def test_float64(name: str, left: list[str]) -> None:
    _, theirs = trained(of_keras(name), {}, "float64")
    _, ours = trained(getattr(fusedstep.keras, name), {}, "float64")
    assert left == [name] * (name == "ScheduleFreeAdamW")
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "beta"),
    [("Adam", "beta_2"), ("Nadam", "beta_2"), ("Muon", "adam_beta_2"), ("ScheduleFreeAdamW", "beta_2")],
)
def test_roundings_of_corrections(name: str, beta: str) -> None:
    """1 - 0.9999^3 from a rounded power is off by up to 1e-4 of it, which is 800 units of a weight of a step's size."""
    options = {"learning_rate": 1.0, beta: 0.9999}
    _, theirs = trained(of_keras(name), options, steps=3)
    _, ours = trained(getattr(fusedstep.keras, name), options, steps=3)
    assert_close(ours, theirs)


def test_the_momentum_that_keras_reads() -> None:
    """On the backend torch Keras' step takes the new momentum for the old one, so that beta_1 counts as 1."""
    z = x = np.array([1.0, -2.0])
    v = np.zeros(2)
    variables = [keras.Variable(z.astype("float32")) for _ in range(2)]
    ours, theirs = fusedstep.keras.ScheduleFreeAdamW(0.1), keras.optimizers.ScheduleFreeAdamW(0.1)
    for t, g in enumerate(np.random.default_rng(3).standard_normal((6, 2)), 1):
        v = 0.999 * v + 0.001 * g * g
        z = z - 0.1 * g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x + (z - x) / t
        for optimizer, variable in zip((ours, theirs), variables, strict=True):
            optimizer.apply([keras.ops.convert_to_tensor(g.astype("float32"))], [variable])
    y = 0.1 * z + 0.9 * x
    # Rounding 0.999 to float32 changes the correction by 6e-5 of it at most, and steps by half of that.
    close: dict[str, Any] = {"rtol": 0, "atol": 6 * 0.1 * 3e-5}
    assert np.abs(y - x).min() > 100 * close["atol"]
    np.testing.assert_allclose(numbers(variables[0]), y, **close)
    np.testing.assert_allclose(numbers(variables[1]), x if BACKEND == "torch" else y, **close)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"learning_rate": -0.01}),
        ("Ftrl", {"learning_rate_power": -0.3}),
        ("Ftrl", {"learning_rate_power": -0.3, "gradient_accumulation_steps": 3}),
        ("Muon", {"momentum": 1.0}),
        ("Muon", {"adam_lr_ratio": 0.0}),
        ("Muon", {"momentum": -0.5}),
        ("Muon", {"epsilon": -1e-9}),
        ("ScheduleFreeAdamW", {"epsilon": -1e-9, "weight_decay": 0.1}),
        ("ScheduleFreeAdamW", {"beta_1": 0.0}),
        ("SGD", {"learning_rate": -0.01, "gradient_accumulation_steps": 3, "use_ema": True}),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_what_fusedstep_has_not_is_left_to_keras(name: str, options: dict[str, Any], left: list[str]) -> None:
    _, theirs = trained(getattr(keras.optimizers, name), options)
    _, ours = trained(getattr(fusedstep.keras, name), options)
    assert left != []
    assert_close(ours, theirs, bound=4 if "gradient_accumulation_steps" in options else 0)


def test_narrow_variables_are_left_to_keras(left: list[str]) -> None:
    _, theirs = trained(keras.optimizers.SGD, {"momentum": 0.9}, "float16")
    _, ours = trained(fusedstep.keras.SGD, {"momentum": 0.9}, "float16")
    assert len(left) == STEPS
    assert_close(ours, theirs, bound=0)


@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_norm_that_is_not_finite(option: str, number: float) -> None:
    results = []
    for make in (keras.optimizers.SGD, fusedstep.keras.SGD):
        variables = [keras.Variable(np.ones(3, "float32")) for _ in range(2)]
        grads = [np.array([1, number, 1], "float32"), np.ones(3, "float32")]
        make(**{option: 1.0}).apply([keras.ops.convert_to_tensor(g) for g in grads], variables)
        results.append([numbers(v) for v in variables])
    np.testing.assert_array_equal(results[1], results[0])


def test_a_subclass_with_a_step_of_its_own_has_it() -> None:
    class Still(fusedstep.keras.SGD):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            pass

        def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
            pass

    class Renamed(fusedstep.keras.SGD):
        pass

    class StillMatrices(fusedstep.keras.Muon):
        def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
            pass

    for make, moved in ((Still, False), (Renamed, True), (lambda: StillMatrices(weight_decay=None), False)):
        variable = keras.Variable(np.ones((3, 1), "float32"))
        make().apply([keras.ops.ones((3, 1))], [variable])
        assert bool(numbers(variable)[0, 0] != 1) is moved


def test_a_stateless_step() -> None:
    results = []
    for make in (keras.optimizers.Adam, fusedstep.keras.Adam):
        variables = made()
        optimizer = make(learning_rate=0.1)
        optimizer.build(variables)
        values, own = ([keras.ops.copy(v.value) for v in each] for each in (variables, optimizer.variables))
        for grads in gradients(steps=3, pauses=False):
            values, own = optimizer.stateless_apply(own, grads, values)
        for variable, start in zip(variables, made(), strict=True):
            np.testing.assert_array_equal(numbers(variable), numbers(start))
        results.append([np.array(keras.ops.convert_to_numpy(v)) for v in (*values, *own)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_gradient_of_another_shape_is_an_error_of_keras() -> None:
    variable = keras.Variable(np.ones((3, 2), "float32"))
    with pytest.raises((ValueError, RuntimeError)):
        fusedstep.keras.Adam().apply([keras.ops.ones((5, 2))], [variable])
    assert (numbers(variable) == 1).all()


def test_an_overwritten_variable() -> None:
    results = []
    for make in (keras.optimizers.Adam, fusedstep.keras.Adam):
        variables = made()
        variables[0].overwrite_with_gradient = True
        optimizer = make(learning_rate=0.1, use_ema=True, gradient_accumulation_steps=2)
        for grads in gradients(steps=4, pauses=False):
            optimizer.apply(grads, variables)
        arrays = {str(i): numbers(v) for i, v in enumerate(variables + optimizer.variables)}
        results.append(arrays)
    assert_close(results[1], results[0])


def test_scalars_of_numpy_and_arrays_that_cannot_be_written() -> None:
    variable = keras.Variable(np.ones(3, "float32"))
    if BACKEND == "numpy":
        variable._value = np.broadcast_to(np.float32(1), 3)
    scalar = keras.Variable(1.0)
    if BACKEND == "numpy":
        scalar._value = np.float32(1)
    fusedstep.keras.SGD(0.5).apply([keras.ops.ones(3), keras.ops.ones(())], [variable, scalar])
    assert numbers(variable).tolist() == [0.5] * 3
    assert numbers(scalar) == 0.5


def test_an_array_that_an_initializer_gave_is_not_written() -> None:
    given = np.ones(3, "float32")
    variables = [keras.Variable(lambda shape, dtype: given, shape=(3,), dtype="float32") for _ in range(2)]
    fusedstep.keras.SGD(0.5).apply([keras.ops.ones(3)] * 2, variables)
    assert given.tolist() == [1.0] * 3
    assert [numbers(v).tolist() for v in variables] == [[0.5] * 3] * 2


# Models


def model_of(optimizer: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def step(model: Any, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    grads = [keras.ops.convert_to_tensor(rng.standard_normal(v.shape).astype("float32")) for v in model.weights]
    model.optimizer.apply(grads, model.trainable_variables)


def assert_same(model: Any, other: Any, exact: bool = False, adafactor: bool = False) -> None:
    ours, theirs = (
        {str(i): numbers(v) for i, v in enumerate((*each.weights, *each.optimizer.variables))}
        for each in (model, other)
    )
    ignored = [str(i) for i, v in enumerate((*model.weights, *model.optimizer.variables)) if "velocity" in v.name]
    assert_close(ours, theirs, ignored if adafactor else (), bound=0 if exact else BOUND)


@pytest.mark.parametrize("name", CLASSES)
def test_a_saved_model_goes_on(name: str, tmp_path: Path) -> None:
    model = model_of(getattr(fusedstep.keras, name)(learning_rate=0.1, clipvalue=0.5))
    step(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is getattr(fusedstep.keras, name)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert_same(loaded, model, exact=True)
    step(model, 1)
    step(loaded, 1)
    assert_same(loaded, model, exact=True)


def with_optimizer(model: Any, kind: Any) -> Any:
    """The model that goes on with another class and the same state."""
    optimizer = kind.from_config(model.optimizer.get_config())
    optimizer.build(model.trainable_variables)
    optimizer.set_weights(model.optimizer.variables)
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_goes_on_with_the_other_class(name: str, tmp_path: Path) -> None:
    ours, theirs = getattr(fusedstep.keras, name), of_keras(name)
    model = model_of(theirs(learning_rate=0.1, clipvalue=0.5))
    step(model)
    other = model
    for number, kind in enumerate((ours, theirs)):
        path = tmp_path / f"{number}.keras"
        other.save(path)
        other = with_optimizer(keras.models.load_model(path), kind)
        assert isinstance(other.optimizer, getattr(keras.optimizers, name))
        assert isinstance(other.optimizer, Fused) is (kind is ours)
        for seed in (1, 2):
            step(model, seed)
            step(other, seed)
        assert_same(other, model, adafactor=name == "Adafactor")


def test_weights_are_set() -> None:
    theirs = model_of(keras.optimizers.Nadam(0.1))
    step(theirs)
    ours = model_of(fusedstep.keras.Nadam.from_config(theirs.optimizer.get_config()))
    ours.optimizer.build(ours.trainable_variables)
    ours.set_weights(theirs.get_weights())
    ours.optimizer.set_weights([numbers(v) for v in theirs.optimizer.variables])
    step(theirs, 1)
    step(ours, 1)
    assert_same(ours, theirs)


def test_signatures_are_those_of_keras() -> None:
    for name in fusedstep.keras.__all__:
        theirs = inspect.signature(getattr(keras.optimizers, name).__init__)
        _, *parameters = theirs.parameters.values()
        assert list(inspect.signature(getattr(fusedstep.keras, name)).parameters.values()) == parameters


@pytest.mark.parametrize("name", fusedstep.keras.__all__)
def test_another_backend_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        RuntimeError, match=rf"fusedstep.keras.{name} needs .* torch and numpy, .* is jax: .*KERAS_BACK"
    ):
        getattr(fusedstep.keras, name)()


def test_any_number_of_threads_gives_the_same_bits() -> None:
    results = []
    for threads in (1, 2):
        before = fs.get_num_threads()
        fs.set_num_threads(threads)
        results.append(trained(fusedstep.keras.Adam, {"global_clipnorm": 0.1})[1])
        fs.set_num_threads(before)
    assert_close(results[1], results[0], bound=0)


needs_torch = pytest.mark.skipif(BACKEND != "torch", reason="Keras' backend numpy computes no gradients to fit a model")


@needs_torch
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in CLASSES), ("Adam", {"global_clipnorm": 0.1, "use_ema": True})],
)
def test_a_model_is_fitted(name: str, options: dict[str, Any], left: list[str]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 3)).astype("float32"), rng.standard_normal((64, 1)).astype("float32")
    losses = []
    for make in (of_keras(name), getattr(fusedstep.keras, name)):
        model = model_of(make(learning_rate=0.01, **options))
        losses.append(model.fit(x, y, 16, epochs=5, verbose=0, shuffle=False).history["loss"])
    assert left == [name] * (name == "ScheduleFreeAdamW")
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-6)


@needs_torch
def test_autograd_sees_the_step() -> None:
    variable = keras.Variable(np.ones(3, "float32"))
    loss: Any = (variable.value * variable.value).sum()
    fusedstep.keras.SGD().apply([keras.ops.ones(3)], [variable])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
