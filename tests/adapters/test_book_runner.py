"""`python -m fusedstep.book`, on a small folder that is laid out as the book's is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPTIMIZERS = """
import sys
import numpy as np

class SGD:
    def __init__(self, lr=0.01):
        self.lr = lr

    def update(self, params, grads):
        for k in params.keys():
            params[k] -= self.lr * grads[k]

class Nesterov:
    def __init__(self, lr=0.01, momentum=0.9):
        self.lr, self.momentum, self.v = lr, momentum, {}

    def update(self, params, grads):
        a = self.momentum
        for k in params.keys():
            old = self.v.get(k, np.zeros_like(params[k]))
            new = a * old - self.lr * grads[k]
            params[k] += a * a * VELOCITY
            params[k] -= (1 + a) * self.lr * grads[k]
            self.v[k] = new

class AdaGrad:
    def __init__(self, lr=0.01):
        self.lr, self.h = lr, {}

    def update(self, params, grads):
        for k in params.keys():
            self.h[k] = self.h.get(k, 0.0) + grads[k] ** 2
            params[k] -= self.lr * grads[k] / (np.sqrt(self.h[k]) + 1e-7)

class Own(AdaGrad):
    pass
"""

LAYERS = """
import numpy as np

class Affine:
    def __init__(self, W):
        self.W = W

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dout):
        self.dW = self.x.T @ dout
        return dout @ self.W.T

class Dropout:
    def __init__(self, dropout_ratio=0.5):
        self.dropout_ratio = dropout_ratio

    def forward(self, x, train_flg=True):
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask

class BatchNormalization:
    def __init__(self, gamma, beta, momentum=0.9, running_mean=None, running_var=None):
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean, self.running_var = running_mean, running_var

    def forward(self, x, train_flg=True):
        shape, x = x.shape, x.reshape(len(x), -1)
        if self.running_mean is None:
            self.running_mean = self.running_var = 0.0
        mean, var = (x.mean(axis=0), x.var(axis=0)) if train_flg else (self.running_mean, self.running_var)
        self.std = np.sqrt(var + 1e-6)
        self.xn = (x - mean) / self.std
        if train_flg:
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        return (self.gamma * self.xn + self.beta).reshape(shape)

    def backward(self, dout):
        shape, dout = dout.shape, dout.reshape(len(dout), -1)
        self.dbeta, self.dgamma = dout.sum(axis=0), (dout * self.xn).sum(axis=0)
        dx = dout - (self.dbeta + self.xn * self.dgamma) / len(dout)
        return (self.gamma / self.std * dx).reshape(shape)
"""

TRAINER = """
from common.optimizer import *

class Trainer:
    def __init__(self, optimizer):
        self.optimizer = {"sgd": SGD, "nesterov": Nesterov, "adagrad": AdaGrad}[optimizer](lr=0.1)
"""

TRAINING = """
import os, sys
sys.path.append(os.pardir)
from common.layers import *
from common.optimizer import *
from common.trainer import Trainer

np.random.seed(3)
for name in ("sgd", "nesterov", "adagrad"):
    params = {"W": np.random.randn(5, 4), "gamma": np.ones(4), "beta": np.zeros(4)}
    layers = [Dropout(0.2), Affine(params["W"]), BatchNormalization(params["gamma"], params["beta"])]
    optimizer = Trainer(name).optimizer
    for step in range(4):
        x = np.random.randn(8, 5)
        for layer in layers:
            x = layer.forward(x)
        dout = np.cos(x)
        for layer in reversed(layers):
            dout = layer.backward(dout)
        grads = {"W": layers[1].dW, "gamma": layers[2].dgamma, "beta": layers[2].dbeta}
        optimizer.update(params, grads)
        print(name, step, [f"{w.sum():.9f}" for w in params.values()], np.random.rand())
"""

MODULES = """
import os, sys
sys.path.append(os.pardir)
import common.optimizer as o
from common import layers
for cls in (o.SGD, o.Nesterov, o.AdaGrad, o.Own, layers.Affine, layers.Dropout, layers.BatchNormalization):
    print(cls.__name__, cls.__module__)
