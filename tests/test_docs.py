"""The API reference has every public name. Sphinx checks the rest and runs the examples, see CONTRIBUTING."""

import re
from pathlib import Path

import fusedstep as fs

PAGES = Path(__file__).parent.parent / "docs" / "api"


def test_the_reference_has_every_public_name() -> None:
    text = "".join(path.read_text() for path in PAGES.glob("*.md"))
    names = re.findall(r"^\.\. (?:autoclass|class|autofunction|data):: (\w+)$", text, re.MULTILINE)
    modules = re.findall(r"^\.\. automodule:: fusedstep\.(\w+)\n   :members:", text, re.MULTILINE)
    assert sorted(names + modules) == sorted([*fs.__all__, "book"])
