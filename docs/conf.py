"""Sphinx configuration; also writes the pages that are made from the code."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.ext.autosummary import Autosummary
from sphinx.util import logging

import omicllm
from omicllm._core import keys

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
NAMESPACES = (
    "pp",
    "tl",
    "pl",
    "get",
    "model",
    "datasets",
    "metrics",
    "nn",
    "io",
    "codec",
    "genome",
)
logger = logging.getLogger(__name__)

project = "omicllm"
author = "omicllm developers"
copyright = "2026, omicllm developers"
version = release = omicllm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generated", "jupyter_execute", "**.ipynb_checkpoints"]

# Links to other packages' documentation need the network: only where the pages are published.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "scvi-tools": ("https://docs.scvi-tools.org/en/stable", None),
        "squidpy": ("https://squidpy.readthedocs.io/en/stable", None),
    }

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Figures belong into the pages, whatever backend scripts are told to use.
os.environ.update(MPLBACKEND="module://matplotlib_inline.backend_inline")
nb_execution_mode = os.environ.get("OMICLLM_DOCS_EXECUTE", "force")
nb_execution_raise_on_error = True
if nb_execution_mode == "off":  # a page that was not run has no kernel to say its language
    suppress_warnings = ["myst-nb.lexer"]
# These read public data that are not in the repository, and keep the outputs they were saved with.
DATA = Path(os.environ.get("OMICLLM_DATA", HERE.parent.parent / "shared" / "data")).resolve()
if DATA.is_dir():
    os.environ["OMICLLM_DATA"] = str(DATA)
else:
    nb_execution_excludepatterns = [
        f"tutorials/{path.name}"
        for path in (HERE.parent / "tutorials").glob("*.ipynb")
        if "OMICLLM_DATA" in path.read_text(encoding="utf-8")
    ]
nb_execution_timeout = 900
nb_execution_in_temp = True  # notebooks save files; their folder stays clean

autosummary_generate = False  # the stubs are written below
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

smartquotes_action = "D"  # dashes only: quotes belong to code
html_theme = "sphinx_book_theme"
html_title = "omicllm"
html_theme_options = {
    "repository_url": "https://github.com/omicllm/omicllm",
    "use_repository_button": True,
    "path_to_docs": "docs",
    "show_navbar_depth": 1,
}
html_static_path: list[str] = []
copybutton_exclude = ".linenos, .gp"


def write(path: Path, text: str) -> None:
    """Write a file if its text differs, so that Sphinx rereads only what changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def public_names(namespace: str) -> list[str]:
    """Names in the `__all__` of a namespace."""
    return sorted(import_module(f"omicllm.{namespace}").__all__)


def write_api() -> None:
    """Write one stub page for each public name of each namespace."""
    folder = HERE / "api" / "generated"
    wanted = set()
    for namespace in NAMESPACES:
        module = f"omicllm.{namespace}"
        for name in public_names(namespace):
            full = f"{module}.{name}"
            try:
                value = getattr(import_module(module), name)
            except ImportError as error:
                logger.warning("%s is listed in __all__ and cannot be imported: %s", full, error)
                continue
            if inspect.isclass(value):
                directive = f".. autoclass:: {name}\n   :members:\n"
            elif callable(value):
                directive = f".. autofunction:: {name}\n"
            else:
                directive = f".. autodata:: {name}\n"
            title = f"{full}\n{'=' * len(full)}\n"
            page = folder / f"{full}.rst"
            wanted.add(page)
            write(page, f"{title}\n.. currentmodule:: {module}\n\n{directive}")
    for page in folder.glob("*.rst"):
        if page not in wanted:
            page.unlink()


def write_keys() -> None:
    """Write the table of keys as the code has it."""
    write(HERE / "_generated" / "keys.md", keys.markdown_table())


def copy_tutorials() -> None:
    """Copy the notebooks, which live at the top level, to where Sphinx can see them."""
    source, target = HERE.parent / "tutorials", HERE / "tutorials"
    names = sorted(path.name for path in source.glob("*.ipynb"))
    for path in target.glob("*.ipynb"):
        if path.name not in names:
            path.unlink()
    for name in names:
        target.mkdir(exist_ok=True)
        copy = target / name
        if not copy.exists() or copy.read_bytes() != (source / name).read_bytes():
            shutil.copyfile(source / name, copy)


class NamespaceSummary(Autosummary):
    """``namespace-summary:: tl``: an autosummary table of everything in `omicllm.tl.__all__`."""

    required_arguments = 1
    has_content = False

    def run(self) -> list:
        namespace = self.arguments[0]
        names = public_names(namespace)
        if not names:
            return []
        for name in names:
            self.content.append(f"omicllm.{namespace}.{name}", __file__)
        self.options["toctree"] = "generated"
        return super().run()


def plain_slots(_app: Sphinx, _what: str, _name: str, _obj: object, _opt: object, lines: list):
    """Take the backticks off ``slot`` : type, which napoleon sets in bold by itself."""
    lines[:] = [re.sub(r"^(\s*)``([^`]+)`` : ", r"\1\2 : ", line) for line in lines]


def without_routing(
    _app: Sphinx,
    _what: str,
    name: str,
    _obj: object,
    _skip: bool,  # noqa: FBT001
    _opt: object,
) -> bool | None:
    """Leave out the methods on metadata that scikit-learn adds to every estimator."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", plain_slots, priority=100)
    app.connect("autodoc-skip-member", without_routing)
    app.add_directive("namespace-summary", NamespaceSummary)
    # The tables depend on the code, which Sphinx does not watch: always read their pages again.
    app.connect("env-get-outdated", lambda *_: [f"api/{name}" for name in NAMESPACES])


write_api()
write_keys()
copy_tutorials()
