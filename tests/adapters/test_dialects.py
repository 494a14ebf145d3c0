"""What the table of dialects has no row for; tests/adapters/test_peers.py has the table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from peers import PEERS

STEPS = 20
Step = Callable[[Any, Any], object]


def assert_same_steps(ours: Step, theirs: Step, dtype: Any, size: float = 1.0) -> None:
    """With gradients of that size: only small ones feel epsilon."""
    rng = np.random.default_rng(5)
    w = rng.standard_normal((30, 20)).astype(dtype)
    expected = w.copy()
    for _ in range(STEPS):
        g = (size * rng.standard_normal(w.shape)).astype(dtype)
        ours(w, g)
        theirs(expected, g.copy())
    # Each step makes about ten roundings of numbers of size 1 on either side.
    tolerance = 20 * STEPS * np.finfo(dtype).eps
    np.testing.assert_allclose(w, expected, rtol=tolerance, atol=tolerance)


def test_scikit_learns_alpha() -> None:
    """One step of MLPRegressor's solver: its decay is divided by the batch's size, and biases have none."""
    network = pytest.importorskip("sklearn.neural_network", reason="compares with scikit-learn")
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    options = {
        "solver": "sgd",
        "hidden_layer_sizes": (4,),
        "random_state": 1,
        "activation": "identity",
        "batch_size": 50,
    }
    models = []
    for alpha in (0.0, 7.0):
        model = network.MLPRegressor(alpha=alpha, learning_rate_init=0.1, momentum=0.0, **options)
        models.append(model.partial_fit(x, y))
    plain, decayed = models
    # The same weights before the step, by a rate that moves none.
    start = network.MLPRegressor(alpha=0.0, learning_rate_init=1e-300, momentum=0.0, **options)
    start.partial_fit(x, y)
    for w, with_decay, without in zip(start.coefs_, decayed.coefs_, plain.coefs_, strict=True):
        g = (w - without) / 0.1
        ours = w.copy()
        fs.SGD(0.1, weight_decay=7.0 / 50).update(ours, g)
        # The gradient, from a difference of numbers of size 1 over 0.1, is off by 10 eps, and by a few more roundings.
        np.testing.assert_allclose(ours, with_decay, rtol=0, atol=20 * np.finfo(np.float64).eps)
    for with_decay, without in zip(decayed.intercepts_, plain.intercepts_, strict=True):
        np.testing.assert_array_equal(with_decay, without)


# Its variables have an __array__ without copy.
keras_arrays = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@keras_arrays
def test_keras_batch_norm() -> None:
    assert "keras" in PEERS  # whose module chooses its backend
    keras = pytest.importorskip("keras", reason="compares with Keras where that is installed")
    ours, theirs = fs.BatchNorm(5, eps=1e-3, decay=0.99, channel_axis=-1), keras.layers.BatchNormalization()
    rng = np.random.default_rng(5)
    # Means and variances of 64 numbers of size 2, summed in another order.
    close: dict[str, Any] = {"rtol": 64 * np.finfo(np.float32).eps, "atol": 64 * 4 * np.finfo(np.float32).eps}
    for _ in range(3):
        x = (rng.standard_normal((4, 4, 4, 5)) + 2).astype(np.float32)
        expected = keras.ops.convert_to_numpy(theirs(x, training=True))
        np.testing.assert_allclose(ours.forward(x), expected, **close)
    np.testing.assert_allclose(ours.running_mean, keras.ops.convert_to_numpy(theirs.moving_mean), **close)
    np.testing.assert_allclose(ours.running_var, keras.ops.convert_to_numpy(theirs.moving_variance), **close)


def clipped(g: Any) -> Any:
    norm = np.linalg.norm(g)
    return g / norm if norm >= 1 else g


def thinc_adam(decay: float) -> Step:
    ours = fs.dialects.thinc.Adam(0.01, L2=decay)
    return lambda w, g: ours.update(w, clipped(g))


@pytest.mark.parametrize(("decay", "size"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1e-5)])
def test_thinc(decay: float, size: float) -> None:
    optimizers = pytest.importorskip("thinc.optimizers", reason="compares with thinc where that is installed")
    theirs = optimizers.Adam(0.01, L2=decay, use_averages=False)
    assert_same_steps(thinc_adam(decay), lambda w, g: theirs((0, "W"), w, g), np.float32, size)


def test_lr_decay_of_torchs_adagrad() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch where that is installed")
    made: list[Any] = []

    def theirs(w: Any, g: Any) -> None:
        if not made:
            tensor = torch.from_numpy(w).requires_grad_()
            made.extend([tensor, torch.optim.Adagrad([tensor], 0.1, lr_decay=0.2)])
        made[0].grad = torch.from_numpy(g)
        made[1].step()

    assert_same_steps(fs.dialects.torch.Adagrad(0.1, lr_decay=0.2).update, theirs, np.float64)


# By min(lr, 1 / sqrt(t)).
@pytest.mark.parametrize("relative_step", [False, True])
def test_keras_adafactor_bounds_its_rate_in_any_case(relative_step: bool) -> None:
    def final(lr: float) -> Any:
        w = np.full(4, 1.0)
        optimizer = fs.dialects.keras.Adafactor(lr, epsilon_2=1.0, relative_step=relative_step)
        for _ in range(4):
            optimizer.update(w, np.ones(4))
        return w

    # 1 / sqrt(t) is at most either rate.
    np.testing.assert_array_equal(final(1.0), final(2.0))
