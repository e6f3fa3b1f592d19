"""Scores: error, bias, skill and ice edge against lead time, by month and region, as a table."""

import io
from html import escape

import numpy as np
import pandas as pd
import panel as pn
from bokeh.models import Range1d

from dashboards.choice import LeadChoice, RunChoice, titled
from dashboards.layout import bare, cards, controls, notice
from seaice_lab.diagnostics.score_tables import pool_by_month
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

DAY = np.timedelta64(1, "D")
OFFERED = ("rmse", "bias", "skill", "mean_absolute_error", "correlation", "anomaly_correlation",
           "edge_error", "edge_error_over", "edge_error_under", "extent_error", "volume_error",
           "crps", "spread")  # fmt: skip
FINER = {"m2": (1e9, "10³ km²"), "m3": (1e9, "km³")}  # large units: divisor and label
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def page(library, address):
    """Controls and main area of the page."""
    choice = RunChoice(library, address, lambda name: library.table(name, "scores.nc"), "evaluated")
    if not choice.usable:
        return controls(), notice(
            "No scores yet", "Make them with `make demo`, or `seaice-lab evaluate RUN` for a run "
            "that has a forecast.",
        )  # fmt: skip
    score = pn.widgets.Select(name="Score")
    lead = LeadChoice()
    csv = pn.widgets.FileDownload(
        label="Table (CSV)", filename="scores.csv", embed=False, button_type="default"
    )
    main = pn.Column(sizing_mode="stretch_width")
    tables, drawing = {}, [False]

    def read(_=None):
        tables.clear()
        tables.update(choice.read())
        first = next(iter(tables.values()), None)
        if first is None:
            main[:] = [choice.note, notice("Nothing chosen", "Choose runs on the left.")]
            return
        drawing[0] = True
        names = [name for name in OFFERED if name in first]
        score.options = {first[name].attrs["long_name"]: name for name in names}
        score.value = address.one("score", names, names[0])
        choice.offer([str(s) for s in first.source.values if s != "forecast"])
        lead.fit(first.lead_time.values, address)
        drawing[0] = False
        draw()

    def draw(_=None):
        if drawing[0] or not tables:
            return
        name = score.value
        address.put(score=name, runs=choice.runs.value, references=choice.references.value,
                    lead=lead.hours())  # fmt: skip
        sources = sources_of(tables, choice.references.value, name)
        main[:] = [
            choice.note,
            cards([bare(by_lead(sources, name)), by_month(sources, name, lead.value),
                   by_region(sources, name, lead.value), table(sources, name)], 460),
        ]  # fmt: skip

    csv.callback = lambda: as_csv(tables, choice.references.value)
    choice.runs.param.watch(read, "value")
    for widget in (choice.references, score, lead.widget):
        widget.param.watch(draw, "value")
    read()
    return controls(*choice.widgets, score, lead.widget, csv), main


def sources_of(tables, references, name):
    """What is drawn: (table, source) by label; references are those of the first run."""
    titles = titled(tables)
    found = {titles[run]: (table, "forecast") for run, table in tables.items()}
    first = next(iter(tables.values()))
    for reference in references:
        if reference in first.source:
            found[reference.replace("_", " ").capitalize()] = (first, reference)
    return {label: pair for label, pair in found.items() if name in pair[0]}


def palette(sources):
    """Colours by label; black is kept for the truth."""
    return dict(zip(sources, COLOURS[1:] + COLOURS[:1], strict=False))


def scaled(values):
    """Values and the label of their unit, in units that read well."""
    divisor, units = FINER.get(values.attrs.get("units", "1"), (1, values.attrs.get("units", "1")))
    return values / divisor, units


def axis_label(table, name):
    """Name and unit of a score."""
    return f"{table[name].attrs['long_name']} ({scaled(table[name])[1]})"


