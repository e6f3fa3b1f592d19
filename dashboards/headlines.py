"""Sentences that say what a page shows, and maps in words."""

from contextlib import suppress
from html import escape

import numpy as np

from dashboards import readers, run_files
from dashboards.scores import common_tables
from dashboards.selectable_maps import position_text
from dashboards.selection import HOUR
from seaice_lab import names
from seaice_lab.diagnostics.comparison import too_few_starts
from seaice_lab.errors import InputError

MIN_CHANGE = 0.005  # share of the reference's error; smaller differences are called equal


class Headlines:
    """How good forecasts are at each lead time, for the sentences of the forecasts page.

    Runs are compared on their common starts.

    Parameters
    ----------
    library : dashboards.library.Library
    titles : dict of str to str
        Titles by name of the run.
    variable : str
        The scores of a run are those of its first variable.
    """

    def __init__(self, library, titles, variable):
        units = names.variable(variable).units
        self.titles, self.units = titles, "" if units == "1" else units
        tables, files = {}, {}
        for run in titles:
            with suppress(InputError):  # it is not evaluated
                dataset = readers.forecast_of(library, run).dataset
                file = run_files.current_file(library.path(run, "scores.nc"))
                table = run_files.load_table(file)
                if variable == next(iter(dataset.data_vars)) and "rmse" in table:
                    tables[run], files[run] = table, file
        if files:  # a run that shares no starts with the first one keeps its own
            tables |= common_tables(tuple(files.items()))[0]
        self.scores = {run: _errors_by_lead(table) for run, table in tables.items()}
        # Runs with too few independent starts to test significance, as on the page of scores.
        self.too_few = {run for run, table in tables.items() if too_few_starts(table)}

    def text(self, lead_h, lead_text):
        """One sentence for each run, as HTML.

        Parameters
        ----------
        lead_h : float
            Lead time in hours.
        lead_text : str
            Lead time in words.

        Returns
        -------
        str
        """
        sentences = []
        for run, title in self.titles.items():
            error, persistence, starts = self.scores.get(run, {}).get(lead_h, (None, None, 0))
            if error is None or np.isnan(error):
                text = "no scores yet: <code>seaice-lab evaluate RUN</code>"
            else:
                comparison = compare(error, persistence)
                chance = "; may be chance" if comparison and run in self.too_few else ""
                count = f"<small>({starts} start{'s' if starts != 1 else ''}{chance})</small>"
                text = f"RMSE {error:.3f} {self.units}".rstrip() + f"{comparison} {count}"
            sentences.append(f"<span><b>{escape(title)}</b>: {text}</span>")
        return f"<span><b>{escape(lead_text)}</b></span> {' '.join(sentences)}"


def _errors_by_lead(table):
    """RMSE of the forecast and of persistence, and the number of starts, by lead time in hours."""
    rmse = table.rmse.reindex(source=["forecast", "persistence"]).transpose("source", ...).values
    hours = (table.lead_time.values / HOUR).tolist()
    starts = np.full(len(hours), table.sizes.get("init_time", 0))
    if "start_count" in table:  # the truth ends before the last forecasts do
        starts = table.start_count.values
    return dict(zip(hours, zip(*rmse.tolist(), starts.tolist(), strict=True), strict=True))


def compare(error, reference, name="persistence"):
    """How much smaller or larger an error is than that of a reference, as HTML.

    Parameters
    ----------
    error, reference : float
    name : str
        Name of the reference.

    Returns
    -------
    str
        Such as ", 33 % below persistence"; empty without a reference.
    """
    if reference is None or not reference > 0 or not np.isfinite(error):
        return ""
    change = error / reference - 1
    if abs(change) < MIN_CHANGE:
        return f", equal to {name}"
    word, style = ("below", "better") if change < 0 else ("above", "worse")
    return f", <b class='{style}'>{abs(change):.0%} {word} {name}</b>".replace("%", " %")


def map_in_words(title, values, units, ocean, is_difference=False):
    """Text that replaces a map for those who cannot see it.

    Parameters
    ----------
    title : str
    values : ndarray (y, x)
    units : str
    ocean : xarray.DataArray (y, x)
        With coordinates latitude and longitude (y, x).
    is_difference : bool

    Returns
    -------
    str
        Range and mean; of a difference its largest value and where it is.
    """
    inside = values[np.isfinite(values)]
    if not len(inside):
        return f"{title}: no values."
    if is_difference:
        index = np.unravel_index(np.nanargmax(np.abs(values)), values.shape)
        place = position_text(ocean.latitude.values[index], ocean.longitude.values[index])
        largest = f"{values[index]:+.2f}".replace("-", "\N{MINUS SIGN}")
        return f"{title}: largest difference {f'{largest} {units}'.rstrip()} at {place}."
    low, high, mean = inside.min(), inside.max(), inside.mean()
    units = f" {units}" if units else ""
    return f"{title}: {low:.2f} to {high:.2f}{units}, mean {mean:.2f}{units}."
