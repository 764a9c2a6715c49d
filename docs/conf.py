"""How Sphinx builds the site: ``make docs``. The code on the pages runs while it is built."""

import os

import stmfg

project = "stMFG"
author = "stMFG developers"
copyright = "stMFG developers, BSD 3-Clause"  # noqa: A001 - Sphinx's name
release = version = stmfg.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # the site loads nothing from elsewhere
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]  # the second is what myst-nb leaves of executed pages
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Pages with code cells run from the first to the last, each in a folder of its own; one that fails fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "warn"  # so that no warning of a library goes unseen
os.environ["TQDM_DISABLE"] = "1"  # a bar that moves is for a terminal, not for a page

# The reference lists what each namespace has in __all__.
toc_object_entries_show_parents = "hide"
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "stMFG"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {
    "navbar_persistent": [],  # the search is in the side bar
    "show_navbar_depth": 1,
    "use_fullscreen_button": False,
    "use_download_button": False,
}
copybutton_prompt_text = "$ "
