"""Names that an optimizer lacks, and parameters in the place of a learning rate: errors that say what is meant."""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from fusedstep import book, schedules
from fusedstep.optimizers.names import _OTHERS

CLASSES: Any = sorted(
    {cls for cls in vars(fs).values() if isinstance(cls, type) and issubclass(cls, fs.Optimizer)} - {fs.Optimizer},
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize(
    ("cls", "name", "likely"),
    [
        (fs.Adam, "learning_rate", ", expected lr"),
        (fs.Adam, "beta_1", ", expected beta1"),
        (fs.Adam, "betas", ", expected beta1 and beta2"),
        (fs.Adam, "epsilon", ", expected eps"),
        (fs.SGD, "weight_deacy", ", expected weight_decay"),
        (fs.SGD, "clipnorm", ", expected clip_norm"),
        (fs.SGD, "max_norm", ", expected clip_norm"),
        (fs.SGD, "use_ema", ", expected average"),
        (fs.RMSProp, "alpha", ", expected decay_rate"),
        (fs.Adadelta, "rh", ", expected rho"),
        (fs.SGD, "betas", ""),
        (fs.SGD, "options", ""),
        (fs.Adam, "xyzzy", ""),
    ],
)
def test_an_unknown_name_is_an_error_with_the_likely_one(cls: Any, name: str, likely: str) -> None:
    own = ", ".join(inspect.signature(cls).parameters).removesuffix(", options")
    known = rf"{likely}; there are {own}, decoupled, .*, state_dtype$"
    optimizer = cls()
    with pytest.raises(AttributeError, match=rf"^{cls.__name__} has no attribute '{name}'{known}"):
        setattr(optimizer, name, 0.1)
    with pytest.raises(TypeError, match=rf"^{cls.__name__} got an unexpected keyword argument '{name}'{known}"):
        cls(**{name: 0.1})
    assert not hasattr(optimizer, name)


def test_the_names_of_others_are_those_of_none_of_ours() -> None:
    ours = {name for cls in CLASSES for name in cls()._own_names}
    for name, likely in _OTHERS.items():
        assert set(likely.split(" and ")) <= ours
        owners = [cls.__name__ for cls in CLASSES if name in cls()._own_names]
        assert not owners or name in ("rho", "alpha")


@pytest.mark.parametrize("cls", CLASSES)
def test_own_attributes_can_be_set_copied_and_pickled(cls: Any) -> None:
    for optimizer in (cls(), copy.deepcopy(cls()), pickle.loads(pickle.dumps(cls()))):
        for name in (*optimizer._own_names, "iterations", "steps", "state", "skipped", "gradient_norm"):
            setattr(optimizer, name, getattr(optimizer, name))
        optimizer._private = 1
        assert "options" not in optimizer._own_names
        assert repr(optimizer) == repr(cls())
    with pytest.raises(AttributeError, match=rf"^{cls.__name__} has no attribute 'learning_rate', expected lr"):
        optimizer.learning_rate = 0.1
    assert list(inspect.signature(cls).parameters)[-1] == "options"


class Own(fs.Adam):
    """Has attributes of its own, and another first argument."""

    def __init__(self, layers: Any, **options: Any) -> None:
        super().__init__(**options)
        self.layers = layers
        self.learning_rate = 0.1

    def step(self) -> str:
        """A method of its own."""
        return "stepped"


def test_subclasses_may_have_any_names() -> None:
    optimizer: Any = Own([np.ones(3)], lr=0.5)
    optimizer.note = 1
    assert (optimizer.step(), optimizer.learning_rate, optimizer.note) == ("stepped", 0.1, 1)
    assert list(inspect.signature(Own).parameters) == ["layers", "options"]
    assert pickle.loads(pickle.dumps(optimizer)).note == 1
    dialect: Any = book.Adam()
    dialect.note = 1  # as the book's


def test_a_split_has_no_hyper_parameters() -> None:
    split: Any = fs.Split([(0, fs.SGD())])
    with pytest.raises(AttributeError, match=r"^Split has no attribute 'lr': set hyper-parameters of its optimizers"):
        split.lr = 0.1
    split.clip_norm, split.skipped = 1.0, 3
    copy.deepcopy(split).update([np.ones(1)], [np.ones(1)])


class Model:
    """Callable, and with parameters, as PyTorch's are."""

    def __call__(self, x: Any) -> Any:
        return x

    def parameters(self) -> list[Any]:
        """None."""
        return []


PARAMETERS = (
    r"^lr is a {}, expected a number or a schedule: parameters are given to update\(params, grads\), or to the "
)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: iter([np.ones(3)]), "list_iterator"),
        (lambda: [np.ones(3)], "list"),
        (lambda: {"W": np.ones(3)}, "dict"),
        (lambda: np.ones(3), "ndarray"),
        (Model, "Model"),
    ],
    ids=["iterator", "list", "dict", "array", "model"],
)
def test_parameters_are_no_learning_rate(cls: Any, make: Callable[[], Any], kind: str) -> None:
    with pytest.raises(TypeError, match=PARAMETERS.format(kind)):
        cls(make())
    with pytest.raises(TypeError, match=PARAMETERS.format(kind)):
        cls(make(), lr=0.1)
    with pytest.raises(TypeError, match=r"'params': parameters are given to update\(params, grads\), or to the optimi"):
        cls(params=make())


def test_what_is_a_learning_rate() -> None:
    assert fs.SGD(np.array(0.5)).lr == 0.5  # type: ignore[arg-type]
    assert fs.SGD(np.float64(0.5)).lr == 0.5
    assert fs.SGD(schedules.Cosine(0.1, 3)).lr == schedules.Cosine(0.1, 3)
    group: Any = (0, {"lr": schedules.Cosine})
    wrong: Any = ((r"^lr is", {"lr": schedules.Cosine}), (r"^groups\[0\]\['lr'\] is", {"groups": [group]}))
    for message, options in wrong:
        with pytest.raises(TypeError, match=rf"{message} <class 'fusedstep.schedules.Cosine'>, expected a number"):
            fs.SGD(**options)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("step", r"update\(params, grads\) makes a step"),
        ("zero_grad", r"update\(params, grads, zero_grads=True\) leaves"),
    ],
)
def test_methods_of_pytorch(name: str, advice: str) -> None:
    optimizer = fs.Adam()
    with pytest.raises(AttributeError, match=rf"^Adam has no attribute '{name}': {advice}"):
        getattr(optimizer, name)()
    with pytest.raises(AttributeError, match=rf"^Adam has no attribute '{name}'"):
        setattr(optimizer, name, 1)
    assert not hasattr(fs.Adam, name)


def test_modules_that_are_not_imported() -> None:
    module: Any = fs
    with pytest.raises(AttributeError, match=r"^module 'fusedstep' has no attribute 'sgd'$") as error:
        module.sgd  # noqa: B018
    assert (error.value.name, error.value.obj) == ("sgd", fs)
    with pytest.raises(AttributeError, match=r"has no attribute 'torch': import fusedstep.torch first$"):
        module.__getattr__("torch")
