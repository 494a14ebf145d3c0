"""fusedstep.step: the stateless call, with state, counts and hyper-parameters from the caller."""

from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from cases import ROWS, new_state
from fusedstep import reference

ORACLES: dict[str, Any] = {row.optimizer()._rule: row.reference for row in ROWS} | {
    "adafactor_momentum": lambda **given: reference.Adafactor(beta1=0.9, **given),
    "sgd_momentum": lambda **given: reference.SGD(momentum=0.9, **given),
    "rmsprop_centered": lambda **given: reference.RMSProp(centered=True, **given),
    "rmsprop_momentum": lambda **given: reference.RMSProp(momentum=0.9, **given),
    "rmsprop_centered_momentum": lambda **given: reference.RMSProp(momentum=0.9, centered=True, **given),
    "amsgrad": lambda **given: reference.Adam(amsgrad=True, **given),
    "momentum_plain_velocity": lambda **given: reference.Momentum(lr_in_velocity=False, **given),
    "flower_yogi": reference.FlowerYogi,
    "sklearn_adam": reference.SklearnAdam,
    "sklearn_nesterov": reference.SklearnNesterov,
    "nesterov_new_velocity": lambda **given: reference.Nesterov(legacy=True, **given),
}
SHAPES = [(3, 4), (), (0, 2), (1025,), (40, 50)]


def test_every_rule_has_an_oracle() -> None:
    assert fs.rules().keys() == ORACLES.keys()
    assert fs.rules()["adam"] == {
        "states": ("m", "v"),
        "hyperparameters": {
            "lr": 0.001,
            "weight_decay": 0.0,
            "decoupled": False,
            "scale": 1.0,
            "maximize": False,
            "clip_value": None,
            "average": None,
            "cautious_decay": False,
            "max_lr": None,
            "decay_after": False,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "eps_inside_root": False,
            "eps_corrected": True,
        },
        "counts_steps": True,
        "starts": {},
        "scalars": {},
        "shapes": {},
    }


@pytest.mark.parametrize("rule", ORACLES)
def test_classes_have_the_defaults_of_their_rules(rule: str) -> None:
    own = {**fs.rules()[rule]["hyperparameters"]}
    del own["scale"]
    for optimizer in (fs.Momentum(lr_in_velocity=False), fs.Adafactor(beta1=0.9), *(row.optimizer() for row in ROWS)):
        if optimizer._rule == rule:
            assert {name: getattr(optimizer, name) for name in own} == own


def named(names: tuple[str, ...], arrays: list[Any]) -> Any:
    return dict(zip(names, arrays, strict=True))