def by_lead(sources, name):
    """The score against lead time, with its interval over the starts."""
    series = {}
    for label, (table, source) in sources.items():
        row = table.sel(source=source)
        band = [scaled(row[f"{name}_{end}"].assign_attrs(row[name].attrs))[0].values
                for end in ("low", "high") if f"{name}_{end}" in row]  # fmt: skip
        series[label] = charts.Curve(
            row.lead_time.values / DAY,
            scaled(row[name])[0].values,
            palette(sources)[label],
            band,
            dashed=source != "forecast",
        )
    first = next(iter(sources.values()))[0]
    drawn = charts.curves(
        series, "Lead time (days)", axis_label(first, name),
        "Against lead time" + (", 95 % interval over the starts" if f"{name}_low" in first else ""),
    )  # fmt: skip
    if name not in ("rmse", "correlation"):
        charts.horizontal_line(drawn, 0, dash="solid")
    return drawn


def by_month(sources, name, lead):
    """The score of the starts of each month, at one lead time."""
    series = {}
    for label, (table, source) in sources.items():
        if f"{name}_by_start" not in table:
            continue
        starts = table[[f"{name}_by_start"]].rename({f"{name}_by_start": name}).sel(source=source)
        months = pool_by_month(starts.sel(lead_time=lead, method="nearest"))
        series[label] = charts.Curve(
            months.month.values,
            scaled(months[name].assign_attrs(table[name].attrs))[0],
            palette(sources)[label],
            dashed=source != "forecast",
            points=True,
        )
    if not series:
        return notice("By month", "This score is known for all starts together.")
    first = next(iter(sources.values()))[0]
    drawn = charts.curves(
        series, "Month of the start", axis_label(first, name), f"By month, {lead_text(lead)}",
    )  # fmt: skip
    charts.label_ticks(drawn, range(1, 13), MONTHS)
    drawn.x_range = Range1d(0.5, 12.5)
    return bare(drawn)


def by_region(sources, name, lead):
    """The score in each region of the Arctic, at one lead time."""
    part = f"{name}_by_region"
    known = {label: table[part].sel(source=source).sel(lead_time=lead, method="nearest")
             for label, (table, source) in sources.items() if part in table}  # fmt: skip
    known = {label: values for label, values in known.items() if values.notnull().any()}
    first = next(iter(sources.values()))[0]
    if not known:
        return notice("By region", "RMSE and bias are known by region, this score is not.")
    regions = [str(region) for region in next(iter(known.values())).region.values]
    drawn = charts.category_points(
        {label: scaled(values)[0].sel(region=regions).values for label, values in known.items()},
        regions, axis_label(first, name),
        f"By region, {lead_text(lead)}", palette(sources),
    )  # fmt: skip
    return bare(drawn)


def lead_text(lead):
    return f"{lead / DAY:g} days ahead"


def table(sources, name):
    """The score of all sources at a dozen lead times."""
    columns = {}
    for label, (found, source) in sources.items():
        values, units = scaled(found[name].sel(source=source))
        columns[label] = pd.Series(values.values, found.lead_time.values / DAY)
    frame = pd.DataFrame(columns)
    frame = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, 12).round().astype(int))]
    frame.index.name = "Days"
    shown = pn.pane.DataFrame(frame, float_format="{:.4g}".format, escape=True, width=440)
    title = next(iter(sources.values()))[0][name].attrs["long_name"]
    return pn.Column(pn.pane.HTML(f"<b>{escape(title)} ({escape(units)})</b>"), shown)


def as_csv(tables, references):
    """All scores of all chosen runs and references, one row a source and lead time."""
    parts = []
    for run, found in tables.items():
        sources = [s for s in found.source.values if s == "forecast" or s in references]
        names = [name for name in found.data_vars if found[name].dims == ("source", "lead_time")]
        frame = found[names].sel(source=sources).to_dataframe().reset_index()
        frame.insert(0, "run", run)
        frame["lead_time"] = frame.pop("lead_time") / pd.Timedelta(hours=1)
        parts.append(frame.rename(columns={"lead_time": "lead_time_h"}))
    text = pd.concat(parts).to_csv(index=False) if parts else "run\n"
    return io.BytesIO(text.encode())
