"""Sphinx settings."""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import equilm

sys.path.append(str(Path(__file__).parent))  # for public_names

project = "equilm"
author = copyright = "The equilm developers"
version = release = equilm.__version__

extensions = ["myst_parser", "public_names", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "results"]
html_extra_path = ["results"]  # the page of the regard study, which stands alone
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # so that links to headings are checked
html_theme = "furo"
html_title = "equilm"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

default_role = "code"  # `name` in a docstring is code, as in Markdown
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_inherit_docstrings = False  # what an override does is said once, in its base class

# Names of other projects: to resolve them, Sphinx would have to fetch those projects' indexes at every build.
nitpick_ignore_regex = [
    (r"py:.*", r"(accelerate|numpy|torch|transformers|nn)\..*"),
    (r"py:.*", r"(abc|collections|contextlib|dataclasses|logging|os|pathlib|typing)\..*"),
    (r"py:.*", r"(Dataset|DatasetDict|GenerationMixin|PreTrainedModel|Trainer|Tensor|.*\.Wrapped|Wrapped)"),
    (r"py:.*", r"random\..*"),
    (r"py:class", r"equilm\._whole_texts\.WholeTextModel"),  # private: what classifiers and masked models share
    (r"py:class", r"equilm\.text\.chat\.PydanticModel"),  # private: a client's own message objects
    (r"py:class", r"equilm\.scan\.modeling_scan\.Decoder"),  # private: what an encoder hands to the steps
    (r"py:.*", r"(PathLike|Callable|Sequence|Mapping|Iterable|Iterator|Any|Literal.*)"),
]


def escape_bars(_app: Sphinx, _what: str, _name: str, _obj: object, _options: Any, lines: list[str]) -> None:
    """Lets docstrings write |G| and |x - y|, which reStructuredText would take for substitutions."""
    # Code comes first in the alternation and is left as it is: doctest lines, and what stands in backticks.
    code_or_bar = re.compile(r"^ *>>>.*?$|``.*?``|`.*?`|\|", re.DOTALL | re.MULTILINE)
    escaped = code_or_bar.sub(lambda match: r"\|" if match[0] == "|" else match[0], "\n".join(lines))
    lines[:] = escaped.split("\n")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
