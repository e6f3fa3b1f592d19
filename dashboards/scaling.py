"""Scaling: lines of forecast and truth, exponents, and statistics against lead time."""

from functools import partial
from html import escape
from typing import NamedTuple

import numpy as np
import xarray as xr
from bokeh.models import CustomJSHover, HoverTool

from dashboards import layout, readers, run_files, selection
from dashboards.legend import SharedLegend
from dashboards.readers import TRUTH
from dashboards.selectable_maps import SelectableMaps
from dashboards.selection import DAY
from seaice_lab import grid
from seaice_lab.diagnostics import deformation
from seaice_lab.diagnostics.features import feature_map
from seaice_lab.figures import linked_maps, scaling
from seaice_lab.names import in_days

HEIGHT = 320  # pixels of a figure
ORDER_HEIGHT = 310  # of one beside the maps
HOW_TO_BEGIN = "Make it with `seaice-lab scaling RUN` for a run with a forecast."
REFERENCES = ("persistence", "climatology", "blurred", "phase_randomised")
# Quantity of the maps, its unit, and its colours as powers of ten.
GRADIENT = "Thickness gradient", "m/km", (-4.0, -1.0)
RATE = "Deformation rate", "1/day", (-3.0, 0.0)
LINE = 99.0  # in place of the logarithm on a linear feature; the scale shows it in black
HOVER = "return value > 50 ? 'linear feature' : `${(10 ** value).toPrecision(2)} {unit}`"
# What the figures show, in a sentence below them, and titles.
CONCENTRATION = "0: spread evenly over the area; higher: concentrated in fewer places."
TAIL = (
    "How much lies beyond a large value, the same for all. Higher: a heavier tail, more strong "
    "values; lower: a lighter tail, fewer of them."
)
ORDERS = {
    "beta": (
        "Decrease of the deformation rate with scale, β(q)",
        "The mean of (deformation rate)^q falls with the length L over which the velocity "
        "gradients are averaged, as L^(\N{MINUS SIGN}β). Higher: deformation is concentrated in "
        "fewer places. Dashed: the truth, if strong deformation were no more concentrated.",
    ),
    "zeta": (
        "Growth of thickness differences with distance, ζ(q)",
        "The mean of (thickness difference)^q between two places grows with their distance r as "
        "r^ζ. Higher: smoother. Dashed: the truth, if large differences were no more "
        "concentrated than small ones.",
    ),
}
AGAINST_LEAD = {
    "c1": CONCENTRATION,
    "tail_weight": TAIL,
    "gradient_c1": CONCENTRATION,
    "gradient_tail_weight": TAIL,
    "feature_length": "Those are the black lines of the maps.",
    "anisotropy": "0: the structures run in all directions; 1: all run in the same direction.",
}
EQUAL_WITHIN = 0.05  # relative difference below which statistics are called equal
# Words for a statistic above, below and near that of the truth, and its numbers.
IN_WORDS = {
    "zeta": ("too smooth", "too rough", "as smooth as the truth", "ζ(1) {:.2f}, truth {:.2f}"),
    "beta": (
        "deformation in too few places",
        "deformation too evenly spread",
        "deformation as concentrated as the truth's",
        "β(1) {:.2f}, truth {:.2f}",
    ),
    "gradient_tail_weight": (
        "heavier tail, too many strong gradients",
        "lighter tail, too few strong gradients",
        "as many strong gradients as in the truth",
        "tail weight {:.3f}, truth {:.3f}",
    ),
    "feature_length": (
        "lines too long",
        "lines too short",
        "lines as long as the truth's",
        "{:.0f} km, truth {:.0f} km",
    ),
}
DEFINITION = (
    "A good forecast has the statistics of the truth at all lead times. A copy of the truth with "
    "random phases has the same spectrum but no lines: what it shares is no evidence of structure. "
    "Persistence keeps all statistics, so none of them is a skill. Bands are two standard errors "
    "of a bootstrap over independent starts, if there are at least three of these. Starts: {}. "
    "Mask: {}."
)

