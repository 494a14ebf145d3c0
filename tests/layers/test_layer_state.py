"""Layers by their text and their state: what is restored continues as if it hadn't been stopped."""

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest

import fusedstep as fs


def norm(seed: int, dtype: Any = np.float32) -> fs.BatchNorm:
    layer = fs.BatchNorm(3, 0.1 * seed, 0.5 / seed, dtype=dtype, unbiased_running_var=seed == 1)
    layer.gamma += dtype(seed)
    layer.beta -= dtype(seed)
    layer.forward(np.random.default_rng(seed).standard_normal((5, 3)))
    return layer


def dropout(seed: int) -> fs.Dropout:
    layer = fs.Dropout(0.2 * seed, seed)
    for _ in range(seed):
        layer.forward(np.ones(3))
    return layer


def test_a_text_makes_the_layer() -> None:
    for layer in (
        fs.BatchNorm(100),
        fs.BatchNorm(3, 1e-3, 0.99, -1, np.float64, unbiased_running_var=True),
        fs.Dropout(0.3, seed=1),
        fs.Dropout(),
    ):
        other = eval(repr(layer), {"BatchNorm": fs.BatchNorm, "Dropout": fs.Dropout})
        assert repr(other) == repr(layer)
        np.testing.assert_equal(other.state_dict() | {"drawn": None}, layer.state_dict() | {"drawn": None})
        assert getattr(other, "channel_axis", 1) == getattr(layer, "channel_axis", 1)
    assert (
        repr(fs.BatchNorm(100)) == "BatchNorm(num_features=100, eps=1e-05, decay=0.9, channel_axis=1, dtype='float32')"
    )
    assert repr(fs.Dropout(0.3, seed=1)) == "Dropout(rate=0.3, seed=1)"


@pytest.mark.parametrize("make", [norm, dropout])
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_continues(make: Any, training: bool) -> None:
    first, other = make(1), make(2)
    snapshot = first.state_dict()
    before = {name: getattr(other, name) for name, value in snapshot.items() if isinstance(value, np.ndarray)}
    other.load_state_dict(snapshot)
    assert all(getattr(other, name) is array for name, array in before.items())
    x = np.random.default_rng(0).standard_normal((100, 3))
    for _ in range(2):
        np.testing.assert_array_equal(other.forward(x, training), first.forward(x, training))
        np.testing.assert_equal(other.state_dict(), first.state_dict())
    if training:
        np.testing.assert_array_equal(other.backward(x), first.backward(x))
        with pytest.raises(AssertionError):  # the snapshot has copies
            np.testing.assert_equal(snapshot, first.state_dict())


def test_the_channels_axis_stays() -> None:
    other = fs.BatchNorm(3, channel_axis=-1)
    other.load_state_dict(fs.BatchNorm(3).state_dict())
    assert other.channel_axis == -1


GOOD = norm(1).state_dict()


@pytest.mark.parametrize(
    ("layer", "state", "message"),
    [
        (norm, {}, "the state dict has nothing, expected beta, decay, eps, gamma, running_mean, running_var, unbiased"),
        (norm, [], "the state dict is a list, expected a dict"),
        (norm, GOOD | {"more": 1}, "the state dict has .*more"),
        (norm, GOOD | {"eps": -1}, "eps is -1, expected"),
        (norm, GOOD | {"decay": 1.5}, "decay is 1.5, expected"),
        (norm, GOOD | {"unbiased_running_var": 3}, "unbiased_running_var is 3, expected"),
        (norm, GOOD | {"beta": np.zeros(2, np.float32)}, r"beta has shape \(3,\) .* that of the state dict has \(2,\)"),
        (
            norm,
            GOOD | {"running_var": np.zeros(3)},
            "running_var has .* dtype float32, that of the state dict has .* and float64",
        ),
        (dropout, {"rate": 0.5}, "the state dict has rate, expected calls, drawn, rate, seed"),
        (dropout, {"rate": 1, "seed": 1, "calls": 1, "drawn": True}, "rate is 1, expected"),
        (dropout, {"rate": 0.5, "seed": -1, "calls": 1, "drawn": True}, "seed is -1, expected"),
        (dropout, {"rate": 0.5, "seed": 1, "calls": 1.5, "drawn": True}, "calls is 1.5, expected"),
        (dropout, {"rate": 0.5, "seed": 1, "calls": 1, "drawn": 2}, "drawn is 2, expected"),
    ],
)
def test_a_wrong_snapshot_changes_nothing(layer: Any, state: Any, message: str) -> None:
    other = layer(2)
    before = other.state_dict()
    with pytest.raises((ValueError, TypeError), match=rf"^{message}"):
        other.load_state_dict(state)
    np.testing.assert_equal(other.state_dict(), before)


def test_what_can_not_be_loaded_into() -> None:
    layer: Any = fs.BatchNorm(3)
    layer.beta = [0.0] * 3
    with pytest.raises(TypeError, match=r"^beta is a list, expected an array to load into$"):
        layer.load_state_dict(GOOD)
    layer.beta = np.broadcast_to(np.float32(0), (3,))
    with pytest.raises(ValueError, match=r"^beta is read-only$"):
        layer.load_state_dict(GOOD)
    assert layer.gamma.tolist() == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("seed", [None, 5])
def test_forked_children_of_a_restored_layer_have_masks_as_before(seed: int | None) -> None:
    layer = fs.Dropout(seed=1)
    layer.load_state_dict(fs.Dropout(seed=seed).state_dict())
    seeds = [layer.seed]
    for _ in range(2):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                layer.forward(np.ones(3))
                os.write(writer, str(layer.seed).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            seeds.append(int(file.read()))
    assert len(set(seeds)) == (3 if seed is None else 1)


@pytest.mark.parametrize(
    ("layer", "name", "message"),
    [
        (
            norm,
            "momentum",
            "BatchNorm has no attribute 'momentum': decay is the weight of the old averages, 1 - momentum",
        ),
        (norm, "epsilon", "BatchNorm has no attribute 'epsilon': eps takes its place"),
        (norm, "weight", "gamma takes its place"),
        (norm, "bias", "beta takes its place"),
        (norm, "decey", "'BatchNorm' object has no attribute 'decey'"),
        (dropout, "p", "Dropout has no attribute 'p': rate takes its place"),
        (dropout, "training", "'training': forward\\(x, training=False\\) is for evaluation"),
        (dropout, "eval", "'eval': forward\\(x, training=False\\) is for evaluation"),
        (dropout, "mask", "'Dropout' object has no attribute 'mask'"),
    ],
)
def test_an_attribute_that_a_layer_lacks_is_an_error(layer: Any, name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        setattr(layer(1), name, 0.3)
    with pytest.raises(AttributeError, match=message):
        getattr(layer(1), name)
    assert not hasattr(type(layer(1)), name)


class Own(fs.BatchNorm):
    """Has attributes of its own, with any names."""

    def __init__(self) -> None:
        super().__init__(3)
        self.momentum = self.note = "mine"


def test_a_subclass_has_attributes_of_its_own() -> None:
    layer: Any = Own()
    layer.eval = "mine too"
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert (other.momentum, other.note, other.eval) == ("mine", "mine", "mine too")
        np.testing.assert_equal(other.state_dict(), layer.state_dict())


def test_a_layer_of_an_older_version_keeps_what_it_has() -> None:
    layer = fs.BatchNorm.__new__(fs.BatchNorm)
    layer.__setstate__(norm(1).__getstate__() | {"note": "anybody's"})
    np.testing.assert_equal(layer.state_dict(), norm(1).state_dict())
