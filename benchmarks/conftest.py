"""`--quick`, settings that go back to what they were, and what every row says about itself."""

import platform
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from benchmarks import peers
from benchmarks.workloads import LIMIT

Measure = Callable[..., Any]
QUICK_SECONDS = Decimal("0.15")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="benchmark a representative part for about two minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: part of the run with --quick")
    if config.getoption("--quick"):
        config.option.benchmark_max_time = QUICK_SECONDS
        config.option.benchmark_min_rounds = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("quick")])
        items[:] = [item for item in items if item.get_closest_marker("quick")]


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """Adds to each row how fast it was beside the limit of its group: 1 is as fast."""
    rows = output_json["benchmarks"]
    limits = {row["group"]: row["stats"]["median"] for row in rows if row["extra_info"].get("row") == LIMIT}
    for row in rows:
        if row["group"] in limits:
            row["extra_info"]["of_limit"] = limits[row["group"]] / row["stats"]["median"]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    threads = fs.get_num_threads()
    yield
    fs.set_num_threads(threads)


def _processor() -> str:
    """Its name; /proc/cpuinfo is where Linux keeps it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Times a function in a group and notes what it was and how fast."""

    def run(group: str, function: Callable[[], Any], moved: int, threads: int, **about: Any) -> Any:
        benchmark.group = group
        benchmark.extra_info |= {"threads": threads, "isa": fs.isa(), "processor": _processor(), "bytes": moved}
        benchmark.extra_info |= {"numpy": np.__version__, "fusedstep": fs.__version__}
        benchmark.extra_info |= {"peers": peers.versions(), **about}
        result = benchmark(function)
        if benchmark.enabled and moved:
            benchmark.extra_info["GB/s"] = moved / benchmark.stats.stats.median / 1e9
        return result

    return run


@pytest.fixture
def measuring(request: pytest.FixtureRequest) -> bool:
    """False if every row runs once only, to see that it does; sizes are small then."""
    return not request.config.getoption("--benchmark-disable")
