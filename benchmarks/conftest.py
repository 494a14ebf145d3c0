"""`--quick`, settings that go back to what they were, and what every row says about itself."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

import fusedstep as fs
from benchmarks.results import origin

Measure = Callable[..., Any]
QUICK_SECONDS = Decimal("0.15")
SETUP_BYTES = 4_000_000_000  # moved in all rounds of a function that needs a setup before each, which isn't timed


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


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    threads = fs.get_num_threads()
    yield
    fs.set_num_threads(threads)


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Times a function in a group and notes what it was and how fast."""

    def run(
        group: str,
        function: Callable[[], Any],
        moved: int,
        threads: int,
        *,
        setup: Callable[[], None] | None = None,
        **about: Any,
    ) -> Any:
        benchmark.group = group
        benchmark.extra_info |= {"threads": threads, "bytes": moved, "origin": origin(), **about}
        if setup:
            rounds = max(5, min(1000, SETUP_BYTES // moved))
            result = benchmark.pedantic(function, setup=setup, rounds=rounds, warmup_rounds=1)
        else:
            result = benchmark(function)
        if benchmark.enabled and moved:
            benchmark.extra_info["GB/s"] = moved / benchmark.stats.stats.median / 1e9
        return result

    return run


@pytest.fixture
def measuring(request: pytest.FixtureRequest) -> bool:
    """False if every row runs once only, to see that it does; sizes are small then."""
    return not request.config.getoption("--benchmark-disable")
