"""Every example on a few steps: it runs without a warning, writes its picture, and says where."""

import functools
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# What makes each script as short as it can be.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "activations": (),
    "batch_norm": ("--epochs", "1"),
    "compare_optimizers": ("--epochs", "1"),
    "digits": ("--epochs", "1", "--hidden", "20"),
    "digits_mpi": ("--epochs", "1", "--hidden", "20"),
    "dropout": ("--epochs", "1"),
    "hyperparameters": ("--trials", "3", "--epochs", "1"),
    "initial_weights": ("--epochs", "1"),
    "learning_rates": ("--epochs", "1"),
    "one_step": ("--size", "1000", "--steps", "2"),
    "torch_policy": ("--own", "--steps", "2048", "--runs", "1"),
    "trajectories": ("--iterations", "3"),
    "weight_decay": ("--epochs", "1"),
}
NEEDED = ("matplotlib", "optuna", "sklearn", "threadpoolctl", "tqdm")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra `examples` lacks {', '.join(MISSING)}")


def test_every_script_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SCRIPTS)


@functools.cache
def has_mpi() -> bool:
    # In another process, because importing it initialises MPI.
    command = [sys.executable, "-c", "from mpi4py import MPI"]
    return (
        importlib.util.find_spec("mpi4py") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def needs(name: str) -> list[pytest.MarkDecorator]:
    if name.startswith("torch_") and importlib.util.find_spec("torch") is None:
        return [pytest.mark.skip(reason="needs PyTorch")]
    if name.endswith("_mpi") and not has_mpi():
        return [pytest.mark.skip(reason="needs mpi4py and an MPI library, of the extra `mpi`")]
    return []


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in SCRIPTS])
def test_it_writes_a_picture(name: str, tmp_path: Path) -> None:
    from matplotlib.image import imread

    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *SCRIPTS[name]]
    # As without a screen: a script that asked for a window would fail.
    environment = os.environ | {"MPLBACKEND": "module://no_screen"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    out = (tmp_path / f"{name}.png").resolve()
    table, last = done.stdout.rstrip("\n").rsplit("\n", 1)
    assert table
    assert last == f"Picture: {out}"
    picture = imread(out)[..., :3]
    height, width, _ = picture.shape
    assert min(height, width) > 400
    # More than a headline on white: each quarter has something drawn in it.
    for part in (picture[: height // 2], picture[height // 2 :]):
        for quarter in (part[:, : width // 2], part[:, width // 2 :]):
            assert quarter.std() > 0.01


def test_out_and_gif_say_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    command = [sys.executable, str(EXAMPLES / "trajectories.py"), "--iterations", "2", "--out", "pictures/a.svg"]
    done = subprocess.run([*command, "--gif", "b.gif"], capture_output=True, text=True, check=True, cwd=tmp_path)
    folder = tmp_path.resolve()
    assert done.stdout.splitlines()[-2:] == [
        f"Picture: {folder / 'pictures' / 'a.svg'}",
        f"Animation: {folder / 'b.gif'}",
    ]
    assert (folder / "pictures" / "a.svg").read_text().startswith("<?xml")
    assert (folder / "b.gif").read_bytes().startswith(b"GIF")


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in SCRIPTS])
@pytest.mark.parametrize("package", ["fusedstep", "matplotlib"])
def test_a_line_says_what_is_missing(name: str, package: str, tmp_path: Path) -> None:
    script = EXAMPLES / f"{name}.py"
    # Not by a folder in PYTHONPATH, which an editable install comes before.
    setting = f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv = [{str(script)!r}]"
    run = f"sys.path.insert(0, {str(EXAMPLES)!r}); runpy.run_path({str(script)!r}, run_name='__main__')"
    command = [sys.executable, "-c", f"{setting}; {run}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert not done.stdout
    install = f'in {EXAMPLES.parent}: python -m pip install ".[examples]"'
    assert done.stderr == f"{name}.py: error: {package} is not installed; {install}\n"


def names_beside(ends: list[float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The lower and upper edges of names beside curves that end there, in parts of the axes' height."""
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text

    monkeypatch.syspath_prepend(EXAMPLES)
    from lib.style import label_ends

    ax = Figure().add_axes((0.1, 0.1, 0.6, 0.8))
    ax.set(yscale="log", xlim=(0, 1), ylim=(1e-3, 1))
    label_ends(ax, [(f"rule {i}", "black", end) for i, end in enumerate(ends)])
    names = [child for child in ax.get_children() if isinstance(child, Annotation)]
    assert [name.get_text() for name in names] == [f"rule {i}" for i in range(len(ends))]
    assert all(name.get_window_extent().x0 >= ax.bbox.x1 for name in names)
    texts = [Text.get_window_extent(name).transformed(ax.transAxes.inverted()) for name in names]
    return [(text.y0, text.y1) for text in texts]


@pytest.mark.parametrize(
    "ends",
    [
        [0.1],
        [1e-3] * 12,
        [1.0] * 12,
        [0.0, 1e-9, 5.0, 0.03],  # beyond the limits
        [0.011, 0.1, 0.0101, 0.0099, 0.5, 0.01],
        [10 ** (-3 * i / 11) for i in range(12)],
    ],
)
def test_names_beside_curves_stay_apart_and_in_order(ends: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    spans = names_beside(ends, monkeypatch)
    order = sorted(range(len(ends)), key=lambda i: (ends[i], i))
    for lower, upper in itertools.pairwise(order):
        assert spans[lower][1] <= spans[upper][0]
    half = max(high - low for low, high in spans) / 2
    assert min(low for low, _ in spans) >= -half - 1e-9
    assert max(high for _, high in spans) <= 1 + half + 1e-9
    if len(ends) == 1:
        assert sum(spans[0]) / 2 == pytest.approx(2 / 3, abs=half / 5)


def test_a_policy_by_ppo(tmp_path: Path) -> None:
    for needed in ("torch", "stable_baselines3", "gymnasium"):
        pytest.importorskip(needed, reason="trains by stable-baselines3 where that is installed")
    command = [sys.executable, str(EXAMPLES / "torch_policy.py"), "--steps", "2048", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["PyTorch", "fusedstep", "Picture:"]
    assert (tmp_path / "torch_policy.png").stat().st_size > 10_000


def on_two_ranks(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # The one beside Python is of the MPI that the extra installs; another would start processes that are alone.
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if mpiexec is None or not has_mpi():
        pytest.skip("needs mpi4py and, beside Python, mpiexec, of the extra `mpi`")
    command = [mpiexec, "-n", "2", sys.executable, "-W", "error", str(EXAMPLES / "digits_mpi.py"), *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=cwd, timeout=300
    )


def test_two_ranks_train_as_one_does(tmp_path: Path) -> None:
    done = on_two_ranks("--epochs", "2", "--hidden", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert sum("handwritten digits" in line for line in lines) == 1
    cells = [line.replace("|", " ").split() for line in lines]
    one, two = (next(row for row in cells if row[:1] == [ranks]) for ranks in "12")
    assert one[1:3] == two[1:3]
    kilobytes, of_both, loss, _, params = (float(cell.rstrip("%")) for cell in two[6:])
    # Rounding is far below: a slice that is left out or counted twice shows in the first digits.
    assert loss < 1e-9
    assert params < 1e-9
    assert float(one[6]) == of_both
    assert kilobytes < 0.6 * of_both
    assert (tmp_path / "digits_mpi.png").stat().st_size > 10_000
    assert lines[-1] == f"Picture: {tmp_path.resolve() / 'digits_mpi.png'}"


def test_one_rank_says_what_is_wrong_and_all_end(tmp_path: Path) -> None:
    done = on_two_ranks("--batch-size", "99", cwd=tmp_path)
    assert done.returncode == 1
    assert "digits_mpi.py: error: --batch-size 99 is not a multiple of 2" in done.stderr
    assert done.stderr.count("error") == 1


@pytest.mark.parametrize("error", ["ImportError", "RuntimeError"])
def test_a_line_says_that_mpi_is_missing(error: str, tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text(f"raise {error}('not here')\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "digits_mpi.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == (
        'digits_mpi.py needs MPI: pip install ".[examples,mpi]", then mpiexec -n 2 python examples/digits_mpi.py\n'
    )


def test_it_says_in_a_line_what_it_cannot_take(tmp_path: Path) -> None:
    for name in SCRIPTS:
        for arguments in (("--out", "picture.txt"), ("--out", str(tmp_path / "no" / "picture.png")), ("--seed", "x")):
            command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert f"{name}.py: error: argument {arguments[0]}: " in done.stderr
