"""Makes reST of docstrings that are written to be read as they are, with indented formulas and code in backticks."""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_NAME = re.compile(r"([A-Za-z_][\w.]*)(\(\))?")
_LONE_STAR = re.compile(r"\*(?=\w)(?![^*]*\*)")


def _parameters(value: Any) -> set[str]:
    try:
        return set(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return set()


def _with_roles(text: str, parameters: set[str]) -> str:
    def role(match: re.Match[str]) -> str:
        name = _NAME.fullmatch(match[1])
        if name is None or len(name[1]) == 1 or name[1] in parameters:
            return f"``{match[1]}``"
        return f"`{match[1]} <{name[1]}>`" if name[2] else match[0]

    return _LONE_STAR.sub(r"\\*", _CODE.sub(role, text))


def _convert(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    parameters = _parameters(value)
    converted: list[str] = []
    literal = False
    last = " "  # the last line that is not blank
    for line in lines:
        indented = line.startswith("    ")
        if indented and not literal and converted and not converted[-1] and not last.startswith(" "):
            converted += [".. code-block:: text", ""]
            literal = True
        elif line and not indented:
            literal = False
        converted.append(line.replace("`", "") if literal else _with_roles(line, parameters))
        last = line or last
    lines[:] = converted


def _arguments(app: Sphinx, what: str, name: str, value: Any, options: Any, given: str, returned: str) -> Any:
    """A class whose __new__ takes anything has the arguments of its __init__."""
    return (stringify_signature(signature(value), show_annotation=False), None) if given == "(*_, **__)" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Takes its turn before napoleon does."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _convert, priority=400)
    app.connect("autodoc-process-signature", _arguments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
