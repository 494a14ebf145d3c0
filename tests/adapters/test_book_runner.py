"""`python -m fusedstep.book`, on a small folder that is laid out as the book's is."""

from pathlib import Path

import pytest

from book_chapter import change, made, run

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

OTHER_NUMBERS = "other numbers than the book's"
NOTHING = "fusedstep.book: nothing was replaced\n"
OPTIMIZERS_ONLY = "fusedstep.book: replaced SGD, Nesterov, AdaGrad of common.optimizer\n"


def line(*kept: str, why: str = "") -> str:
    """What the runner says of MODULES, where something is kept."""
    layers, optimizers = (
        ", ".join(name for name in names if name not in kept)
        for names in (("BatchNormalization", "Dropout"), ("SGD", "Nesterov", "AdaGrad"))
    )
    text = f"fusedstep.book: replaced {optimizers} of common.optimizer and {layers} of common.layers"
    return text + (f"; kept {' and '.join(kept)} ({why})\n" if kept else "\n")


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    return made(tmp_path)


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
    told = "replaced BatchNormalization, Dropout of common.layers and SGD, Nesterov, AdaGrad of common.optimizer"
    assert run("script.py", folder=chapter) == (plain[0], f"fusedstep.book: {told}\n", 0)


def test_our_classes_are_in_use(chapter: Path) -> None:
    assert modules(chapter) == (IN_USE, line())


def test_the_order_of_nesterovs_steps_is_found_out(chapter: Path) -> None:
    change(chapter, "optimizer", "a * a * old", "a * a * new")
    used, err = modules(chapter)
    assert err == line()
    assert used == {name: used[name] if name == "LegacyNesterov" else module for name, module in used.items()}
    assert used["LegacyNesterov"].startswith("fusedstep.book")


CHANGES = (
    ("optimizer", "self.lr = lr", "self.lr = lr / 2", "SGD", OTHER_NUMBERS),
    (
        "optimizer",
        "params[k] -= self.lr * grads[k]",
        "params[k] = params[k] - self.lr * grads[k]",
        "SGD",
        OTHER_NUMBERS,
    ),
    ("optimizer", "lr=0.01", "lr=0.02", "SGD", "other defaults than the book's"),
    ("optimizer", "self.lr = lr", "self.lr = lr; print(lr)", "SGD", "prints"),
    ("optimizer", "self.lr = lr", "print(lr, file=sys.stderr); self.lr = lr", "SGD", "prints"),
    ("optimizer", "self.lr = lr", "sys.exit(3)", "SGD", "raised SystemExit when tried"),
    ("optimizer", "self.lr * grads[k]", "self.rate * grads[k]", "SGD", "raised AttributeError when tried"),
    ("optimizer", "lr=0.01):", "*args, **more):", "SGD", "raised NameError when tried"),
    ("optimizer", "a = self.momentum", "a = 0.9", "Nesterov", OTHER_NUMBERS),
    (
        "optimizer",
        "a * a * old",
        "a * (a * old - self.lr * grads[k])",
        "Nesterov",
        OTHER_NUMBERS,
    ),
    ("optimizer", "1e-7", "1e-8", "AdaGrad", OTHER_NUMBERS),
    (
        "layers",
        "return x * self.mask",
        "return x * self.mask / (1 - self.dropout_ratio)",
        "Dropout",
        OTHER_NUMBERS,
    ),
    (
        "layers",
        "self.mask = np",
        "np.random.rand(); self.mask = np",
        "Dropout",
        OTHER_NUMBERS,
    ),
    ("layers", "1e-6", "1e-5", "BatchNormalization", OTHER_NUMBERS),
    ("layers", "x.var(axis=0)", "x.var(axis=0, ddof=1)", "BatchNormalization", OTHER_NUMBERS),
    ("layers", "self.dbeta, self.dgamma = ", "_ = ", "BatchNormalization", "raised AttributeError when tried"),
    ("optimizer", "lr=0.01", "lr=0.01, decay=0.0, *, clip=None", "SGD", "takes clip, decay"),
    ("optimizer", "self.lr = lr", "self.lr = lr; self.past = []", "SGD", "has past"),
    ("optimizer", "class SGD:", "class SGD:\n    def speed(self):\n        return self.lr\n", "SGD", "has speed"),
    ("layers", "class Dropout:", "class Dropout:\n    def reset(self):\n        pass\n", "Dropout", "has reset"),
    (
        "layers",
        "running_mean=None",
        "running_mean=np.zeros(4)",
        "BatchNormalization",
        "other defaults than the book's",
    ),
)


@pytest.mark.parametrize(("module", "old", "new", "name", "why"), CHANGES)
def test_what_a_reader_has_changed_stays(chapter: Path, module: str, old: str, new: str, name: str, why: str) -> None:
    change(chapter, module, old, new)
    used, err = modules(chapter)
    assert used == {**IN_USE, name: f"common.{module}"}
    assert err == line(name, why=why)


def test_reasons_are_told_once(chapter: Path) -> None:
    change(chapter, "optimizer", "self.lr = lr", "self.lr = lr / 2")
    change(chapter, "optimizer", "1e-7", "1e-8")
    used, err = modules(chapter)
    assert used == {**IN_USE, "SGD": "common.optimizer", "AdaGrad": "common.optimizer"}
    assert err == line("SGD", "AdaGrad", why=OTHER_NUMBERS)
    change(chapter, "layers", "1e-6", "1e-5")
    change(chapter, "layers", "self.mask = np", "print(); self.mask = np")
    change(chapter, "optimizer", "a * a * old", "0 * old")
    told = "nothing was replaced; kept SGD, Nesterov, AdaGrad and BatchNormalization (other numbers than the book's)"
    assert run("modules.py", folder=chapter)[1] == f"fusedstep.book: {told}, Dropout (prints)\n"


