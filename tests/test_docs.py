"""The documentation is complete: public names, notebooks, tables of contents; no requests."""

import importlib.util
import os
import re
import zlib
from pathlib import Path

import pytest

import seaice_lab
from seaice_lab import notebooks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HTML = DOCS / "_build" / "html"
PAGES = sorted(
    path
    for suffix in ("md", "rst")
    for path in (*DOCS.glob(f"*.{suffix}"), *DOCS.glob(f"guides/*.{suffix}"))
)


@pytest.fixture(scope="module")
def pages():
    """The script that writes generated pages; it is no module of the package."""
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def modules():
    """Names of all modules of the package."""
    for path in sorted((ROOT / "seaice_lab").rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_public_name_is_on_the_page_of_the_interface():
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   ~?(seaice_lab\S*)", text, flags=re.MULTILINE))
    public = [getattr(seaice_lab, name) for name in seaice_lab.__all__ if name != "__version__"]
    assert sorted({f"{one.__module__}.{one.__qualname__}" for one in public} - listed) == []
    packages = {path.parent.name for path in (ROOT / "seaice_lab").glob("*/__init__.py")}
    assert sorted({f"seaice_lab.{name}" for name in packages} - listed) == []


def test_the_gallery_has_every_notebook_with_parameters_that_it_knows(pages):
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert list(pages.gallery()) == names
    for name, parameters in pages.gallery().items():
        notebooks.check_parameters(ROOT / "notebooks" / f"{name}.ipynb", parameters)


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            targets = [re.sub(r".*<(.*)>", r"\1", entry) for entry in entries]
            listed |= {os.path.normpath(page.parent.relative_to(DOCS) / one) for one in targets}
    names = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES}
    assert sorted(names - listed) == ["index"]
    assert sorted(listed - names - {"command_line", "gallery/*"}) == []


needs_build = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="needs `make docs`")


@needs_build
def test_the_built_documentation_has_every_public_function():
    inventory = (HTML / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]
    documented = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    missing = []
    for module in modules():
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        public = re.findall(r"^(?:def|class) ([A-Za-z]\w*)", source, flags=re.MULTILINE)
        missing += [f"{module}.{name}" for name in public if f"{module}.{name}" not in documented]
    assert missing == []


@needs_build
def test_the_built_pages_request_nothing_from_other_hosts():
    request = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^>]*>")
    pages_of_html = sorted(HTML.rglob("*.html"))
    assert len(pages_of_html) > 100
    for page in pages_of_html:
        assert request.findall(page.read_text(encoding="utf-8")) == [], page.name
