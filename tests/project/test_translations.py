"""The Korean README and tour say what the English ones say, as far as no language is needed to see it."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```(?:python|pycon|\{doctest\})\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]+\$", re.DOTALL)


def _code(text: str) -> list[str]:
    """The code blocks without comments, which are translated, and without the option of a doctest."""
    return [re.sub(r" *#.*|^:skipif:.*\n", "", code, flags=re.MULTILINE) for code in FENCED.findall(text)]


def _facts(text: str) -> dict[str, Any]:
    """What a README says in no language: code, commands, names, links, and figures of its tables."""
    prose = FENCED.sub("", text)
    links = re.findall(r"\]\(([^)]+)\)", prose)[1:]  # the first is that to the other language
    return {
        "code": _code(text),
        "commands": re.findall(r"^ {4,}(.*)", prose, re.MULTILINE),
        "names": set(re.findall(r"`([^`\n]+)`", prose)),
        "links": [link.replace("chapter6.ko.md", "chapter6.md") for link in links],
        "figures": re.findall(r"(?<=\| )\d[\d.]*(?=: )", prose),
    }


def test_the_korean_readme_says_the_same() -> None:
    english, korean = (_facts((ROOT / name).read_text()) for name in ("README.md", "README.ko.md"))
    assert len(english["figures"]) > 8
    assert len(english["names"]) > 30
    assert korean == english


def _sections(name: str) -> list[dict[str, Any]]:
    """The same of each section of the tour, and its formulas and figures.

    Words come in another order in Korean, so names and inline formulas are counted. Figures, of which a reversed pair
    would say something else, keep their order.
    """
    text = (ROOT / "docs" / name).read_text()
    sections = []
    for section in re.split(r"^(?=#+ )", FENCED.sub("@", text), flags=re.MULTILINE)[1:]:
        heading, body = section.split("\n", 1)
        prose = re.sub(r"`[^`]+`|\]\([^)]*\)", " ", FORMULA.sub(" ", body))
        sections.append(
            {
                "level": heading.count("#"),
                "blocks": body.count("@"),
                "commands": re.findall(r"^ {4}(.*)", body, re.MULTILINE),
                "names": Counter(re.findall(r"`([^`]+)`", body)),
                "pictures and links": Counter(re.findall(r"!?\]\((.*?)(?:\.ko)?(?:\.md)?\)", body)),
                "formulas": Counter(" ".join(formula.split()) for formula in FORMULA.findall(body)),
                "questions": body.count("?**"),
                "rows": len(re.findall(r"^\|", body, re.MULTILINE)),
                "figures": re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", prose),
            }
        )
    return sections


def test_the_korean_tour_has_the_same_sections() -> None:
    english, korean = (_sections(name) for name in ("chapter6.md", "chapter6.ko.md"))
    assert len(english) > 15
    assert sum(len(section["figures"]) for section in english) > 100
    for ours, theirs in zip(english, korean, strict=True):
        assert theirs == ours


def test_the_korean_tour_has_the_same_code() -> None:
    english, korean = (_code((ROOT / "docs" / name).read_text()) for name in ("chapter6.md", "chapter6.ko.md"))
    assert len(english) > 20
    assert korean == english


@pytest.mark.parametrize(("name", "other"), [("chapter6.md", "chapter6.ko.md"), ("chapter6.ko.md", "chapter6.md")])
def test_the_tour_links_to_its_other_language(name: str, other: str) -> None:
    assert f"]({other})" in (ROOT / "docs" / name).read_text().split("\n## ")[0]
