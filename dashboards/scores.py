"""Scores: a score card, and one score against lead time, by region, by start and by month."""

import io
from functools import lru_cache
from html import escape
from typing import NamedTuple

import pandas as pd

from dashboards import layout, run_files, selection
from dashboards.legend import SharedLegend, with_starts
from dashboards.region_map import region_map
from dashboards.score_card import score_card
from dashboards.selection import DAY
from seaice_lab.diagnostics import comparison
from seaice_lab.diagnostics.score_tables import pool_by_month
from seaice_lab.figures import curves
from seaice_lab.figures.axes import axis_label
from seaice_lab.figures.curves import is_forecast
from seaice_lab.names import in_days

OFFERED = """
    rmse bias skill mean_absolute_error correlation anomaly_correlation edge_error edge_error_over
    edge_error_under extent_error volume_error crps spread
""".split()
LARGE_UNITS = {"m2": (1e9, "10³ km²"), "m3": (1e9, "km³")}  # divisor and label
HEIGHT = 360  # pixels of a figure
RUN = "run:"  # before the names of runs, among the names of what they are compared with
HOW_TO_BEGIN = "Make them with `make demo`, or `seaice-lab evaluate RUN` for a run with a forecast."


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
    runs = selection.RunSelection(state, library.names("evaluated"))
    if not runs.usable:
        return [layout.empty_state("No scores yet", HOW_TO_BEGIN)]
    references, reference_list = layout.checkbox_list("References", [])
    state.connect(references, "references")
    score = state.select("Score", "score")
    against = state.select("Compared with", "against")
    slider = selection.time_bar(state, "lead", "Lead time")
    drawn = selection.last_result()  # card and curves do not depend on the lead time

    def read(run):
        file = run_files.current_file(library.path(run, "scores.nc"))
        run_files.load_table(file)  # here, so that a message names a run that cannot be read
        return file

    def draw(files):
        """The score card and the figures, of the files by name of the run."""
        tables, left_out = common_tables(tuple(files.items()))
        first = next(iter(tables.values()))
        options = {first[name].attrs["long_name"]: name for name in OFFERED if name in first}
        state.offer(score, "score", options)
        names = [str(name) for table in tables.values() for name in table.source.values]
        available = [name for name in dict.fromkeys(names) if name != "forecast"]
        selected = selection.some_of(state.references, available, ("persistence",))
        state.correct(references=selected)
        references.param.update(options=selection.labels(available), value=selected)
        titles = selection.run_titles(tables)
        runs_by_title = {title: RUN + run for run, title in titles.items()}
        state.offer(against, "against", selection.labels(available) | runs_by_title)
        lead = selection.offer_leads(slider, state, first.lead_time.values)
        view = view_of(tables, state.score, selected, state.against)
        key = (tuple(files.items()), state.score, tuple(selected), state.against)
        card, legend, against_lead = drawn(key, lambda: (score_card(view), *by_lead(view)))
        notes = [f"{run} is not compared: {reason}." for run, reason in left_out.items()]
        regions = at_lead(view, f"{view.name}_by_region", lead)
        plot = [region_map(regions, view.name, view.label)] if regions else []
        items = [against_lead, *plot, by_region(view, lead, legend)]
        items += by_time(view, lead, legend)
        return [
            layout.in_words(headlines(view, lead)),
            layout.message_pane(" ".join(notes + view.missing)),
            layout.cards([card], 400),
            legend,
            layout.cards([*items, *ensembles(view, lead)], 350),
        ]

    def write_csv():
        files = tuple(runs.read(read).items())
        return as_csv(common_tables(files)[0] if files else {}, state.references)

    csv = layout.download_button("Table (CSV)", "scores.csv", write_csv)
    return runs.page(read, draw, reference_list, score, against, slider, csv)


@lru_cache(maxsize=8)
def common_tables(files):
    """Scores of runs on their common starts, and why runs are left out.

    Parameters
    ----------
    files : tuple of (str, dashboards.run_files.File)
        Name of each run and its ``scores.nc``. The first run is compared with all others.

    Returns
    -------
    tables : dict of str to xarray.Dataset
    left_out : dict of str to str
    """
    tables = {run: run_files.load_table(file) for run, file in files}
    return comparison.on_common_starts(tables, files[0][0])