def test_without_the_books_optimizers_ours_are_there(chapter: Path) -> None:
    script = "import os, sys\nsys.path.append(os.pardir)\nfrom common.optimizer import *\nfrom common.layers import *\n"
    (chapter / "script.py").write_text(script + "print(Adam.__module__, np.__name__, Affine.__module__)\n")
    expected = "fusedstep.book numpy common.layers\n"
    path = chapter.parent / "common" / "optimizer.py"
    path.write_text("class SGD:\n    pass\nraise ImportError('no GPU,\\n  none')\n")
    told = "fusedstep.book: replaced all of common.optimizer ({}) and BatchNormalization, Dropout of common.layers\n"
    assert run("script.py", folder=chapter) == (expected, told.format("raised ImportError: no GPU, none"), 0)
    path.unlink()
    assert run("script.py", folder=chapter) == (expected, told.format("not found"), 0)
    change(chapter, "layers", "import numpy as np", "import numpy as np; 1 / 0")
    out, err, status = run("script.py", folder=chapter)
    assert (out, status) == ("", 1)
    assert "ZeroDivisionError" in err


def test_rewriting_a_formula_changes_nothing(chapter: Path) -> None:
    change(chapter, "optimizer", "momentum=0.9", "momentum=0.9, legacy=False")
    change(chapter, "optimizer", "new = a * old - self.lr * grads[k]", "new = -(self.lr * grads[k] - old * a)")
    change(chapter, "layers", "self.gamma / self.std * dx", "dx / self.std * self.gamma")
    assert modules(chapter) == (IN_USE, line())


def test_the_second_volumes_lists(chapter: Path) -> None:
    path = chapter.parent / "common" / "optimizer.py"
    path.write_text(path.read_text().replace("params.keys()", "range(len(params))"))
    assert modules(chapter) == (IN_USE, line())


def test_modules_that_do_not_compute_with_numpy_stay(chapter: Path) -> None:
    change(chapter, "layers", "import numpy as np", "import numpy\nclass np:\n    random = numpy.random")
    used, err = modules(chapter)
    assert used == {**IN_USE, "Dropout": "common.layers", "BatchNormalization": "common.layers"}
    told = "replaced SGD, Nesterov, AdaGrad of common.optimizer; kept common.layers (computes without NumPy)"
    assert err == f"fusedstep.book: {told}\n"


def test_numpys_generator_is_not_disturbed(chapter: Path) -> None:
    draws = "import os, sys\nimport numpy as np\nsys.path.append(os.pardir)\nnp.random.seed(7)\n"
    draws += "import common.layers, common.optimizer\nprint(np.random.rand(), np.random.randn())\n"
    (chapter / "script.py").write_text(draws)
    plain = run("script.py", folder=chapter, plain=True)
    assert plain[1:] == ("", 0)
    out, err, status = run("script.py", folder=chapter)
    assert (out, status) == (plain[0], 0)
    assert "replaced BatchNormalization, Dropout" in err


def test_the_script_finds_what_plain_python_gives_it(chapter: Path) -> None:
    (chapter / "beside.py").write_text("value = 7\n")
    lines = "import sys, beside\nprint(__name__, sys.argv, sys.path[0], beside.value)\n"
    (chapter / "script.py").write_text(lines + "print('last words', file=sys.stderr)\nsys.exit(5)\n")
    for words in (("script.py", "--help", "-x", "a b"), (str(chapter / "script.py"),)):
        plain = run(*words, folder=chapter, plain=True)
        assert plain[1:] == ("last words\n", 5)
        assert run(*words, folder=chapter) == (plain[0], f"last words\n{NOTHING}", 5)


def test_an_error_in_the_script_is_shown_as_python_shows_it(chapter: Path) -> None:
    (chapter / "script.py").write_text("def f():\n    return 1 / 0\nf()\n")
    out, err, status = run("script.py", folder=chapter)
    assert (out, status) == ("", 1)
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(f"ZeroDivisionError: division by zero\n{NOTHING}")
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
    assert run("importing.py", folder=chapter) == ("ran\n", OPTIMIZERS_ONLY, 0)
    assert run("script.py", folder=chapter) == ("ran\n", NOTHING, 0)


def test_the_package_is_where_the_script_says(chapter: Path) -> None:
    finding = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), os.pardir))\n"
    finding += "from common.optimizer import *\nprint(SGD.__module__, os.path.isabs(__file__), sys.argv)\n"
    (chapter / "script.py").write_text(finding)
    for words, folder in ((("script.py",), chapter), (("ch06/script.py",), chapter.parent)):
        assert run(*words, folder=folder) == (f"fusedstep.book True {list(words)}\n", OPTIMIZERS_ONLY, 0)
    below = chapter / "exercises"
    below.mkdir()
    (below / "script.py").write_text("import sys\nsys.path.append('../..')\nimport common.optimizer\nprint('ran')\n")
    assert run("script.py", folder=below) == ("ran\n", OPTIMIZERS_ONLY, 0)
    (below / "script.py").write_text("import commons\n")
    assert "ModuleNotFoundError: No module named 'commons'" in run("script.py", folder=below)[1]


def test_the_script_stays_main_to_the_end(chapter: Path) -> None:
    lines = "import atexit, pickle\nclass C:\n    pass\natexit.register(lambda: print(len(pickle.dumps(C())) > 0))\n"
    (chapter / "script.py").write_text(lines)
    assert run("script.py", folder=chapter) == ("True\n", NOTHING, 0)


def test_help() -> None:
    out, err, status = run("--help", folder=Path.cwd())
    assert (err, status) == ("", 0)
    assert out.startswith("usage: python -m fusedstep.book [--lazy] SCRIPT [ARGS...]\n")
