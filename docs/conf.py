"""Configuration of the documentation; `make docs` builds it."""

import re
from importlib.metadata import version as installed_version

project = "seaice_lab"
author = "the seaice_lab developers"
version = release = installed_version(project)

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Docstrings: NumPy style, in the order of the source.
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
add_module_names = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_use_rtype = False

# Pages in Markdown; `docs/pages.py` executes the notebooks of the gallery.
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]  # of interactive maps, which have a picture too

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"seaice_lab {version}"
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
}
# Pages without pages below them have no navigation at their left, so that tables have room.
html_sidebars = {page: [] for page in ("index", "accuracy_and_speed", "contributing", "changelog")}
html_copy_source = False
html_show_sourcelink = False


def link_to_gallery(app, document, source):
    """Links to notebooks, which also work on a code host, lead to their executed copies."""
    source[0] = re.sub(r"\]\((?:\.\./)*notebooks/(\w+\.ipynb)\)", r"](/gallery/\1)", source[0])


def escape_bars(app, kind, name, thing, options, lines):
    """Absolute values such as |x - y| are text, not substitutions of reStructuredText."""
    for number, line in enumerate(lines):
        literal = re.split(r"(``.*?``)", line)
        literal[::2] = [text.replace("|", r"\|") for text in literal[::2]]
        lines[number] = "".join(literal)


def skip_field(app, kind, name, member, skip, options):
    """Fields of named tuples are documented by the class, else not at all."""
    return skip or (member.__doc__ or "").startswith("Alias for field number") or None


def setup(app):
    """Connect the functions above to Sphinx."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_field)
    app.connect("source-read", link_to_gallery)