class View(NamedTuple):
    """One score of the selected runs and references.

    Parameters
    ----------
    name, label : str
        The score; its name and unit at an axis.
    scores : dict of str to xarray.Dataset
        Table of one source each, by title, the runs first.
    measures : dict of str to xarray.Dataset or None
        Table with which each of them is compared, by the same titles.
    measure : str
        Title of what they are compared with.
    missing : list of str
        What cannot be shown, in sentences.
    """

    name: str
    label: str
    scores: dict
    measures: dict
    measure: str
    missing: list


def view_of(tables, name, references, against):
    """Select a score of the runs and references, in a readable unit.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Scores on common starts, by name of the run.
    name : str
        The score.
    references : list of str
        References that are shown. They are those of the first run that has them.
    against : str
        What the scores are compared with: a reference, or `RUN` and the name of a run.

    Returns
    -------
    View
    """
    titles, first = selection.run_titles(tables), next(iter(tables.values()))
    divisor, units = LARGE_UNITS.get(first[name].attrs.get("units"), (1, None))
    tables = {run: in_unit(table, name, divisor, units) for run, table in tables.items()}
    scores = {titles[run]: table.sel(source="forecast") for run, table in tables.items()}
    for title, reference in selection.labels(references).items():
        scores[title] = reference_in(tables.values(), reference)
    if against.startswith(RUN):
        run = against.removeprefix(RUN)
        measure, measures = titles[run], dict.fromkeys(scores, tables[run].sel(source="forecast"))
    else:
        measure = against.replace("_", " ")
        # Each run is compared with the reference of its own data, if that was scored.
        measures = dict.fromkeys(scores, reference_in(tables.values(), against))
        for run, table in tables.items():
            measures[titles[run]] = reference_in([table, *tables.values()], against)
    absent = [t for t, table in scores.items() if name not in table or table[name].isnull().all()]
    missing = [f"{title} has no {first[name].attrs['long_name'].lower()}." for title in absent]
    scores = {title: table for title, table in scores.items() if title not in absent}
    attrs = first[name].attrs
    label = axis_label(attrs["long_name"], units or attrs.get("units", "1"))
    return View(name, label, scores, measures, measure, missing)


def in_unit(table, name, divisor, units):
    """Divide one score of a table to a more readable unit.

    Parameters
    ----------
    table : xarray.Dataset
    name : str
    divisor : float
    units : str or None
        None returns the table unchanged.

    Returns
    -------
    xarray.Dataset
    """
    keys = [key for key in table if key == name or key.startswith(f"{name}_")] if units else []
    converted = {key: (table[key] / divisor).assign_attrs(table[key].attrs) for key in keys}
    return table.assign({key: value.assign_attrs(units=units) for key, value in converted.items()})


def reference_in(tables, name):
    """Scores of a reference.

    Parameters
    ----------
    tables : iterable of xarray.Dataset
        Scores of runs.
    name : str

    Returns
    -------
    xarray.Dataset or None
        From the first of the tables that has it.
    """
    for table in tables:
        if name in table.source.values:
            # Scores without a source belong to the forecast alone.
            return table[[key for key in table if "source" in table[key].dims]].sel(source=name)
    return None


def headlines(view, lead):
    """A sentence about each run at a lead time.

    Parameters
    ----------
    view : View
    lead : numpy.timedelta64

    Returns
    -------
    dict of str to str
        By the title of the run.
    """
    sentences = {}
    for title, table in view.scores.items():
        if is_forecast(table):
            measure = None if view.measure == title else view.measures[title]
            words = comparison.headline(table, measure, view.measure, view.name, lead)
            sentences[title] = words
    return sentences


def by_lead(view):
    """The score against lead time, with its interval over the starts, and the legend of the page.

    Parameters
    ----------
    view : View

    Returns
    -------
    (SharedLegend, panel.pane.Bokeh)
    """
    tables, legend = with_starts(view.scores, view.scores), SharedLegend()
    has_interval = f"{view.name}_low" in next(iter(tables.values()))
    interval = ", 95 % interval over the starts" if has_interval else ""
    panel = curves.plot_score(tables, view.name, view.label, f"Against lead time{interval}")
    return legend, legend.take("lead", panel, HEIGHT)


