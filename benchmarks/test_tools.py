"""The tools that measure in turns and report: their arithmetic, and files that pass from one to the next."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from benchmarks import compare, every_rule, floors, guard, pairs, peers, pictures, report, results, turns
from benchmarks.workloads import BOOK, LIMIT, OURS, THREADS

RATIO = turns.Ratio(2.0, 1.9, 2.2, 2e-3, 1e-3)


class _Clock:
    """A time module whose time passes as works say."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def works(self, *seconds: float) -> list[turns.Work]:
        return [turns.Work(partial(self.sleep, s), threads=1) for s in seconds]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(turns, "time", clock)
    return clock


def test_the_fastest_of_the_alternatives_counts(clock: _Clock) -> None:
    ratio = turns.measure((clock.works(0.06, 0.03), clock.works(0.01, 0.05)), 2)
    shown = (ratio.low, ratio.median, ratio.high, ratio.numerator, ratio.denominator)
    np.testing.assert_allclose(shown, (3, 3, 3, 0.03, 0.01))


def test_a_slow_moment_slows_both(clock: _Clock) -> None:
    def run(share: float) -> None:
        clock.sleep(share * (0.001 if clock.now < 0.5 else 0.003))

    ratio = turns.measure(([turns.Work(partial(run, 4))], [turns.Work(partial(run, 2))]), 9)
    assert ratio.median == pytest.approx(2)


def test_setup_goes_before_each_call(clock: _Clock) -> None:
    calls: list[str] = []

    def call(name: str, seconds: float) -> None:
        calls.append(name)
        clock.sleep(seconds)

    work = turns.Work(partial(call, "run", 0.01), 1, partial(call, "setup", 1.0))
    assert turns.measure(([work], clock.works(0.01)), 2).median == pytest.approx(1)
    assert calls[::2] == ["setup"] * (len(calls) // 2)
    assert calls[1::2] == ["run"] * (len(calls) // 2)


def test_names_are_unique_and_verdicts_have_a_direction() -> None:
    for names in ([floor.name for floor in floors.floors()], [pair.name for pair in compare.all_pairs()]):
        assert len(set(names)) == len(names)
    least = floors.Floor("least", 1, 2, lambda: ([], []))
    most = floors.Floor("most", 2, 1, lambda: ([], []), at_most=True)
    assert [guard.verdict(least, x) for x in (0.9, 1, 2)] == ["falls short", "holds", "reaches the aim"]
    assert [guard.verdict(most, x) for x in (2.1, 2, 1)] == ["falls short", "holds", "reaches the aim"]
    for floor in floors.floors():
        assert (floor.aim <= floor.floor) if floor.at_most else (floor.aim >= floor.floor), floor.name


def test_pairs_without_a_row_of_their_own() -> None:
    assert pairs.not_taken("float32") is None
    works = [*pairs.narrow("float32", 200_000, 1), *pairs.subnormal(), *pairs.products()]
    works += [*pairs.options("actor-critic", tensors=False), *pairs.whole_step(LIMIT, OURS, "actor-critic", [1], [1])]
    for (work,) in works:
        if work.setup:
            work.setup()
        work.run()


@pytest.mark.parametrize("name", every_rule.FORMS)
def test_every_rule_beside_the_limit_and_pytorch(name: str) -> None:
    rows = [LIMIT]
    if every_rule.FORMS[name].torch and peers.missing("torch") is None:
        rows.append(every_rule.TORCH)
    for row in rows:
        for (work,) in every_rule.works(row, name, 200_000, [1]):
            work.run()


def test_every_rule_has_a_form() -> None:
    classes = {value for value in vars(fs).values() if isinstance(value, type) and issubclass(value, fs.Optimizer)}
    formed = {getattr(fs, form.cls) for form in every_rule.FORMS.values()}
    assert formed == classes - {fs.Optimizer, fs.Muon}  # whose matrix products are NumPy's


@pytest.mark.skipif(peers.missing("torch") is not None, reason="PyTorch is not installed")
def test_tensors_are_updated_as_arrays_are() -> None:
    for (work,) in (*pairs.tensors(), *pairs.options("actor-critic", tensors=True)):
        work.run()


def _figures(folder: Path) -> tuple[Path, Path]:
    rows: list[Any] = []
    for row, seconds in ((BOOK, 2e-3), ("fusedstep", 1e-3), (LIMIT, 0.9e-3)):
        about = {"kind": "update", "row": row, "rule": "Adam", "dtype": "float32", "work": "1000", "threads": 1}
        about |= {"GB/s": 1.0, "origin": results.origin()}
        stats = {"median": seconds, "q1": seconds, "q3": 1.1 * seconds}
        rows.append({"group": "update: 1000", "extra_info": about, "stats": stats})
    measured, ratios = folder / "bench.json", folder / "ratios.json"
    measured.write_text(json.dumps({"benchmarks": rows}))
    pairs = [pair for pair in compare.all_pairs() if pair.row in (BOOK, LIMIT, "PyTorch (fused)", "PyTorch")]
    results.write_ratios(ratios, [results.Against(p.kind, p.row, p.rule, p.dtype, p.work, RATIO) for p in pairs])
    return measured, ratios


def test_report(tmp_path: Path) -> None:
    run = results.read(*_figures(tmp_path))
    assert {one.ratio for one in run.ratios} == {RATIO}
    assert pictures.draw_all(run, tmp_path) == list(pictures.PICTURES)
    text = report.markdown(run, pictures.PICTURES)
    assert "| Adam, 1000, float32 | 1 ms | 2 |  | 2 | 2 |" in text
    assert "| batch normalisation (128, 1024) backward, float32 | 1 ms | 2 |  | 2 | 2 |" in text
    assert "| fusedstep | 1 ms | 10 % | 1.0 |" in text
    assert f"{max(THREADS)} threads at most" in text
    libraries = [results.Against("DeZero", "DeZero", "Adam", "float64", "a network", RATIO)]
    text = report.markdown(dataclasses.replace(run, ratios=libraries), [])
    assert "| DeZero: Adam, a network, float64 | 1 ms | 2 |" in text


def test_report_without_ratios(tmp_path: Path) -> None:
    measured, ratios = _figures(tmp_path)
    assert "Time of others" not in report.markdown(results.read(measured, None), [])
    with pytest.raises(ValueError, match=r"not what benchmarks\.compare writes"):
        results.read(measured, measured)
    with pytest.raises(ValueError, match="not what pytest-benchmark writes"):
        results.read(ratios, None)


def test_duration() -> None:
    texts = [results.duration(seconds) for seconds in (1.0, 0.9996, 2.5e-3, 1e-6, 5e-8)]
    assert texts == ["1 s", "1000 ms", "2.5 ms", "1 µs", "50 ns"]