"""

IN_USE = {
    "SGD": "fusedstep.book",
    "Nesterov": "fusedstep.book",
    "AdaGrad": "fusedstep.book",
    "Own": "common.optimizer",
    "Affine": "common.layers",
    "Dropout": "fusedstep.book",
    "BatchNormalization": "fusedstep.book",
}


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    for folder in ("common", "ch06"):
        (tmp_path / folder).mkdir()
    (tmp_path / "common" / "optimizer.py").write_text(OPTIMIZERS.replace("VELOCITY", "old"))
    (tmp_path / "common" / "layers.py").write_text(LAYERS)
    (tmp_path / "common" / "trainer.py").write_text(TRAINER)
    return tmp_path / "ch06"


def run(*words: str, folder: Path, plain: bool = False) -> tuple[str, str, int]:
    command = [sys.executable, "-W", "error", *(() if plain else ("-m", "fusedstep.book")), *words]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the tests change modules within a second
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr, done.returncode


def change(chapter: Path, module: str, old: str, new: str) -> None:
    path = chapter.parent / "common" / f"{module}.py"
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))


def modules(chapter: Path) -> tuple[dict[str, str], str]:
    (chapter / "modules.py").write_text(MODULES)
    out, err, status = run("modules.py", folder=chapter)
    assert status == 0, err
    return dict(line.split() for line in out.splitlines()), err


@pytest.mark.parametrize("velocity", ["old", "new"])
def test_a_script_prints_the_same_numbers(chapter: Path, velocity: str) -> None:
    change(chapter, "optimizer", "a * a * old", f"a * a * {velocity}")
    (chapter / "script.py").write_text(TRAINING)
    plain = run("script.py", folder=chapter, plain=True)
    assert plain[1:] == ("", 0)
    assert len(plain[0].splitlines()) == 12
    assert run("script.py", folder=chapter) == plain


def test_our_classes_are_in_use(chapter: Path) -> None:
    assert modules(chapter) == (IN_USE, "")


def test_the_order_of_nesterovs_steps_is_found_out(chapter: Path) -> None:
    change(chapter, "optimizer", "a * a * old", "a * a * new")
    used, err = modules(chapter)
    assert err == ""
    assert used == {name: used[name] if name == "LegacyNesterov" else module for name, module in used.items()}
    assert used["LegacyNesterov"].startswith("fusedstep.book")


CHANGES = (
    ("optimizer", "self.lr = lr", "self.lr = lr / 2", "SGD", "gives other numbers than the book's"),
    (
        "optimizer",
        "params[k] -= self.lr * grads[k]",
        "params[k] = params[k] - self.lr * grads[k]",
        "SGD",
        "gives other numbers than the book's",
    ),
    ("optimizer", "lr=0.01", "lr=0.02", "SGD", "has other defaults than the book's"),
    ("optimizer", "self.lr = lr", "self.lr = lr; print(lr)", "SGD", "prints"),
    ("optimizer", "self.lr = lr", "print(lr, file=sys.stderr); self.lr = lr", "SGD", "prints"),
    ("optimizer", "self.lr = lr", "sys.exit(3)", "SGD", "raised SystemExit when tried"),
    ("optimizer", "self.lr * grads[k]", "self.rate * grads[k]", "SGD", "raised AttributeError when tried"),
    ("optimizer", "lr=0.01):", "*args, **more):", "SGD", "raised NameError when tried"),
    ("optimizer", "a = self.momentum", "a = 0.9", "Nesterov", "gives other numbers than the book's"),
    (
        "optimizer",
        "a * a * old",
        "a * (a * old - self.lr * grads[k])",
        "Nesterov",
        "gives other numbers than the book's",
    ),
    ("optimizer", "1e-7", "1e-8", "AdaGrad", "gives other numbers than the book's"),
    (
        "layers",
        "return x * self.mask",
        "return x * self.mask / (1 - self.dropout_ratio)",
        "Dropout",
        "gives other numbers than the book's",
    ),
    (
        "layers",
        "self.mask = np",
        "np.random.rand(); self.mask = np",
        "Dropout",
        "gives other numbers than the book's",
    ),
    ("layers", "1e-6", "1e-5", "BatchNormalization", "gives other numbers than the book's"),
    ("layers", "x.var(axis=0)", "x.var(axis=0, ddof=1)", "BatchNormalization", "gives other numbers than the book's"),
    ("layers", "self.dbeta, self.dgamma = ", "_ = ", "BatchNormalization", "raised AttributeError when tried"),
)


@pytest.mark.parametrize(("module", "old", "new", "name", "why"), CHANGES)
def test_it_is_told_where_our_class_changes_what_a_script_gets(
    chapter: Path, module: str, old: str, new: str, name: str, why: str
) -> None:
    change(chapter, module, old, new)
    used, err = modules(chapter)
    assert used == IN_USE
    assert err == f"fusedstep.book: the {name} of common.{module} {why}; fusedstep's takes its place\n"


@pytest.mark.parametrize(
    ("module", "old", "new", "name", "lack"),
    [
        ("optimizer", "lr=0.01", "lr=0.01, decay=0.0, *, clip=None", "SGD", "takes decay, clip"),
        ("optimizer", "self.lr = lr", "self.lr = lr; self.past = []", "SGD", "has past"),
        ("optimizer", "class SGD:", "class SGD:\n    def speed(self):\n        return self.lr\n", "SGD", "has speed"),
        ("layers", "class Dropout:", "class Dropout:\n    def reset(self):\n        pass\n", "Dropout", "has reset"),
    ],
)
def test_a_class_that_has_more_than_ours_stays(
    chapter: Path, module: str, old: str, new: str, name: str, lack: str
) -> None:
    change(chapter, module, old, new)
    used, err = modules(chapter)
    assert used == {**IN_USE, name: f"common.{module}"}
    assert err == f"fusedstep.book: keeps the {name} of common.{module}, which {lack}\n"


def test_defaults_that_are_arrays(chapter: Path) -> None:
    change(chapter, "layers", "running_mean=None", "running_mean=np.zeros(4)")
    used, err = modules(chapter)
    assert used == IN_USE
    assert "the BatchNormalization of common.layers has other defaults than the book's; fusedstep's takes" in err


def test_without_the_books_optimizers_ours_are_there(chapter: Path) -> None:
    script = "import os, sys\nsys.path.append(os.pardir)\nfrom common.optimizer import *\nfrom common.layers import *\n"
    (chapter / "script.py").write_text(script + "print(Adam.__module__, np.__name__, Affine.__module__)\n")
    expected = "fusedstep.book numpy common.layers\n"
    path = chapter.parent / "common" / "optimizer.py"
    path.write_text("class SGD:\n    pass\nraise ImportError('no GPU')\n")
    note = "fusedstep.book: common.optimizer raised ImportError: no GPU; fusedstep's takes its place\n"
    assert run("script.py", folder=chapter) == (expected, note, 0)
    path.unlink()
    assert run("script.py", folder=chapter) == (expected, "", 0)
    change(chapter, "layers", "import numpy as np", "import numpy as np; 1 / 0")
    out, err, status = run("script.py", folder=chapter)
    assert (out, status) == ("", 1)
    assert "ZeroDivisionError" in err


def test_rewriting_a_formula_changes_nothing(chapter: Path) -> None:
    change(chapter, "optimizer", "momentum=0.9", "momentum=0.9, legacy=False")
    change(chapter, "optimizer", "new = a * old - self.lr * grads[k]", "new = -(self.lr * grads[k] - old * a)")
    change(chapter, "layers", "self.gamma / self.std * dx", "dx / self.std * self.gamma")
    assert modules(chapter) == (IN_USE, "")


def test_the_second_volumes_lists(chapter: Path) -> None:
    path = chapter.parent / "common" / "optimizer.py"
    path.write_text(path.read_text().replace("params.keys()", "range(len(params))"))
    assert modules(chapter) == (IN_USE, "")


def test_modules_that_do_not_compute_with_numpy_stay(chapter: Path) -> None:
    change(chapter, "layers", "import numpy as np", "import numpy\nclass np:\n    random = numpy.random")
    used, err = modules(chapter)
    assert used == {**IN_USE, "Dropout": "common.layers", "BatchNormalization": "common.layers"}
    assert err == "fusedstep.book: keeps common.layers as it is, which computes without NumPy\n"


def test_numpys_generator_is_not_disturbed(chapter: Path) -> None:
    draws = "import os, sys\nimport numpy as np\nsys.path.append(os.pardir)\nnp.random.seed(7)\n"
    draws += "import common.layers, common.optimizer\nprint(np.random.rand(), np.random.randn())\n"
    (chapter / "script.py").write_text(draws)
    plain = run("script.py", folder=chapter, plain=True)
    assert plain[1:] == ("", 0)
    assert run("script.py", folder=chapter) == plain


def test_the_script_finds_what_plain_python_gives_it(chapter: Path) -> None:
    (chapter / "beside.py").write_text("value = 7\n")
    lines = "import sys, beside\nprint(__name__, sys.argv, sys.path[0], beside.value)\n"
    (chapter / "script.py").write_text(lines + "print('last words', file=sys.stderr)\nsys.exit(5)\n")
    for words in (("script.py", "--help", "-x", "a b"), (str(chapter / "script.py"),)):
        plain = run(*words, folder=chapter, plain=True)
        assert plain[1:] == ("last words\n", 5)
        assert run(*words, folder=chapter) == plain


def test_an_error_in_the_script_is_shown_as_python_shows_it(chapter: Path) -> None:
    (chapter / "script.py").write_text("def f():\n    return 1 / 0\nf()\n")
    out, err, status = run("script.py", folder=chapter)
    assert (out, status) == ("", 1)
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("ZeroDivisionError: division by zero\n")
    assert 'script.py", line 2, in f\n' in err


def test_wrong_calls(chapter: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (chapter / "script.py").write_text("print('ran')\n")
    elsewhere = tmp_path / "elsewhere" / "below"
    elsewhere.mkdir(parents=True)
    importing = chapter / "importing.py"
    importing.write_text("import os, sys\nsys.path.append(os.pardir)\nfrom common.optimizer import *\nprint('ran')\n")
    alone = tmp_path_factory.mktemp("alone") / "script.py"  # above which no folder has the book's package
    alone.write_text("pass\n")
    for words, folder, message in (
        ((), chapter, "no script given, expected python -m fusedstep.book [--lazy] SCRIPT [ARGS...]"),
        (("nothing.py",), chapter, "there is no file nothing.py"),
        ((".",), chapter, "there is no file ."),
        ((str(importing),), elsewhere, "run it from its folder, as after cd ch06"),
        (("script.py",), alone.parent, "run it from its folder, as after cd ch06"),
    ):
        out, err, status = run(*words, folder=folder)
        assert (out, status, err.count("\n")) == ("", 2, 1)
        assert err.startswith("fusedstep.book: ")
        assert message in err
    assert run("importing.py", folder=chapter) == ("ran\n", "", 0)
    assert run("script.py", folder=chapter) == ("ran\n", "", 0)


def test_the_package_is_where_the_script_says(chapter: Path) -> None:
    finding = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), os.pardir))\n"
    finding += "from common.optimizer import *\nprint(SGD.__module__, os.path.isabs(__file__), sys.argv)\n"
    (chapter / "script.py").write_text(finding)
    for words, folder in ((("script.py",), chapter), (("ch06/script.py",), chapter.parent)):
        assert run(*words, folder=folder) == (f"fusedstep.book True {list(words)}\n", "", 0)
    below = chapter / "exercises"
    below.mkdir()
    (below / "script.py").write_text("import sys\nsys.path.append('../..')\nimport common.optimizer\nprint('ran')\n")
    assert run("script.py", folder=below) == ("ran\n", "", 0)
    (below / "script.py").write_text("import commons\n")
    assert "ModuleNotFoundError: No module named 'commons'" in run("script.py", folder=below)[1]


def test_the_script_stays_main_to_the_end(chapter: Path) -> None:
    lines = "import atexit, pickle\nclass C:\n    pass\natexit.register(lambda: print(len(pickle.dumps(C())) > 0))\n"
    (chapter / "script.py").write_text(lines)
    assert run("script.py", folder=chapter) == ("True\n", "", 0)


def test_help() -> None:
    out, err, status = run("--help", folder=Path.cwd())
    assert (err, status) == ("", 0)
    assert out.startswith("usage: python -m fusedstep.book [--lazy] SCRIPT [ARGS...]\n")
