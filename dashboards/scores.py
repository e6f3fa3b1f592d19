"""Scores: error, bias, skill and ice edge against lead time, by month and region, as a table."""

import io
from html import escape

import numpy as np
import pandas as pd
import panel as pn
from bokeh.models import Range1d

from dashboards import layout, readers, selection
from dashboards.selection import DAY, days
from seaice_lab.diagnostics.score_tables import pool_by_month
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

OFFERED = """
    rmse bias skill mean_absolute_error correlation anomaly_correlation edge_error edge_error_over
    edge_error_under extent_error volume_error crps spread
""".split()
LARGE_UNITS = {"m2": (1e9, "10³ km²"), "m3": (1e9, "km³")}  # divisor and label
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
TABLE_ROWS = 12
HOW_TO_BEGIN = "Make them with `make demo`, or `seaice-lab evaluate RUN` for a run with a forecast."


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
    runs = selection.RunSelection(state, library.names("evaluated"))
    if not runs.usable:
        return layout.empty_page("No scores yet", HOW_TO_BEGIN)
    references, reference_list = layout.checkbox_list("References", [])
    state.connect(references, "references")
    score = state.connect(pn.widgets.Select(name="Score"), "score")
    slider = selection.lead_slider(state)

    def read(run):
        return readers.load_table(readers.current_file(library.path(run, "scores.nc")))

    def draw(tables):
        """The figures and the table of the scores by name of the run."""
        first = next(iter(tables.values()))
        options = {first[name].attrs["long_name"]: name for name in OFFERED if name in first}
        state.offer(score, "score", options)
        available = [str(source) for source in first.source.values if source != "forecast"]
        selected = selection.some_of(state.references, available, ("persistence",))
        state.correct(references=selected)
        references.param.update(options=selection.labels(available), value=selected)
        lead = selection.offer_leads(slider, state, first.lead_time.values)
        scores = scores_by_title(tables, state)
        names = (state.score, score_label(first, state.score))
        months, regions = by_month(scores, *names, lead), by_region(scores, *names, lead)
        items = (by_lead(scores, *names), months, regions, score_table(scores, *names))
        return [layout.cards(items, 460)]

    csv = layout.download_button(
        "Table (CSV)", "scores.csv", lambda: as_csv(runs.read(read), state.references)
    )
    return runs.page(read, draw, reference_list, score, slider, csv)


def scores_by_title(tables, state):
    """Scores of the selected runs, and of the references in the table of the first run.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``scores.nc`` by name of the run.
    state : dashboards.state.PageState

    Returns
    -------
    dict of str to xarray.Dataset
        Tables of one source by title, in the units of :func:`score_label`, without tables that lack
        the selected score. In ``scores.nc`` a score ``<name>`` (source, lead_time) can have an
        interval ``<name>_low`` and ``<name>_high``, and values ``<name>_by_start`` and
        ``<name>_by_region``.
    """
    first, titles = next(iter(tables.values())), selection.run_titles(tables)
    scores = {titles[run]: table.sel(source="forecast") for run, table in tables.items()}
    for title, name in selection.labels(state.references).items():
        scores[title] = first.sel(source=name)
    divisor, _ = readable_units(first[state.score])
    return {title: table / divisor for title, table in scores.items() if state.score in table}


def styles(scores):
    """Colour and dashes by title; black is kept for the truth, which other pages show."""
    colours = dict(zip(scores, COLOURS[1:] + COLOURS[:1], strict=False))
    return {
        title: {"colour": colours[title], "dashed": str(table.source.values) != "forecast"}
        for title, table in scores.items()
    }


def readable_units(score):
    """Divisor and unit for a score with large numbers, such as an area in m2."""
    units = score.attrs.get("units", "1")
    return LARGE_UNITS.get(units, (1, units))


def score_label(table, name):
    """Name and unit of a score, such as "Bias (m)".

    Parameters
    ----------
    table : xarray.Dataset
    name : str

    Returns
    -------
    str
    """
    return f"{table[name].attrs['long_name']} ({readable_units(table[name])[1]})"


