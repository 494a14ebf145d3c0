"""How Sphinx builds these pages: `python -m sphinx -W --keep-going -n -b html docs docs/_build/html`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import fusedstep

sys.path.append(str(Path(__file__).parent / "_extensions"))

project = "fusedstep"
author = "the fusedstep developers"
project_copyright = f"2026, {author}"
version = release = fusedstep.__version__

extensions = [
    "every_optimizer",
    "linked_pictures",
    "mathml",
    "plain_docstrings",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
# The page of a module that needs another library is built where that is installed.
LIBRARIES = {"flower": "flwr"} | {name: name for name in ("dezero", "keras", "sklearn", "thinc", "torch")}
for page, library in LIBRARIES.items():
    if find_spec(library) is None:
        exclude_patterns.append(f"api/{page}.*")
        suppress_warnings = ["toc.excluded", "myst.xref_missing"]
vars(np).setdefault("int", int)  # for DeZero 0.0.13, which is older than NumPy 1.24
os.environ.setdefault("KERAS_BACKEND", "numpy")  # by default it would be TensorFlow
doctest_global_setup = f"""
from importlib.util import find_spec
globals().update({{"has_" + name: find_spec(name) is not None for name in {[*LIBRARIES.values()]}}})
"""
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# A name in the backticks of a docstring is a link, and has to lead somewhere.
default_role = "py:obj"
# Other projects' names would need their inventories, and no build of these pages reads from the network.
nitpick_ignore_regex = [("py:.*", r"(dezero|flwr|keras|numpy|sklearn|thinc|torch)\..*")]

# The docstrings name the types in words; written out, the aliases are longer than the rest of a signature.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_attr_annotations = False

html_theme = "furo"
html_title = f"fusedstep {version}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
