"""Season: volume and extent of the ice through a long forecast, with truth and climatology."""

from functools import partial

from dashboards import layout, readers, selection
from dashboards.legend import SharedLegend
from dashboards.selection import days
from seaice_lab.figures import curves
from seaice_lab.names import in_days

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"  # between thousands
HEIGHT = 340  # pixels of a figure
# Quantities of the headline: name, factor of the values of `readers.season`, unit, number format.
QUANTITIES = {
    "volume": ("volume", 1000, "km³", ",.0f"),
    "extent": ("extent", 1, "million km²", ".2f"),
    "rmse": ("RMSE", 1, "m", ".3f"),
}
HOW_TO_BEGIN = "Execute `notebooks/07_season.ipynb`, or `seaice-lab forecast RUN --steps 720`."


def page(library, state):
    """Controls and main area of the page.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState

    Returns
    -------
    (panel.Column, panel.Column) or [panel.pane.HTML]
    """
    runs = selection.RunSelection(state, library.names("forecast", "evaluated"))
    if not runs.usable:
        return [layout.empty_state("No forecasts yet", HOW_TO_BEGIN)]
    start = selection.time_bar(state, "start", "Start", calendar=True)
    legends = selection.last_result()

    def draw(forecasts):
        """The figures of forecasts by name of the run."""
        first = next(iter(forecasts.values()))
        time = selection.offer_starts(start, state, first.dataset.init_time.values)
        titles = selection.run_titles(state.runs)
        seasons = runs.read(lambda run: readers.season(readers.forecast_of(library, run), time))
        seasons = {titles[run]: season for run, season in seasons.items()}
        panels = {name: season_panel(seasons, name) for name in curves.SEASONS}
        panels = {name: panel for name, panel in panels.items() if panel is not None}
        if not panels:
            return [layout.empty_state("Nothing to show", "None of these runs has this start.")]
        # The same for all starts, so that a hidden curve stays hidden.
        legend = legends(tuple(seasons), SharedLegend)
        panes = [legend.take(name, panel, HEIGHT) for name, panel in panels.items()]
        sentences = {title: headline(season) for title, season in seasons.items()}
        return [layout.in_words(sentences), legend, layout.cards(panes, 380)]

    return runs.page(partial(readers.forecast_of, library), draw, start)


def headline(season):
    """A sentence about the last lead time of a season.

    Parameters
    ----------
    season : xarray.Dataset (source, lead_time)
        From :func:`dashboards.readers.season`.

    Returns
    -------
    str
        Volume or extent against the truth and the climatology, and the error.
    """
    sentences = []
    for name in ("volume" if "volume" in season else "extent", "rmse"):
        quantity, factor, units, form = QUANTITIES[name]
        values = season[name].isel(lead_time=-1).to_series().dropna() if name in season else {}
        if "forecast" not in values:
            continue  # without a truth there is no error
        numbers = {
            source: f"{factor * value:{form}}".replace(",", NARROW_SPACE)
            for source, value in values.items()
        }
        text = f"{quantity} {numbers.pop('forecast')} {units}"
        others = [f"{source} {number}" for source, number in numbers.items()]
        sentences.append(f"{text} ({', '.join(others)})" if others else text)
    return f"+{in_days(days(season)[-1])}: {', '.join(sentences)}"


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
    # Without a truth there is no error.
    fields = {
        name: field
        for name, field in fields.items()
        if field.sel(source="forecast").notnull().any()
    }
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
