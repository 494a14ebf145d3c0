"""The table of dialects beside the libraries themselves, and as docs/dialects.md has it."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedstep as fs
from peers import CELLS, PEERS, Cell, distance, trials

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"


# Keras' variables have an __array__ without copy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("cell", "options", "dtype"), trials())
def test_a_peer_has_the_numbers_of_its_cell(cell: Cell, options: dict[str, Any], dtype: str) -> None:
    assert distance(cell, options, dtype) <= cell.bounds[PEERS[cell.dialect].dtypes.index(dtype)]


def text_of(cell: Cell) -> str:
    return "same bits" if not any(cell.bounds) else f"{', '.join(map(str, cell.bounds))} ulp"


@pytest.mark.parametrize("dialect", PEERS)
def test_the_page_has_every_cell(dialect: str) -> None:
    text = PAGE.read_text()
    rows = dict(re.findall(rf"^\| `{dialect}\.(\w+)` \|(.*)\|$", text, re.MULTILINE))
    own = {cell.name: cell for cell in CELLS if cell.dialect == dialect}
    assert own.keys() == rows.keys()
    for name, cell in own.items():
        assert rows[name].split("|")[1].strip() == text_of(cell), name


@pytest.mark.parametrize("dialect", PEERS)
def test_every_function_of_a_dialect_has_a_cell(dialect: str) -> None:
    module = getattr(fs.dialects, dialect)
    functions = {name for name, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__}
    assert {name for name in functions if not name.startswith("_")} == {
        cell.name for cell in CELLS if cell.dialect == dialect
    }


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_options_of_fusedstep_are_passed_on(cell: Cell) -> None:
    make = getattr(getattr(fs.dialects, cell.dialect), cell.name)
    optimizer = make(0.1, clip_norm=1.0, average=0.9, maximize=True)
    assert (optimizer.lr, optimizer.clip_norm, optimizer.average, optimizer.maximize) == (0.1, 1.0, 0.9, True)
    np.testing.assert_equal(repr(optimizer).count("clip_norm=1.0"), 1)