def by_time(view, lead, legend):
    """The score of each start, and of the starts of each month, at one lead time.

    Parameters
    ----------
    view : View
    lead : numpy.timedelta64
    legend : SharedLegend

    Returns
    -------
    list of panel.pane.Bokeh or panel.pane.HTML
    """
    starts = at_lead(view, f"{view.name}_by_start", lead)
    if not starts:
        text = "This score is computed for all starts together only."
        return [layout.empty_state("By start and by month", text)]
    styles = curves.score_styles(with_starts(view.scores, view.scores))
    starts = with_starts(view.scores, starts)
    ahead = f"{in_days(lead / DAY)} ahead"
    panels = [curves.plot_starts(starts, view.label, f"By start, {ahead}", styles)]
    months = {
        title: pool_by_month(values.to_dataset(name=view.name))[view.name]
        for title, values in starts.items()
    }
    if any(values.sizes["month"] > 1 for values in months.values()):
        panels.append(curves.plot_months(months, view.label, f"By month, {ahead}", styles))
    return [legend.take(number, panel, HEIGHT) for number, panel in enumerate(panels)]


def by_region(view, lead, legend):
    """The score in each region at one lead time.

    Parameters
    ----------
    view : View
    lead : numpy.timedelta64
    legend : SharedLegend

    Returns
    -------
    panel.pane.Bokeh or panel.pane.HTML
    """
    fields = at_lead(view, f"{view.name}_by_region", lead)
    if not fields:
        text = "Only RMSE and bias are computed by region."
        if view.name in ("rmse", "bias"):
            text = "These runs have no scores by region of common starts: evaluate them again."
        return layout.empty_state("By region", text)
    regions = list(map(str, next(iter(fields.values())).region.values))
    absent = [title for title in view.scores if title not in fields]
    references = [title for title in fields if not is_forecast(view.scores[title])]
    compared = with_starts(view.scores, {t: fields[t] for t in fields if t not in references[1:]})
    values = {title: field.reindex(region=regions).values for title, field in fields.items()}
    styles = curves.score_styles(with_starts(view.scores, view.scores))
    colours = {label: style["colour"] for label, style in styles.items()}
    title = f"By region, {in_days(lead / DAY)} ahead"
    arguments = with_starts(view.scores, values), regions, view.label, title, colours, compared
    pane = legend.take("region", curves.plot_categories(*arguments), HEIGHT)
    text = f"No scores by region at this lead time: {escape(', '.join(absent))}"
    notes = [layout.html_pane(text)] if absent else []
    return layout.stretched(pane, *notes)


def ensembles(view, lead):
    """Spread and ranks of the runs that are ensembles.

    Parameters
    ----------
    view : View
    lead : numpy.timedelta64
        Of the ranks.

    Returns
    -------
    list of panel.pane.Bokeh
        Two for each run.
    """
    return [
        layout.chart(panel)
        for title, table in view.scores.items()
        if is_forecast(table) and "rank_histogram" in table
        for panel in curves.plot_ensemble(table, title, lead)
    ]


def at_lead(view, variable, lead):
    """A variable at a lead time by title, without the tables that lack it.

    Parameters
    ----------
    view : View
    variable : str
    lead : numpy.timedelta64

    Returns
    -------
    dict of str to DataArray
    """
    fields = {}
    for title, table in view.scores.items():
        # The nearest lead time of a shorter forecast is not that of the others.
        if variable in table and lead in table.lead_time.values:
            fields[title] = table[variable].sel(lead_time=lead)
    return {title: field for title, field in fields.items() if field.notnull().any()}


def as_csv(tables, references):
    """All scores of runs and references on their common starts, one row a source and lead time.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Scores by name of the run.
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
        rows.insert(1, "starts", table.sizes["init_time"])
        rows["lead_time_h"] = rows.pop("lead_time") / pd.Timedelta(hours=1)
        tables_of_runs.append(rows)
    text = pd.concat(tables_of_runs).to_csv(index=False) if tables_of_runs else "run\n"
    return io.BytesIO(text.encode())
