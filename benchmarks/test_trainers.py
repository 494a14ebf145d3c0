"""The shares of trainings: the measurement, its file, and the table of a report."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers, pictures, report, trainers
from benchmarks.results import Run


@pytest.mark.filterwarnings("ignore")  # of these libraries' sources
@pytest.mark.parametrize("training", trainers.TRAININGS, ids=lambda training: training.name)
def test_both_sides_iterate(training: trainers.Training, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := peers.missing(training.package):
        pytest.skip(why)
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # by default it would be TensorFlow
    if training.package == "keras" and importlib.import_module("keras").backend.backend() != "torch":
        pytest.skip("another test has chosen a backend that can't train")
    monkeypatch.setattr(trainers, "SECONDS", 0.0)
    shares = trainers.measure(training, 2)
    assert shares.work.strip()
    for share in (shares.share_before, shares.share_after):
        assert 0 < share < 1


def test_a_file_becomes_a_table(tmp_path: Path) -> None:
    path = tmp_path / "trainers.json"
    made = [trainers.Shares("A", "a batch", 2e-3, 0.5, 1.25e-3, 0.2)]
    trainers.write_shares(path, made)
    shares, subtitle = trainers.read_shares(path)
    assert shares == made
    assert "fusedstep" in subtitle
    row = "| A | a batch | 50%, 20% | 4 | 1.60 |"
    assert trainers.table(made)[2:] == [row]
    assert row in report.markdown(Run([], "about", [], ""), [], made)
    pictures.draw_trainings(shares, subtitle, tmp_path / "trainings.png")
    assert (tmp_path / "trainings.png").read_bytes().startswith(b"\x89PNG")
    path.write_text('{"origin": {}, "shares": [{"name": "A"}]}')
    with pytest.raises(ValueError, match=r"is not a file of benchmarks\.trainers"):
        trainers.read_shares(path)


def test_a_clock_counts_the_time_in_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 3.0, 10.0, 11.0])
    monkeypatch.setattr("benchmarks.trainers.time.perf_counter", lambda: next(now))
    clock = trainers.Clock()

    class Optimizer:
        def step(self, value: float) -> float:
            return 2 * value

    clock.watch(Optimizer, "step")
    assert Optimizer().step(4) == 8
    with clock.running():
        pass
    np.testing.assert_equal(clock.seconds, 3.0)
