"""`fusedstep.book.install` in notebooks, and when it and the runner write their line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from book_chapter import change, made, run

OPTIMIZERS = "SGD, Nesterov, AdaGrad of common.optimizer"
LAYERS = "BatchNormalization, Dropout of common.layers"
TOLD_OPTIMIZERS = f"fusedstep.book: replaced {OPTIMIZERS}\n"
TOLD = f"fusedstep.book: replaced {OPTIMIZERS} and {LAYERS}\n"
NOTHING = "fusedstep.book: nothing was replaced\n"

# Cells run one after another in a __main__ of their own, as a notebook's do.
NOTEBOOK = """
import sys, types
main = sys.modules["__main__"] = types.ModuleType("__main__")
main.__dict__.update(__builtins__=__builtins__)
hooks = []
for number, cell in enumerate(CELLS):
    try:
        exec(compile(cell, f"cell {number}", "exec"), main.__dict__)
    except ZeroDivisionError:
        print(f"an error in cell {number}", file=sys.stderr)
    for hook in hooks:
        hook("its result")
"""
# All that install needs of IPython.
SHELL = """
import sys, types
def register(event, hook):
    assert event == "post_run_cell"
    main.hooks.append(hook)
shell = types.SimpleNamespace(events=types.SimpleNamespace(register=register))
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
"""
PATH = "import os, sys\nsys.path.append(os.pardir)\n"
IMPORTS = (
    "from common.optimizer import *\nfrom common import layers, trainer\nfrom common.layers import Dropout as Drop\n"
)
INSTALL = "import fusedstep.book\nfusedstep.book.install()\n"
WHERE = (
    "print(*(thing.__module__ for thing in (SGD, trainer.AdaGrad, layers.BatchNormalization, Drop, layers.Affine)))\n"
)
IN_PLACE = f"{' '.join(['fusedstep.book'] * 4)} common.layers\n"


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    return made(tmp_path)


def script(chapter: Path, text: str, *, plain: bool = False) -> tuple[str, str, int]:
    (chapter / "script.py").write_text(text)
    return run("script.py", folder=chapter, plain=plain)


def notebook(chapter: Path, *cells: str, shell: bool = False) -> tuple[str, str]:
    text = NOTEBOOK.replace("CELLS", repr(cells))
    if shell:
        text = text.replace("hooks = []", f"hooks = main.hooks = []\n{SHELL}")
    out, err, status = script(chapter, text, plain=True)
    assert status == 0, err
    return out, err


def test_what_is_imported_later(chapter: Path) -> None:
    assert notebook(chapter, PATH + INSTALL, IMPORTS, WHERE) == (IN_PLACE, TOLD)


def test_what_was_imported_before(chapter: Path) -> None:
    made_before = "sgd = SGD()\nclass Mine(AdaGrad): ...\n"
    which = (
        "print(type(sgd).__module__, Mine.__mro__[1].__module__, type(trainer.Trainer('sgd').optimizer).__module__)\n"
    )
    out, err = notebook(
        chapter, PATH + IMPORTS + made_before, INSTALL, "print(end='', file=sys.stderr)\n" + WHERE + which
    )
    assert out == f"{IN_PLACE}common.optimizer common.optimizer fusedstep.book\n"
    assert err == TOLD


def test_what_was_changed_stays(chapter: Path) -> None:
    change(chapter, "layers", "1e-6", "1e-5")
    expected = "fusedstep.book fusedstep.book common.layers fusedstep.book common.layers\n"
    told = (
        f"replaced {OPTIMIZERS} and Dropout of common.layers; kept BatchNormalization (other numbers than the book's)"
    )
    for cells in ((PATH + INSTALL, IMPORTS, WHERE), (PATH + IMPORTS, INSTALL, WHERE)):
        assert notebook(chapter, *cells) == (expected, f"fusedstep.book: {told}\n")


def test_a_second_call(chapter: Path) -> None:
    finders = "print(sum(type(finder).__module__ == 'fusedstep.book._substitution' for finder in sys.meta_path))\n"
    assert notebook(chapter, PATH + IMPORTS, INSTALL, INSTALL + WHERE + finders) == (f"{IN_PLACE}1\n", TOLD * 2)
    edit = "from pathlib import Path\npath = Path('../common/optimizer.py')\n"
    edit += "path.write_text(path.read_text().replace('1e-7', '1e-8'))\n"
    reload = "import importlib, common.optimizer\nimportlib.reload(common.optimizer)\nfrom common.optimizer import *\n"
    where = "print(SGD.__module__, AdaGrad.__module__)\n"
    told = f"fusedstep.book: replaced SGD, Nesterov of common.optimizer and {LAYERS}; "
    told += "kept AdaGrad (other numbers than the book's)\n"
    out, err = notebook(chapter, PATH + INSTALL + IMPORTS, edit, reload, INSTALL, where)
    assert (out, err) == ("fusedstep.book common.optimizer\n", told)


def test_cells_of_ipython(chapter: Path) -> None:
    """A cell that has brought something new has the line below it, whether it ends or fails."""
    mark = "print('a cell', file=sys.stderr)\n"
    cells = (
        INSTALL,
        PATH + mark + "from common.optimizer import *\n",
        mark + "import common.trainer\n",
        mark + IMPORTS + "1 / 0\n",
        mark,
        WHERE,
    )
    yet = "fusedstep.book: nothing was replaced yet\n"
    error = "an error in cell 3\n"
    assert notebook(chapter, *cells, shell=True) == (
        IN_PLACE,
        f"{yet}a cell\n{TOLD_OPTIMIZERS}a cell\na cell\n{error}{TOLD}a cell\n",
    )


def test_lazy(chapter: Path) -> None:
    cells = f"{PATH}{IMPORTS}import fusedstep.book", "fusedstep.book.install(lazy=True)", "print(SGD().lazy)"
    assert notebook(chapter, *cells, "fusedstep.book.install()", "print(SGD().lazy)") == ("True\nFalse\n", TOLD * 2)


# A shell may have started the tests with interrupts ignored, which processes inherit.
INTERRUPT = "import signal\nsignal.signal(2, signal.default_int_handler)\nos.kill(os.getpid(), 2)\n"
EXIT = "import atexit\natexit.register(print, 'last words', file=sys.stderr)\n"
ERROR = "ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize(
    ("imports", "rest", "err", "status"),
    [
        ("from common.optimizer import *\n", EXIT + "sys.exit('bye')\n", f"{TOLD_OPTIMIZERS}bye\nlast words\n", 1),
        ("from common.optimizer import *\n", "os._exit(7)\n", TOLD_OPTIMIZERS, 7),
        ("from common.optimizer import *\n", INTERRUPT, f"{TOLD_OPTIMIZERS}KeyboardInterrupt\n", -2),
        ("", EXIT + "1 / 0\n", f"{ERROR}last words\n{NOTHING}", 1),
        ("", INTERRUPT, f"KeyboardInterrupt\n{NOTHING}", -2),
        ("", f"def f():\n    {IMPORTS.splitlines()[1]}\nf()\n1 / 0\n", f"{ERROR}{TOLD.replace(OPTIMIZERS, '')}", 1),
    ],
)
def test_the_end_of_a_script(chapter: Path, imports: str, rest: str, err: str, status: int) -> None:
    got = script(chapter, PATH + imports + rest)
    shown = [line for line in got[1].splitlines(keepends=True) if not line.startswith((" ", "Traceback"))]
    if "def f" in rest:  # the layers first, then the trainer's optimizers
        err = f"{ERROR}fusedstep.book: replaced {LAYERS} and {OPTIMIZERS}\n"
    assert ("".join(shown), got[2]) == (err, status)


def test_later_imports_have_a_line_of_their_own(chapter: Path) -> None:
    text = PATH + "from common.optimizer import *\nprint('trains', file=sys.stderr)\n"
    text += "exec('import common.layers')\nprint('trained', file=sys.stderr)\n"
    assert script(chapter, text) == ("", f"{TOLD_OPTIMIZERS}trains\ntrained\n{TOLD}", 0)


CHILDREN = """
import multiprocessing, threading, warnings
warnings.simplefilter('ignore')  # newer Pythons', of forks
from common.optimizer import *