SCORE_AGAIN = (
    "No bands for {}: the errors in the file take start dates of one model run for independent; "
    "score again with `seaice-lab scaling RUN`."
)


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
    names = library.names("forecast", "evaluated")
    names = [name for name in names if library.path(name, "scaling.nc").exists()]
    runs = selection.RunSelection(state, names)
    if not runs.usable:
        return [layout.empty_state("No scaling yet", HOW_TO_BEGIN)]
    slider = selection.time_bar(state, "lead", "Lead time")
    start = selection.time_bar(state, "start", "Start of the maps", calendar=True)
    statistics, maps = selection.last_result(), selection.last_result()

    def draw(tables):
        """Maps and figures of the tables by name of the run."""
        first = next(iter(tables))
        lead = selection.offer_leads(slider, state, tables[first].lead_time.values)
        forecast = readers.forecast_of(library, first)
        time = selection.offer_starts(start, state, forecast.dataset.init_time.values)
        titles = selection.run_titles(state.runs)
        tables = {titles[run]: table for run, table in tables.items()}
        key = tuple((title, id(table)) for title, table in tables.items())
        old = [title for title, table in tables.items() if "significance" not in table.attrs]
        tables = {title: table_without_old_errors(table) for title, table in tables.items()}
        orders = [name for name in ORDERS if sources_of(tables, name)]
        shown = maps(key, lambda: line_maps(forecast, titles, state, orders))
        show_lines(shown.maps, forecast, time, lead)
        for name, column in shown.orders.items():
            column[:] = order_chart(tables, name, lead, shown.legend)
        curves = statistics(key, lambda: layout.cards(over_leads(tables, shown.legend), 380))
        sentences = {title: headline(table, lead) for title, table in tables.items()}
        starts = [f"{title} {table.attrs.get('starts', '?')}" for title, table in tables.items()]
        note = DEFINITION.format(", ".join(starts), tables[titles[first]].attrs.get("mask", ""))
        note = layout.html_pane(escape(note), "faint")
        old = layout.message_pane(SCORE_AGAIN.format(", ".join(old)) if old else "")
        return [layout.in_words(sentences), old, *shown.items, curves, note]

    reader = partial(run_files.table_of, library, name="scaling.nc")
    return runs.page(reader, draw, slider, start)


class LineMaps(NamedTuple):
    """Maps of linear features, columns of curves beside them, legend, and all on the page."""

    maps: SelectableMaps
    orders: dict
    legend: SharedLegend
    items: list


def line_maps(forecast, titles, state, orders):
    """Empty linked maps of truth and forecast, with their colour bar and columns beside them.

    Parameters
    ----------
    forecast : dashboards.readers.Forecast
        Of the first run.
    titles : dict of str to str
        Of all runs by name.
    state : dashboards.state.PageState
    orders : list of str
        Keys of `ORDERS`, each of which has a column beside the maps.

    Returns
    -------
    LineMaps
    """
    title, *others = titles.values()
    quantity, unit, limits = RATE if _has_drift(forecast) else GRADIENT
    scale = linked_maps.colour_scale("cmo.amp", limits)
    scale.high_color = "black"
    maps = SelectableMaps(readers.raster_of(forecast), state, "cell")
    figures = [maps.add(key, key, "", scale) for key in (TRUTH, "forecast")]
    for figure in figures:
        hover = figure.select_one(HoverTool)
        hover.tooltips[0] = ("", "@image{custom}")
        hover.formatters |= {"@image": CustomJSHover(code=HOVER.replace("{unit}", unit))}
    members = forecast.dataset.sizes.get("member")
    # The mean of the members has fewer lines than any forecast.
    figures[1].title.text = f"{title}, member 1 of {members}" if members else title
    columns = {name: layout.stretched() for name in orders}
    label = f"{quantity} ({unit}); black: linear features"
    if others:
        label += f". Maps of {title} only, which is the first of the runs"
    panes = map(layout.bokeh_pane, figures)
    panes = [layout.stretched(pane, css_classes=["half"]) for pane in panes]
    cards = layout.cards([*panes, *columns.values()], 350)
    legend = SharedLegend()
    return LineMaps(
        maps, columns, legend, [layout.colour_bars({label: scale}, True), legend, cards]
    )


def show_lines(maps, forecast, start, lead):
    """Show the rates of truth and forecast on their maps, linear features in black.

    Parameters
    ----------
    maps : SelectableMaps
        From :func:`line_maps`.
    forecast : dashboards.readers.Forecast
    start : numpy.datetime64
    lead : numpy.timedelta64
        The nearest lead time of the forecast is shown.
    """
    leads = forecast.dataset.lead_time.values
    lead = leads[abs(leads - lead).argmin()]
    for source in (TRUTH, "forecast"):
        rate = _rate(forecast, source, start, lead)
        values = np.log10(rate.where(rate > 0)).values
        values[feature_map(rate).values > 0] = LINE
        # A corner is shown on the cell below and left of it.
        maps.show(source, np.pad(values, ((0, 1), (0, 1)), constant_values=np.nan))