def by_lead(scores, name, label):
    """The score against lead time, with its interval over the starts.

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
        From :func:`scores_by_title`.
    name, label : str
        The score, and its label with its unit.

    Returns
    -------
    panel.pane.Bokeh
    """
    curves, interval = {}, ""
    for title, table in scores.items():
        band = [table[end].values for end in (f"{name}_low", f"{name}_high") if end in table]
        values = table[name].values
        curves[title] = charts.Curve(days(table), values, band=band, **styles(scores)[title])
    if f"{name}_low" in next(iter(scores.values())):
        interval = ", 95 % interval over the starts"
    figure = charts.curves(curves, "Lead time (days)", label, f"Against lead time{interval}")
    if name not in ("rmse", "correlation"):
        charts.horizontal_line(figure, 0, dash="solid")
    return layout.bokeh_pane(figure)


def by_month(scores, name, label, lead):
    """The score of the starts of each month at one lead time.

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
        From :func:`scores_by_title`.
    name, label : str
        The score, and its label with its unit.
    lead : numpy.timedelta64

    Returns
    -------
    panel.pane.Bokeh or panel.pane.HTML
    """
    curves = {}
    for title, starts in at_lead(scores, f"{name}_by_start", lead).items():
        months = pool_by_month(starts.to_dataset(name=name))
        values, style = months[name].values, styles(scores)[title]
        curves[title] = charts.Curve(months.month.values, values, points=True, **style)
    if not curves:
        text = "This score is computed for all starts together only."
        return layout.empty_state("By month", text)
    title = f"By month, {lead / DAY:g} days ahead"
    figure = charts.curves(curves, "Month of the start", label, title)
    charts.label_ticks(figure, range(1, 13), MONTHS)
    figure.x_range = Range1d(0.5, 12.5)
    return layout.bokeh_pane(figure)


def by_region(scores, name, label, lead):
    """The score in each region at one lead time.

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
        From :func:`scores_by_title`.
    name, label : str
        The score, and its label with its unit.
    lead : numpy.timedelta64

    Returns
    -------
    panel.pane.Bokeh or panel.pane.HTML
    """
    fields = at_lead(scores, f"{name}_by_region", lead)
    if not fields:
        text = "Only RMSE and bias are computed by region."
        return layout.empty_state("By region", text)
    regions = list(map(str, next(iter(fields.values())).region.values))
    values = {title: field.sel(region=regions).values for title, field in fields.items()}
    colours = {title: style["colour"] for title, style in styles(scores).items()}
    title = f"By region, {lead / DAY:g} days ahead"
    return layout.bokeh_pane(charts.category_points(values, regions, label, title, colours))


def at_lead(scores, variable, lead):
    """A variable at the nearest lead time, without the tables that lack it.

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
    variable : str
    lead : numpy.timedelta64

    Returns
    -------
    dict of str to DataArray
    """
    fields = {title: table[variable] for title, table in scores.items() if variable in table}
    fields = {title: field.sel(lead_time=lead, method="nearest") for title, field in fields.items()}
    return {title: field for title, field in fields.items() if field.notnull().any()}


def score_table(scores, name, label):
    """The score at a dozen lead times.

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
        From :func:`scores_by_title`.
    name, label : str
        The score, and its label with its unit.

    Returns
    -------
    panel.Column
    """
    columns = {title: pd.Series(table[name].values, days(table)) for title, table in scores.items()}
    table = pd.DataFrame(columns).rename_axis("Days")
    table = table.iloc[np.unique(np.linspace(0, len(table) - 1, TABLE_ROWS).round().astype(int))]
    pane = pn.pane.DataFrame(table, float_format="{:.4g}".format, escape=True, width=440)
    return pn.Column(pn.pane.HTML(f"<b>{escape(label)}</b>"), pane)


def as_csv(tables, references):
    """All scores of runs and references, with one row for each source and lead time.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``scores.nc`` by name of the run.
    references : list of str

    Returns
    -------
    io.BytesIO
    """
    tables_of_runs = []
    for run, table in tables.items():
        sources = [name for name in table.source.values if name in ("forecast", *references)]
        names = [name for name in table if table[name].dims == ("source", "lead_time")]
        rows = table[names].sel(source=sources).to_dataframe().reset_index()
        rows.insert(0, "run", run)
        rows["lead_time_h"] = rows.pop("lead_time") / pd.Timedelta(hours=1)
        tables_of_runs.append(rows)
    text = pd.concat(tables_of_runs).to_csv(index=False) if tables_of_runs else "run\n"
    return io.BytesIO(text.encode())
