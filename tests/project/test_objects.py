"""The object files: no symbol that the linker could mix up between instruction sets, and loops that are vectorised."""

import platform
import re
import shutil
from pathlib import Path

import pytest

from native_build import ROOT, run

MACHINE = platform.machine()
# For each object: a packed operation of a type, in the assembler's words.
PACKED = {
    ("x86_64", "kernels_baseline"): r"\b{op}{s}\s.*%xmm",
    ("x86_64", "kernels_x86_64_v3"): r"\bv{op}{s}\s.*%ymm",
    ("aarch64", "kernels_baseline"): r"\bf{op}\s+v\d+\.{lanes}",
}
SUFFIXES = {"float": {"s": "ps", "lanes": "4s"}, "double": {"s": "pd", "lanes": "2d"}}
OBJECTS = [name for machine, name in PACKED if machine == MACHINE]
(LIST,) = (ROOT / "csrc").rglob("stages.hpp")
STAGES = re.findall(r"\btemplate (stage|rule)<(\w+)>\(", LIST.read_text())
AFTER = ("AfterAddDecay", "AfterScale", "AfterShrink", "WithAverage")
BATCH_NORM = tuple(f"{of}_{what}" for of in ("channel", "panel") for what in ("sums", "normalize", "gradient"))
BATCH_NORM += ("block_moments", "panel_moments")
# A packed addition of 32-bit integers, which is what random words are made of.
PACKED_INTEGERS = {
    ("x86_64", "kernels_baseline"): r"\bpaddd\s.*%xmm",
    ("x86_64", "kernels_x86_64_v3"): r"\bvpaddd\s.*%ymm",
    ("aarch64", "kernels_baseline"): r"\badd\s+v\d+\.4s",
}

pytestmark = pytest.mark.skipif(
    not OBJECTS or not shutil.which("c++") or not shutil.which("objdump"),
    reason="needs a compiler and binutils, and reads the assembler of x86-64 and aarch64",
)


def object_file(build: Path, name: str) -> Path:
    (found,) = (build / "CMakeFiles" / f"{name}.dir").rglob("kernels.cpp.o")
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_the_table_is_the_only_global_symbol(build: Path, name: str) -> None:
    lines = run("nm", "--defined-only", "--format=posix", object_file(build, name)).splitlines()
    symbols = {words[0]: words[1] for words in map(str.split, lines)}
    shared = [symbol for symbol, kind in symbols.items() if not kind.islower() or kind in "uvw"]
    table = name.replace("kernels", "table")
    assert shared == [f"_ZN9fusedstep{len(table)}{table}E"]
    assert len(symbols) > 40


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_called_has_no_instruction_set_of_its_own(build: Path, name: str) -> None:
    undefined = run("nm", "--undefined-only", "--format=posix", object_file(build, name)).split()
    assert {symbol for symbol in undefined if len(symbol) > 1} <= {
        "memcpy",
        "memmove",
        "memset",
        "_GLOBAL_OFFSET_TABLE_",
        "__stack_chk_fail",
    }


@pytest.mark.parametrize("scalar", SUFFIXES)
@pytest.mark.parametrize("name", OBJECTS)
def test_loops_are_vectorised(build: Path, name: str, scalar: str) -> None:
    text = run("objdump", "-d", "-C", "--no-show-raw-insn", object_file(build, name))
    functions = dict(re.findall(r"^[0-9a-f]+ <(.*)>:\n((?:.+\n)+)", text, re.MULTILINE))

    def packed(op: str, *words: str) -> bool:
        bodies = [body for head, body in functions.items() if all(word in head for word in words)]
        assert bodies, words
        in_double = op == "div" and any("SklearnAdam" in word for word in words)
        pattern = PACKED[MACHINE, name].format(op=op, **SUFFIXES["double" if in_double else scalar])
        return any(re.search(pattern, body) for body in bodies)

    forms = ["run<(anonymous namespace)::{}<" + scalar + ">"]
    after = [f"<(anonymous namespace)::{of}<{scalar}, (anonymous namespace)::{{}}>" for of in AFTER]
    names = [form.format(name) for kind, name in STAGES for form in (forms + after if kind == "rule" else forms)]
    assert len(names) >= 27
    without_product = {form.format(stage) for stage in ("Clip", "Assign", "Exchange") for form in forms}
    missing = [(name, "mul") for name in names if name not in without_product and not packed("mul", name)]
    assert len(without_product & set(names)) == 3
    if MACHINE == "x86_64":  # of the others, a copy is memmove
        clip = next(body for head, body in functions.items() if f"::Clip<{scalar}>" in head)
        assert re.search(rf"\bv?(min|max|cmp\w*){SUFFIXES[scalar]['s']}\b", clip)
    for op in ("sqrt", "div"):
        used = [name for name in names if any(name in head and op in body for head, body in functions.items())]
        assert used
        missing += [(name, op) for name in used if not packed(op, name)]
    missing += [(kernel, "mul") for kernel in (*BATCH_NORM, "dropout") if not packed("mul", f"::{kernel}<{scalar}>")]
    assert missing == []
    random = [body for head, body in functions.items() if re.search(r"random_words|group_factors|::dropout", head)]
    # 13 rounds of 2 additions: words that are made one at a time have none that is packed.
    assert sum(len(re.findall(PACKED_INTEGERS[MACHINE, name], body)) for body in random) >= 26
