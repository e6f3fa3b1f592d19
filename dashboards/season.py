"""Season: volume and extent of the ice through a long forecast, with truth and climatology."""

from functools import partial

from dashboards import layout, readers, selection
from dashboards.selection import time_text
from seaice_lab.figures import curves

HEIGHT = 340  # pixels of a figure
HOW_TO_BEGIN = "Execute `notebooks/07_season.ipynb`, or `seaice-lab forecast RUN --steps 720`."


def page(library, state):
    """Controls and main area of the page.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState

    Returns
    -------
    (panel.Column, panel.Column)
    """
    runs = selection.RunSelection(state, library.names("forecast", "evaluated"))
    if not runs.usable:
        return layout.empty_page("No forecasts yet", HOW_TO_BEGIN)
    start = state.select("Start", "start")

    def draw(forecasts):
        """The figures of forecasts by name of the run."""
        first = next(iter(forecasts.values()))
        starts = {time_text(time): time for time in first.dataset.init_time.values}
        state.offer(start, "start", list(starts))
        time, titles = starts[state.start], selection.run_titles(state.runs)
        seasons = runs.read(lambda run: readers.season(readers.forecast_of(library, run), time))
        seasons = {titles[run]: season for run, season in seasons.items()}
        panels = [season_panel(seasons, name) for name in curves.SEASONS]
        panes = [layout.chart(panel, HEIGHT) for panel in panels if panel is not None]
        if not panes:
            return [layout.empty_state("Nothing to show", "None of these runs has this start.")]
        return [layout.cards(panes, 460)]

    return runs.page(partial(readers.forecast_of, library), draw, start)


def season_panel(seasons, quantity):
    """One quantity through time: truth and climatology of the first run, and all forecasts.

    Parameters
    ----------
    seasons : dict of str to xarray.Dataset
        From :func:`dashboards.readers.season`, by title of the run.
    quantity : str
        A key of `seaice_lab.figures.curves.SEASONS`.

    Returns
    -------
    holoviews.Overlay or None
        None if no run has the quantity.
    """
    fields = {name: season[quantity] for name, season in seasons.items() if quantity in season}
    if not fields:
        return None
    first = next(iter(fields.values()))
    sources = {
        source.capitalize(): first.sel(source=source)
        for source in ("truth", "climatology")
        if source in first.source and first.sel(source=source).notnull().any()
    }
    forecasts = {name: field.sel(source="forecast") for name, field in fields.items()}
    return curves.plot_season(sources | forecasts, quantity)
