"""The public names can be imported, and importing the package stays light."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seaice_lab


@pytest.mark.parametrize("name", [n for n in seaice_lab.__all__ if n != "__version__"])
def test_every_public_name_can_be_imported_and_is_documented(name):
    assert getattr(seaice_lab, name).__doc__


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        seaice_lab.nothing  # noqa: B018


def test_importing_the_package_and_the_tags_of_runs_imports_neither_torch_nor_xarray():
    heavy = "{'torch', 'xarray', 'pandas'}"
    code = f"import sys, seaice_lab.tracking; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_checkout_that_is_not_installed_can_be_imported(tmp_path):
    package = Path(seaice_lab.__file__).parent
    (tmp_path / "seaice_lab").mkdir()
    for name in ("__init__.py", "processors.py"):
        shutil.copy(package / name, tmp_path / "seaice_lab")
    # Isolated (-I) and without site-packages (-S): no metadata of an installed package is seen.
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import seaice_lab; "
        "print(seaice_lab.__file__, seaice_lab.__version__)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "seaice_lab/__init__.py"), "0+unknown"], (
        done.stderr
    )
