"""Formulas as MathML, which browsers draw by themselves: pages need no script, no network, and a build no TeX."""

from typing import Any, NoReturn

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def _visit_math(self: Any, node: nodes.math) -> NoReturn:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _visit_math_block(self: Any, node: nodes.math_block) -> NoReturn:
    self.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer for `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
