"""Write what the documentation takes from the project: tables of settings, executed notebooks.

`make docs` runs it. With `--settings` it writes the tables only; with `--unexecuted` the gallery
shows the notebooks without results, which is enough for a check of the pages. A notebook is
executed again if it or its parameters in `gallery.yaml` changed.
"""

import io
import os
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import yaml

from seaice_lab import notebooks, options

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WORK = DOCS / "_build" / "work"  # working folder of the notebooks


def settings_page():
    """The page of settings, with tables from the configurations of the jobs.

    Returns
    -------
    str
    """
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    text, title, _ = page.partition("## All settings\n\n")
    tables = io.StringIO()
    with redirect_stdout(tables):
        for job in options.JOBS:
            options.print_settings(job, markdown=True)
    return text + title + tables.getvalue().rstrip() + "\n"


def prepare_folder():
    """Give the notebooks data, a trained network and a catalogue with a short season."""
    shutil.copytree(ROOT / "data/pretrained/sample", WORK / "runs/demo", dirs_exist_ok=True)
    shutil.copytree(ROOT / "data/sample", WORK / "data/sample", dirs_exist_ok=True)
    catalogue = yaml.safe_load((ROOT / "data_catalog.yaml").read_text(encoding="utf-8"))
    season = catalogue["synthetic-seasons"]
    season["generator"] |= {"size": 32, "days": 1095}
    years = {"train": "2001", "validation": "2002", "test": "2003"}
    season["splits"] = {split: {"period": [year, year]} for split, year in years.items()}
    (WORK / "data_catalog.yaml").write_text(yaml.safe_dump(catalogue), encoding="utf-8")


def gallery():
    """Names and parameters of the notebooks of the gallery, in the order of their execution.

    Returns
    -------
    dict of str to dict
    """
    return yaml.safe_load((DOCS / "gallery.yaml").read_text(encoding="utf-8"))


def execute_gallery():
    """Execute the notebooks of the gallery into ``docs/gallery``."""
    os.chdir(WORK)
    with notebooks.shared_kernel() as kernel:
        for name, parameters in gallery().items():
            notebook, output = ROOT / "notebooks" / f"{name}.ipynb", WORK / f"{name}.ipynb"
            current = notebooks.was_executed(output, parameters)
            if not current or output.stat().st_mtime < notebook.stat().st_mtime:
                print(name, flush=True)
                notebooks.execute(notebook, output, parameters, WORK, kernel)
            shutil.copy(output, DOCS / "gallery")


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    if "--settings" not in sys.argv:
        (DOCS / "gallery").mkdir(exist_ok=True)
        if "--unexecuted" in sys.argv:
            for name in gallery():
                shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", DOCS / "gallery")
        else:
            prepare_folder()
            execute_gallery()
