"""The documentation's settings: python -m sphinx -W docs docs/_build."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numbaglm

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "numbaglm"
author = "The numbaglm developers"
version = release = numbaglm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "numbaglm_pages",
    "numbaglm_pictures",
]
exclude_patterns = ["_build"]
suppress_warnings: list[str] = []
default_role = "py:obj"  # what docstrings have in single backticks

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

autosummary_generate = False  # all is on the pages themselves: nothing is written beside them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
# Names that would be spelt out otherwise.
autodoc_type_aliases = {name: name for name in ("ArrayLike", "ClusterThreshold", "ContrastLike", "Map", "SavePath")}
maximum_signature_line_length = 90
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_attr_annotations = False
napoleon_custom_sections = [("Attributes", "params_style")]

html_theme = "furo"
# Where the project is hosted, once it is, stands in pyproject.toml alone: pages then lead to their sources.
_project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
if "Source" in _project.get("urls", {}):
    html_theme_options = {
        "source_repository": _project["urls"]["Source"],
        "source_branch": f"v{release}",
        "source_directory": "docs/",
    }
html_title = f"numbaglm {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["numbaglm.css"]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
