"""Every picture is a link to itself in full size: on a phone it is a third as wide as it was drawn to be read."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging


def _give_width(app: Sphinx, doctree: nodes.document) -> None:
    """Sphinx makes a link of a picture that has a width."""
    for image in doctree.findall(nodes.image):
        image.setdefault("width", "100%")


def _check(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    body = context.get("body", "")
    if body.count("<img ") != len(re.findall(r'<a [^>]*href="[^"]*_images/[^"]+"><img ', body)):
        logging.getLogger(__name__).warning("%s: a picture is no link", page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers both for their events."""
    app.connect("doctree-read", _give_width)
    app.connect("html-page-context", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
