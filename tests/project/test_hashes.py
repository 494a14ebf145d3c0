"""The bits of all kernels and drivers are those in native/hashes.txt, which tools/aarch64.sh compares too."""

import shutil
from pathlib import Path

import pytest

from native_build import ROOT, run


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_bits_are_those_of_other_processors(build: Path, isa: str) -> None:
    expected = (ROOT / "tests" / "native" / "hashes.txt").read_text().splitlines()
    assert len(expected) > 70
    program = build / "tests" / "native" / "hashes"
    printed = run(program, isa).splitlines()
    others = [line for line in printed if line not in set(expected)]
    details = "\n".join(run(program, isa, line.split(maxsplit=1)[1]) for line in others)
    assert printed == expected, details
