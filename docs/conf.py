"""Sphinx's settings; ``make docs`` builds the site into docs/_build.

The root of the site is the repository's, not docs/: so links between pages,
READMEs of configs and source files are the same here and on GitHub.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'docs/_ext')]

from mmba2m.version import __version__ as release  # noqa: E402

project = 'mmba2m'
author = 'The mmba2m contributors'
copyright = author

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'notebook_pages',
    'source_pages',
]
root_doc = 'docs/index'
include_patterns = [
    '*.md',
    'demo/*.ipynb',
    'demo/*.md',
    'docs/**.md',
    'configs/**/README.md',
]
exclude_patterns = [
    '.*',
    'data',
    'work_dirs',
    'build',
    'dist',
    'tests',
    'mmba2m',
    'docs/_build',
    'docs/_ext',
    'docs/_static',
    'docs/_templates',
]

myst_enable_extensions = ['linkify']
myst_linkify_fuzzy_links = False  # 'results.md' is no host of Moldova
myst_heading_anchors = 3
highlight_language = 'none'

autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

smartquotes = False  # docstrings quote code
templates_path = ['_templates']
html_static_path = ['_static']
html_css_files = ['site.css']
html_theme = 'furo'
html_title = f'mmba2m {release}'
html_additional_pages = {'index': 'redirect.html'}
html_copy_source = False
html_use_index = html_domain_indices = False
html_show_copyright = False
