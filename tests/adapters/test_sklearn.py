"""fusedstep.sklearn beside scikit-learn's own: the same bits, and its tests with our classes in place."""

import copy
import os
import pickle
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs

theirs = pytest.importorskip("sklearn.neural_network", reason="compares with scikit-learn where that is installed")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.neural_network import _stochastic_optimizers as original  # noqa: E402

from fusedstep import sklearn as ours  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Arrays = list[np.ndarray[Any, Any]]

SHAPES = [(64, 10), (10, 3), (10,), (3,), (0, 4), ()]
ADAM: list[dict[str, Any]] = [
    {},
    {"learning_rate_init": np.float64(0.1), "beta_1": 0, "beta_2": 0.5, "epsilon": 1e-3},
]
SGD: list[dict[str, Any]] = [
    {},
    {"nesterov": False},
    {"momentum": 0},
    {"momentum": 0.0, "nesterov": False},
    {"lr_schedule": "adaptive", "learning_rate_init": 1e-4},
    {"lr_schedule": "invscaling", "power_t": 0.3, "momentum": 1.0},
]
SETTINGS = [("AdamOptimizer", given) for given in ADAM] + [("SGDOptimizer", given) for given in SGD]


def named(value: Any) -> str:
    return ",".join(f"{key}={own}" for key, own in value.items()) if isinstance(value, dict) else str(value)


settings = pytest.mark.parametrize(("name", "given"), SETTINGS, ids=named)


