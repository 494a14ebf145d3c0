"""The directive every-optimizer: the documentation of each optimizer, in the order of `fusedstep.rules()`."""

import inspect
from typing import Any

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import fusedstep


def optimizers() -> list[str]:
    """The names of all classes."""
    order = list(fusedstep.rules())
    classes = {cls for _, cls in inspect.getmembers(fusedstep, inspect.isclass) if issubclass(cls, fusedstep.Optimizer)}
    return [cls.__name__ for cls in sorted(classes - {fusedstep.Optimizer}, key=lambda cls: order.index(cls()._rule))]


def documentation(name: str) -> str:
    """The directive of a class, with the methods of modes if it has them."""
    modes = "\n   :members: eval, train" if hasattr(getattr(fusedstep, name), "eval") else ""
    return f".. autoclass:: {name}{modes}"


class EveryOptimizer(SphinxDirective):
    """Stands for an autoclass directive of each optimizer."""

    def run(self) -> list[Node]:
        return self.parse_text_to_nodes("\n\n".join(map(documentation, optimizers())))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("every-optimizer", EveryOptimizer)
    return {"parallel_read_safe": True}