def _has_drift(forecast):
    return {"siu", "siv"} <= set(forecast.dataset.data_vars)


def _rate(forecast, source, start, lead):
    """Deformation rate, or without drift the thickness gradient, on the corners of the cells."""

    def field(name, units):
        values = readers.frame(forecast, source, name, start, lead, statistic="first")
        return xr.DataArray(values, dims=("y", "x"), attrs={"units": units}, name=name)

    ocean = forecast.dataset.ocean
    dx_m = grid.spacing_m(ocean, ocean)
    sit = field("sit", "m")
    mask = deformation.ice_mask(xr.DataArray(ocean.values, dims=("y", "x")), sit)
    if not _has_drift(forecast):
        return deformation.gradient_magnitude(sit, mask, dx_m)
    drift = field("siu", "m s-1"), field("siv", "m s-1")
    return deformation.deformation_rates(deformation.velocity_gradients(*drift, mask, dx_m)).total


def sources_of(tables, name):
    """Truth and references of the first run, and the forecast of each run, by title.

    The members of an ensemble are added if it is the only run.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``scaling.nc`` by title of the run.
    name : str
        A statistic; only tables that have it are used.

    Returns
    -------
    dict of str to xarray.Dataset
    """
    tables = {title: table for title, table in tables.items() if name in table}
    if not tables:
        return {}
    first = next(iter(tables.values()))
    forecasts = {title: table.sel(source="forecast") for title, table in tables.items()}
    truth = scaling.select_sources(first, ("truth",))
    members = scaling.members_of(first) if len(tables) == 1 else []
    return truth | forecasts | scaling.select_sources(first, [*REFERENCES, *members])


def table_without_old_errors(table):
    """A table, without its standard errors if these took all starts for independent.

    Parameters
    ----------
    table : xarray.Dataset
        Content of ``scaling.nc``. Its attribute ``significance`` tells how starts were counted;
        without it, starts of one model run counted as independent.

    Returns
    -------
    xarray.Dataset
    """
    if "significance" in table.attrs:
        return table
    return table.drop_vars([name for name in table if name.endswith("_error")])


def order_chart(tables, name, lead, legend):
    """Figure of beta(q) or zeta(q) at one lead time, with a sentence.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``scaling.nc`` by title of the run.
    name : str
        A key of `ORDERS`.
    lead : numpy.timedelta64
    legend : SharedLegend

    Returns
    -------
    list of Panel objects
    """
    now = {}
    for title, table in sources_of(tables, name).items():
        table = table.sel(increment=1, drop=True)
        # References have fewer lead times.
        has_values = table[name].notnull().any("q").values
        now[title] = table.isel(lead_time=has_values).sel(lead_time=lead, method="nearest")
    title, sentence = ORDERS[name]
    panel = scaling.plot_orders(now, name, f"{title}, {in_days(lead / DAY)} ahead")
    return [legend.take(name, panel, ORDER_HEIGHT), layout.html_pane(sentence, "faint")]


def over_leads(tables, legend):
    """Figures of statistics against lead time, with a sentence each.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``scaling.nc`` by title of the run.
    legend : SharedLegend

    Returns
    -------
    list of panel.Column
    """
    items = []
    for name, sentence in AGAINST_LEAD.items():
        if sources := sources_of(tables, name):
            chart = legend.take(name, scaling.plot_statistic(sources, name), HEIGHT)
            items.append(layout.stretched(chart, layout.html_pane(sentence, "faint")))
    return items


def headline(table, lead):
    """The character of a forecast at a lead time in words.

    Parameters
    ----------
    table : xarray.Dataset
        Content of ``scaling.nc``.
    lead : numpy.timedelta64

    Returns
    -------
    str
    """
    first_order = table.sel({dim: 1 for dim in ("q", "increment") if dim in table.dims})
    now = first_order.sel(lead_time=lead, method="nearest")
    sentences = []
    for name, (above, below, equal, text) in IN_WORDS.items():
        if name not in now:
            continue
        forecast, truth = (float(now[name].sel(source=one)) for one in ("forecast", "truth"))
        change = forecast / truth - 1 if truth else np.nan
        words = equal if abs(change) < EQUAL_WITHIN else above if change > 0 else below
        numbers = text.format(forecast, truth)
        if np.isfinite(change):
            sentences.append(f"{words} ({numbers})".replace("-", "\N{MINUS SIGN}"))
    days = now.lead_time.values / DAY  # the nearest lead time that has values
    return f"+{in_days(days)}: {'; '.join(sentences) or 'no statistics at this lead time'}"
