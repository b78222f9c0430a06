"""The documentation's site: python -m sphinx -b html -W --keep-going docs docs/_build

Pages are Markdown (MyST); notebooks are text, executed when the site is built; the API reference is made from docstrings.
"""

import dci_jax

project = "dci_jax"
author = "The dci_jax authors"
version = release = dci_jax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb", "jupyter_execute"]
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

html_theme = "furo"
html_title = "dci_jax"
html_static_path = []

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_url_schemes = ("http", "https", "mailto")
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
add_module_names = False