def assert_same_bits(own: Any, expected: Any) -> None:
    own, expected = np.asarray(own), np.asarray(expected)
    assert (own.dtype, own.shape, own.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def assert_same(optimizer: Any, expected: Any) -> None:
    for key, value in vars(expected).items():
        if isinstance(value, list):
            for array, right in zip(getattr(optimizer, key), value, strict=True):
                assert_same_bits(array, right)
        else:
            assert (type(getattr(optimizer, key)), getattr(optimizer, key)) == (type(value), value), key
    assert vars(optimizer).keys() == vars(expected).keys()


def compare(name: str, given: dict[str, Any], params: Arrays, types: list[Any], rng: Any, steps: int = 300) -> None:
    """Makes steps with both optimizers, with gradients of these types."""
    expected = [w.copy() for w in params]
    optimizer, other = getattr(ours, name)(params, **given), getattr(original, name)(expected, **given)
    for t in range(steps):
        size = 10.0 ** rng.integers(-4, 4)
        grads = [np.array(size * rng.standard_normal(w.shape), own) for w, own in zip(params, types, strict=True)]
        if t > steps // 2:
            grads = [np.array(g * (g > 0), g.dtype) for g in grads]
        kept = [g.copy() for g in grads]
        optimizer.update_params(params, grads)
        other.update_params(expected, grads)
        for g, right in zip(grads, kept, strict=True):
            assert_same_bits(g, right)
        for each in (optimizer, other):
            each.iteration_ends(10 * t)
        if t % 50 == 49:
            assert optimizer.trigger_stopping("", False) == other.trigger_stopping("", False)
    for w, right in zip(params, expected, strict=True):
        assert_same_bits(w, right)
    assert_same(optimizer, other)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step was ours, in their order."""
    results: list[bool] = []
    stepped = ours._stepped

    def recorded(*given: Any) -> bool:
        results.append(stepped(*given))
        return results[-1]

    monkeypatch.setattr(ours, "_stepped", recorded)
    return results


def drawn(rng: Any, dtype: Any, shapes: list[Any] = SHAPES) -> Arrays:
    return [np.array(rng.standard_normal(shape), dtype) for shape in shapes]


@settings
def test_bits(name: str, given: dict[str, Any], isa: str, dtype: Any, rng: Any, made: list[bool]) -> None:
    compare(name, given, drawn(rng, dtype), [dtype] * len(SHAPES), rng)
    assert made == [True] * 300


@settings
@pytest.mark.parametrize("wide", [SHAPES, SHAPES[2:], SHAPES[:1]], ids=["all", "intercepts", "one"])
def test_bits_with_gradients_in_float64_of_parameters_in_float32(
    name: str, given: dict[str, Any], wide: list[Any], rng: Any, made: list[bool]
) -> None:
    types = [np.float64 if shape in wide else np.float32 for shape in SHAPES]
    compare(name, given, drawn(rng, np.float32), types, rng)
    assert made == [True] * 300


@pytest.mark.parametrize("threads", [1, 2])
@settings
def test_bits_of_large_arrays(name: str, given: dict[str, Any], threads: int, dtype: Any, rng: Any) -> None:
    fs.set_num_threads(threads)
    compare(name, given, drawn(rng, dtype, [(700, 300), (300,)]), [dtype] * 2, rng, 4)


FALLBACKS: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("AdamOptimizer", {"beta_1": np.float64(0.8)}, np.float32, np.float32),
    ("AdamOptimizer", {"epsilon": np.float64(1e-4)}, np.float32, np.float32),
    ("AdamOptimizer", {"learning_rate_init": 1e-30}, np.float32, np.float32),
    ("AdamOptimizer", {"learning_rate_init": -0.1}, np.float64, np.float64),
    ("AdamOptimizer", {"beta_2": np.float32(0.99)}, np.float64, np.float64),
    ("AdamOptimizer", {}, np.float64, np.float32),
    ("SGDOptimizer", {}, np.float16, np.float16),
    ("SGDOptimizer", {"momentum": np.float64(0.8)}, np.float32, np.float32),
    ("SGDOptimizer", {"lr_schedule": "invscaling", "power_t": np.float64(0.3)}, np.float32, np.float32),
    ("SGDOptimizer", {"momentum": 1.5}, np.float64, np.float64),
    ("SGDOptimizer", {}, np.dtype(">f8"), np.dtype(">f8")),
]


@pytest.mark.parametrize(("name", "given", "dtype", "of_gradients"), FALLBACKS, ids=named)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_the_rest_is_left_to_scikit_learn(
    name: str, given: dict[str, Any], dtype: Any, of_gradients: Any, rng: Any, made: list[bool]
) -> None:
    compare(name, given, drawn(rng, dtype), [of_gradients] * len(SHAPES), rng, 5)
    assert False in made


@pytest.mark.parametrize("name", ["AdamOptimizer", "SGDOptimizer"])
def test_types_that_change_between_steps(name: str, rng: Any) -> None:
    params = drawn(rng, np.float32, [(3, 2)])
    expected = [w.copy() for w in params]
    optimizer, other = getattr(ours, name)(params), getattr(original, name)(expected)
    for dtype in (np.float32, np.float64, np.float64, np.float32, np.float32, np.float64):
        grads = drawn(rng, dtype, [(3, 2)])
        optimizer.update_params(params, grads)
        other.update_params(expected, grads)
        assert_same_bits(params[0], expected[0])
    assert_same(optimizer, other)


@pytest.mark.parametrize("name", ["AdamOptimizer", "SGDOptimizer"])
def test_errors_are_scikit_learns(name: str) -> None:
    w = np.ones((3, 2))
    optimizer = getattr(ours, name)([w])
    with pytest.raises(ValueError, match="could not be broadcast"):
        optimizer.update_params([w], [np.ones((2, 3))])
    assert (w == 1).all()
    w.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        optimizer.update_params([w], [np.ones((3, 2))])


@pytest.mark.parametrize("name", ["AdamOptimizer", "SGDOptimizer"])
def test_subnormal_state(name: str, dtype: Any) -> None:
    steps = {np.float32: 1500, np.float64: 8000}[dtype]
    for flush in (True, False):
        fs.set_flush_subnormals(flush)
        params, expected = ([np.ones(3, dtype)] for _ in range(2))
        optimizer, other = getattr(ours, name)(params), getattr(original, name)(expected)
        for t in range(steps):
            for each, arrays in ((optimizer, params), (other, expected)):
                each.update_params(arrays, [np.full(3, t == 0, dtype)])
        assert_same_bits(params[0], expected[0])
        if not flush:
            assert_same(optimizer, other)


CLASSIFIERS: list[dict[str, Any]] = [
    {},
    {"solver": "sgd"},
    {"solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "momentum": 0.0, "n_iter_no_change": 1, "tol": 0.1},
    {"early_stopping": True, "n_iter_no_change": 3, "activation": "tanh"},
    {"hidden_layer_sizes": (20, 15), "alpha": 0.1, "activation": "logistic", "batch_size": 7},
    {"solver": "lbfgs"},
]


def data(dtype: Any, rng: Any) -> tuple[Any, Any, Any]:
    x = rng.standard_normal((120, 6))
    y = x @ rng.standard_normal(6) + 0.1 * rng.standard_normal(120)
    return x.astype(dtype), y, np.digitize(y, [-1, 1])


def assert_same_fit(model: Any, expected: Any) -> None:
    for key, value in vars(expected).items():
        if key == "_optimizer":
            assert isinstance(model._optimizer, ours.AdamOptimizer | ours.SGDOptimizer)
            assert_same(model._optimizer, value)
        elif key in ("coefs_", "intercepts_", "loss_curve_", "validation_scores_") and value is not None:
            for array, right in zip(getattr(model, key), value, strict=True):
                assert_same_bits(array, right)
    assert vars(model).keys() == vars(expected).keys()
    assert (model.n_iter_, model.loss_) == (expected.n_iter_, expected.loss_)


@pytest.mark.parametrize("given", CLASSIFIERS, ids=named)
def test_fits(given: dict[str, Any], dtype: Any, rng: Any) -> None:
    x, y, classes = data(dtype, rng)
    given = {"max_iter": 30, "random_state": 3, **given}
    for name, target in (("MLPClassifier", classes), ("MLPRegressor", y), ("MLPRegressor", y.astype(np.float32))):
        model, other = (getattr(module, name)(**given).fit(x, target) for module in (ours, theirs))
        assert_same_fit(model, other)
        assert_same_bits(model.predict(x), other.predict(x))


@pytest.mark.skipif(
    "sample_weight" not in signature(theirs.MLPClassifier.fit).parameters,
    reason="fit takes no weights of samples before scikit-learn 1.7",
)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_weights_of_samples_and_sparse_x(solver: str, dtype: Any, rng: Any, made: list[bool]) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x, y, classes = data(dtype, rng)
    weights = rng.random(len(y))
    for inputs in (x, sparse.csr_matrix(x)):
        for name, target in (("MLPClassifier", classes), ("MLPRegressor", y)):
            models = [getattr(module, name)(solver=solver, max_iter=20, random_state=3) for module in (ours, theirs)]
            assert_same_fit(*(model.fit(inputs, target, sample_weight=weights) for model in models))
    assert all(made)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_and_warm_start(solver: str, dtype: Any, rng: Any) -> None:
    x, _, classes = data(dtype, rng)
    for given in ({}, {"warm_start": True}):
        models = [module.MLPClassifier(solver=solver, max_iter=4, random_state=3, **given) for module in (ours, theirs)]
        for model in models:
            model.partial_fit(x, classes, classes=np.unique(classes)).partial_fit(x, classes)
        kept = models[0]._optimizer
        models = [pickle.loads(pickle.dumps(model)) for model in models]
        models = [copy.deepcopy(model).partial_fit(x, classes) for model in models]
        assert_same_fit(*models)
        assert kept is not models[0]._optimizer
        for _ in range(2):
            assert_same_fit(*(model.fit(x, classes) for model in models))


def test_they_are_scikit_learns(rng: Any) -> None:
    x, y, classes = data(np.float64, rng)
    model = ours.MLPClassifier(solver="sgd", max_iter=3, random_state=1)
    assert isinstance(model, theirs.MLPClassifier)
    assert not hasattr(model, "_optimizer")
    copied = clone(model.fit(x, classes))
    assert type(copied) is ours.MLPClassifier
    assert copied.get_params() == model.get_params()
    assert not hasattr(copied, "_optimizer")
    assert type(model._optimizer) is ours.SGDOptimizer
    assert isinstance(model._optimizer, original.SGDOptimizer | original.BaseOptimizer)
    assert repr(model) == repr(theirs.MLPClassifier(solver="sgd", max_iter=3, random_state=1))
    grids = [
        GridSearchCV(module.MLPRegressor(max_iter=5, random_state=1), {"alpha": np.logspace(-4, 0, 3)}, cv=3)
        for module in (ours, theirs)
    ]
    for grid in grids:
        grid.fit(x, y)
    assert grids[0].best_params_ == grids[1].best_params_
    assert_same_bits(grids[0].cv_results_["mean_test_score"], grids[1].cv_results_["mean_test_score"])
    assert_same_fit(grids[0].best_estimator_, grids[1].best_estimator_)


def test_scikit_learns_own_tests() -> None:
    tests = [f"sklearn.neural_network.tests.test_{name}" for name in ("mlp", "stochastic_optimizers")]
    here = Path(__file__).parent
    paths = [str(here), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "sklearn_in_place",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, "--pyargs", *tests], env=environment, capture_output=True, text=True, check=False, cwd=here
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "fusedstep made " in done.stdout
