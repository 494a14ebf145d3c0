"""The axes that tests run over, and settings that go back to what they were."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings

import fusedstep as fs
from fusedstep import _native
from native_build import built_in

THREADS = (1, 2, 3, 7)

# The same examples in every run; or as many new ones as the environment asks for.
EXAMPLES = os.environ.get("FUSEDSTEP_TEST_EXAMPLES")
settings.register_profile(
    "ci",
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
settings.register_profile("evidence", settings.get_profile("ci"), max_examples=int(EXAMPLES or 1), derandomize=False)
settings.load_profile("evidence" if EXAMPLES else "ci")


@pytest.fixture(autouse=True)
def _restore_settings() -> Iterator[None]:
    isa, threads, buffer_cache = fs.isa(), fs.get_num_threads(), _native.get_buffer_cache()
    yield
    fs.use_isa(isa)
    fs.set_num_threads(threads)
    fs.set_flush_subnormals(True)
    fs.set_buffer_cache(buffer_cache)


@pytest.fixture(params=fs.isas())
def isa(request: pytest.FixtureRequest) -> str:
    fs.use_isa(request.param)
    return str(request.param)


@pytest.fixture(params=THREADS, ids=lambda n: f"{n}threads")
def threads(request: pytest.FixtureRequest) -> int:
    fs.set_num_threads(request.param)
    return int(request.param)


@pytest.fixture(params=[np.float32, np.float64], ids=lambda t: t.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150428)


@pytest.fixture
def numbers_in_double() -> Iterator[None]:
    """PyTorch keeps mu_product, eta and mu in its default type."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of parameters of each step of fusedstep.dezero."""
    from dezero_trials import recorded_steps  # which needs DeZero

    return recorded_steps(monkeypatch)


@pytest.fixture
def flower_steps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step of fusedstep.flower was ours."""
    from flower_rounds import recorded_steps  # which needs Flower

    return recorded_steps(monkeypatch)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the project's own build, made once."""
    return built_in(tmp_path_factory.mktemp("build"))
