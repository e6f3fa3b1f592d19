"""The runs of a folder: their list, and safe paths to their files.

Pages read no other files. The truth of a forecast is the only exception: it is in the prepared
store that the forecast names (:mod:`dashboards.readers`).
"""

import os
import time
from pathlib import Path

from seaice_lab import runs
from seaice_lab.errors import InputError

FORECASTING_KINDS = ("surrogate", "assimilation")  # kinds of runs with forecasts of the ice
SHIPPED = Path(__file__).parents[1] / "data" / "pretrained"


class Library:
    """The runs of a folder; those that come with the project as long as it has none.

    ``folder`` is the folder whose runs are listed now, ``own`` the one that was given.

    Parameters
    ----------
    folder : str or Path
    listing_s : float
        The folder is listed again after this number of seconds.

    Raises
    ------
    InputError
        If the path is not a folder or the folder cannot be read.
    """

    def __init__(self, folder, listing_s=2.0):
        self.folder = self.own = Path(folder)
        self.listing_s = listing_s
        if not self.folder.is_dir():
            raise InputError(
                f"{folder}: no such folder of runs; make a run with `make demo`, or name the "
                "folder that holds yours with --runs"
            )
        if not os.access(self.folder, os.R_OK | os.X_OK):
            raise InputError(f"{folder}: cannot be read; change its permissions")
        self._rows, self._listed_at = [], float("-inf")

    def runs(self):
        """All runs, newest first.

        Returns
        -------
        list of seaice_lab.runs.RunState
            The state of a run that cannot be used says why; its kind is "?".
        """
        if time.monotonic() - self._listed_at < self.listing_s:
            return self._rows
        # A newcomer without runs sees the network that comes with the project.
        rows, self.folder = [], self.own
        if not runs.run_folders(self.own) and SHIPPED.is_dir():
            self.folder = SHIPPED
        for row in runs.list_runs(self.folder):
            folder = self.folder / row.name
            paths = [folder, *(folder / name for name in (*runs.RUN_FILES, runs.TAGS, runs.NOTES))]
            if not all(is_inside(path, self.folder) for path in paths):
                state = "unreadable: is a link out of the runs folder"
                row = runs.RunState(row.name, "?", state, row.created)
            rows.append(row._replace(state=row.state.replace(f"{self.folder}{os.sep}", "")))
        self._rows, self._listed_at = rows[::-1], time.monotonic()
        return self._rows

    def names(self, *states, kinds=FORECASTING_KINDS):
        """Names of usable runs, newest first.

        Parameters
        ----------
        *states : str
            Keep runs in these states; all states by default.
        kinds : sequence of str
            Of "surrogate", "assimilation" and "emissivity".

        Returns
        -------
        list of str
        """
        rows = [row for row in self.runs() if row.kind in kinds]
        return [row.name for row in rows if not states or row.state in states]

    def path(self, name, *parts):
        """Path of a run, or of a file in it.

        Parameters
        ----------
        name : str
            Name of the run.
        *parts : str
            Path of the file inside the run.

        Returns
        -------
        Path

        Raises
        ------
        InputError
            If there is no such run, or the file is outside the folder of runs.
        """
        path = self.folder.joinpath(name, *parts)
        is_listed = any(row.name == name and row.kind != "?" for row in self.runs())
        if not is_listed or not (self.folder / name).exists():  # it may be gone since the listing
            raise InputError(f"there is no usable run {name!r} in {self.folder.name}")
        if not is_inside(path, self.folder):
            raise InputError(f"{'/'.join(parts)} of run {name} is outside the runs folder")
        return path

    def notebooks(self, name):
        """Names of the executed notebooks (HTML files) of a run."""
        files = self.path(name).glob("notebooks/*.html")
        return sorted(file.name for file in files if is_inside(file, self.folder))

    def notebook(self, name, file):
        """Content of an executed notebook.

        Parameters
        ----------
        name : str
            Name of the run.
        file : str
            One of :meth:`notebooks`.

        Returns
        -------
        bytes

        Raises
        ------
        InputError
            If there is no such run or notebook.
        """
        if file not in self.notebooks(name):
            raise InputError(f"run {name} has no notebook {file}")
        return self.path(name, "notebooks", file).read_bytes()

    def tags(self, name):
        """Tags of the emissivity products of a run."""
        files = self.path(name).glob("emissivity_grid_*.nc")
        return sorted(file.stem.removeprefix("emissivity_grid_") for file in files)


def is_inside(path, folder):
    """Whether a path is inside a folder after links have been followed.

    Parameters
    ----------
    path, folder : str or Path

    Returns
    -------
    bool
    """
    return Path(path).resolve().is_relative_to(Path(folder).resolve())