@pytest.mark.parametrize("form", ["dict of dicts", "list of lists", "tuple of tuples", "list of dicts"])
@pytest.mark.parametrize("rule", ORACLES)
@pytest.mark.parametrize("extra", [{}, {"scale": 0.5, "weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}])
def test_bits(rule: str, form: str, extra: dict[str, Any], dtype: Any, rng: np.random.Generator) -> None:
    theirs = ORACLES[rule](lr=0.1, **{name: value for name, value in extra.items() if name != "scale"})
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    new = [new_state(rule, w, lr=0.1) for w in arrays]
    names, states = tuple(new[0]), [list(own.values()) for own in new]
    expected = {i: np.array(w) for i, w in enumerate(arrays)}
    params: Any = arrays
    state: Any = states
    if form == "dict of dicts":
        params, state = dict(enumerate(arrays)), {i: named(names, own) for i, own in enumerate(states)}
    elif form == "tuple of tuples":
        params, state = tuple(arrays), tuple(map(tuple, states))
    elif form == "list of dicts":
        state = [named(names, own) for own in states]
    for t in (1, 2, 3):
        grads = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
        given: Any = dict(enumerate(grads)) if isinstance(params, dict) else type(params)(grads)
        fs.step(rule, params, given, state, t=t, lr=0.1, **extra)
        theirs.update(expected, dict(enumerate(grads)), scale=extra.get("scale", 1.0))
    for i, (w, own) in enumerate(zip(arrays, states, strict=True)):
        np.testing.assert_array_equal(w, expected[i])
        for name, array in zip(names, own, strict=True):
            np.testing.assert_array_equal(array, theirs.state[i][name])


def test_everything_may_differ_between_arrays_in_one_region(rng: np.random.Generator) -> None:
    sizes, lrs, decays, ts = [50_000, 3, 70_000], [0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [1, 5, 9]
    params = [rng.standard_normal(n) for n in sizes]
    state = [[rng.standard_normal(n), rng.random(n)] for n in sizes]
    grads = [rng.standard_normal(n) for n in sizes]
    expected = [w.copy() for w in params]
    for i, w in enumerate(expected):
        theirs = reference.Adam(lrs[i], weight_decay=decays[i], beta2=0.9)
        theirs.state[0], theirs.steps[0] = {"m": state[i][0].copy(), "v": state[i][1].copy()}, ts[i] - 1
        theirs.update(w, grads[i])
    fs.set_num_threads(2)
    before = fs._native.parallel_regions()
    fs.step("adam", params, grads, state, t=ts, lr=lrs, weight_decay=decays, beta2=0.9)
    assert fs._native.parallel_regions() == before + 1
    for w, e in zip(params, expected, strict=True):
        np.testing.assert_array_equal(w, e)


def test_one_array() -> None:
    w, g, m, v = (np.linspace(0.1, 1, 5) for _ in range(4))
    m[...], v[...] = 0, 0
    theirs, expected = reference.Adam(), w.copy()
    fs.step("adam", w, g, (m, v))
    theirs.update(expected, g)
    np.testing.assert_array_equal(w, expected)
    fs.step("adam", w, g, {"m": m, "v": v}, t=2)
    theirs.update(expected, g)
    np.testing.assert_array_equal(w, expected)


def test_rules_that_correct_no_bias_ignore_the_number_of_the_step() -> None:
    w = np.ones(3)
    fs.step("sgd", w, np.ones(3), None, t=0, lr=0.5)
    assert (w == 0.5).all()


ONE = np.ones(3)
NONE: Any = None
BAD: tuple[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str], ...] = (
    (("adamm", ONE, ONE, None), {}, ValueError, "^there is no update rule 'adamm'$"),
    ((NONE, ONE, ONE, None), {}, TypeError, "^rule is None, expected one of sgd, "),
    (("sgd\0x", ONE, ONE, None), {}, ValueError, r"^there is no update rule 'sgd\\x00x'$"),
    (("\ud800", ONE, ONE, None), {}, ValueError, r"^there is no update rule '\\ud800'$"),
    (("adam", ONE, ONE, (ONE.copy(), ONE.copy())), {"t": 2**63}, ValueError, "^t is 9223372036854775808, expected"),
    (("sgd", ONE, ONE, None), {"beta1": 0.5}, TypeError, "^'sgd' has no hyper-parameter 'beta1'$"),
    (("sgd", ONE, ONE, None), {"lr": -1.0}, ValueError, "^lr is -1.0, expected a finite number >= 0$"),
    (("sgd", [ONE], [ONE], None), {"lr": [np.nan]}, ValueError, r"^lr\[0\] is nan, expected a finite number >= 0$"),
    (("sgd", [ONE], [ONE], None), {"lr": []}, ValueError, "^lr has length 0, params has 1$"),
    (("sgd", [ONE], [ONE], None), {"lr": [0.1, 0.1]}, ValueError, "^lr has length 2, params has 1$"),
    (("sgd", [ONE], [ONE], None), {"lr": {}}, KeyError, "lr lacks 0, which params has"),
    (("sgd", {"a": ONE}, {"a": ONE}, None), {"lr": {"a": -1}}, ValueError, r"^lr\['a'\] is -1, expected"),
    (("sgd", ONE, ONE, None), {"decoupled": "no"}, TypeError, "^decoupled is 'no', expected True or False$"),
    (("sgd", [ONE], [ONE], None), {"lr": "x"}, TypeError, "^lr is 'x', expected a number$"),
    (("adam", ONE, ONE, (ONE.copy(), ONE.copy())), {"t": 0}, ValueError, "^t is 0, expected 1 or more$"),
    (
        ("adam", [ONE], [ONE], [(ONE.copy(), ONE.copy())]),
        {"t": [1.5]},
        TypeError,
        r"^t\[0\] is 1.5, expected an integer$",
    ),
    (("adam", [ONE], [ONE], [(ONE.copy(), ONE.copy())]), {"t": {}}, KeyError, "t lacks 0, which params has"),
    (("adam", ONE, ONE, None), {}, TypeError, "^state is a NoneType, expected a dict$"),
    (("adam", [ONE], [ONE], None), {}, TypeError, "^state is a NoneType, expected a dict, list or tuple$"),
    (("adam", [ONE], [ONE], []), {}, ValueError, "^state has length 0, params has 1$"),
    (("adam", [ONE], [ONE], [(ONE,)]), {}, ValueError, r"^state\[0\] has length 1, the rule has 2 states$"),
    (("adam", [ONE], [ONE], [{"m": ONE.copy()}]), {}, ValueError, r"^state\[0\]\['v'\] is missing$"),
    (("adam", [ONE], [ONE], [(ONE.copy(), np.ones(2))]), {}, ValueError, r"^state\[0\]\['v'\] has shape \(2,\)"),
    (("adam", [ONE], [ONE], [(ONE.copy(), np.ones(3, "f4"))]), {}, ValueError, r"^state\[0\]\['v'\] has dtype float32"),
    (("momentum", [ONE], [ONE], [(ONE,)]), {}, ValueError, r"^state\[0\]\['v'\] shares memory with params\[0\]$"),
)


@pytest.mark.parametrize(("given", "options", "error", "message"), BAD)
def test_errors_come_before_the_first_write(
    given: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    rule, params, grads, state = given
    with pytest.raises(error, match=message):
        fs.step(rule, params, grads, state, **options)
    assert (ONE == 1).all()


def test_an_error_in_the_last_array_leaves_the_first_alone() -> None:
    w, g = [np.ones(3), np.ones(4)], [np.ones(3), np.ones(4)]
    for options in ({"lr": [0.1, -1.0]}, {"lr": [0.1]}, {"weight_decay": (0.1, np.nan)}):
        with pytest.raises((ValueError, KeyError)):
            fs.step("sgd", w, g, None, **options)
    with pytest.raises(ValueError, match="shape"):
        fs.step("sgd", w, [g[0], g[0]], None)
    with pytest.raises(ValueError, match="shares memory"):
        fs.step("momentum", w, g, [[np.zeros(3)], [w[1]]])
    assert all((array == 1).all() for array in w)


def test_the_adapter_of_the_documentation(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="steps PyTorch's tensors where that is installed")
    tensor = torch.from_numpy(rng.standard_normal((5, 6))).requires_grad_()
    theirs = torch.optim.Adam([tensor.detach().clone().requires_grad_()], 0.1)
    m, v = torch.zeros_like(tensor), torch.zeros_like(tensor)
    for t in (1, 2, 3):
        gradient = torch.from_numpy(rng.standard_normal((5, 6)))
        (other,) = theirs.param_groups[0]["params"]
        other.grad = gradient.clone()
        theirs.step()
        fs.step("adam", [tensor], [gradient], [(m, v)], t=t, lr=0.1)
    # Each step rounds some ten times, of numbers of size 1.
    np.testing.assert_allclose(tensor.detach().numpy(), other.detach().numpy(), rtol=1e-14, atol=1e-14)