def work(*_):
    import common.layers
    return common.layers.Dropout.__module__

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(work, range(2)))
    pid = os.fork()
    if pid == 0:
        sys.exit()
    os.waitpid(pid, 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


def test_other_processes_and_threads(chapter: Path) -> None:
    out = "['fusedstep.book', 'fusedstep.book']\n"
    assert script(chapter, PATH + CHILDREN) == (out, f"{TOLD_OPTIMIZERS}{TOLD}", 0)
    # A new process runs what is at the top of the script, which is not for it to tell.
    text = INSTALL + PATH + CHILDREN.replace('"fork"', '"spawn"')
    assert script(chapter, text, plain=True) == (out, TOLD, 0)


@pytest.mark.parametrize("end", ["sys.stdout = None", "sys.stdout.close()", "sys.stderr.close()", "sys.stderr = None"])
def test_streams_that_are_gone(chapter: Path, end: str) -> None:
    out, err, status = script(chapter, f"{PATH}{end}\nimport common.optimizer\n")
    assert (out, err, status) == ("", "" if "stderr" in end else TOLD_OPTIMIZERS, 0)


def test_the_line_is_not_within_what_the_script_prints(chapter: Path) -> None:
    (chapter / "script.py").write_text(f"print('begins')\n{PATH}import common.optimizer\nprint('ends')\n")
    command = [sys.executable, "-m", "fusedstep.book", "script.py"]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, cwd=chapter, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    assert done.stdout == f"begins\n{TOLD_OPTIMIZERS}ends\n"
