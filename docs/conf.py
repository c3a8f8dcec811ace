"""Sphinx's settings for the site (make docs); tests/site.py lays the pages out."""

from lnqtools import __version__

project = "lnqtools"
version = release = __version__
project_copyright = "the authors of lnqtools, MIT license"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"lnqtools {version}"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["man.css"]
smartquotes = False  # -- is an option
myst_heading_anchors = 4
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say them
default_role = "code"
