"""The public names are there, and importing the package stays light."""

import subprocess
import sys

import pytest

import seaice_lab


@pytest.mark.parametrize("name", [n for n in seaice_lab.__all__ if n != "__version__"])
def test_every_public_name_can_be_imported_and_is_documented(name):
    assert getattr(seaice_lab, name).__doc__


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        seaice_lab.nothing  # noqa: B018


def test_importing_the_package_imports_neither_torch_nor_xarray():
    code = "import sys, seaice_lab; sys.exit(bool({'torch', 'xarray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
