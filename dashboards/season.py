"""Season: volume and extent of the ice through a long forecast, beside truth and climatology."""

import panel as pn

from dashboards.choice import RunChoice, titled
from dashboards.forecasts import moment
from dashboards.layout import bare, cards, controls, notice, tell
from seaice_lab.errors import InputError
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

BLACK, GREY = COLOURS[0], "#8a8a8a"
QUANTITIES = {
    "volume": ("Volume (10³ km³)", "Ice volume"),
    "extent": ("Extent (10⁶ km²)", "Ice extent: area of the cells with ice"),
    "rmse": ("RMSE (m)", "Root-mean-square error of the thickness"),
}


def page(library, address):
    """Controls and main area of the page."""
    choice = RunChoice(library, address, library.forecast, "forecast", "evaluated")
    if not choice.usable:
        return controls(), notice(
            "No forecasts yet",
            "Execute `notebooks/07_season.ipynb`, or `seaice-lab forecast RUN --steps 720`.",
        )
    start = pn.widgets.Select(name="Start")
    main = pn.Column(sizing_mode="stretch_width")
    settling = [False]

    def read(_=None):
        found = choice.read()
        if not found:
            main[:] = [choice.note, notice("Nothing chosen", "Choose runs on the left.")]
            return
        first = next(iter(found.values()))
        starts = {moment(t): t for t in first.init_time.values}
        wanted = address.one("start", starts, next(iter(starts)))
        settling[0] = True
        start.param.update(options=starts, value=starts[wanted])
        settling[0] = False
        draw()

    def draw(_=None):
        if settling[0] or not choice.runs.value:
            return
        address.put(runs=choice.runs.value, start=moment(start.value))
        main.loading = True
        seasons, reasons = {}, []
        for name, title in titled(choice.runs.value).items():
            try:
                seasons[title] = library.season(name, start.value)
            except InputError as error:
                reasons.append(f"{name}: {error}")
        tell(choice.note, "; ".join(reasons))
        shown = [bare(curve(seasons, name)) for name in QUANTITIES
                 if any(name in found for found in seasons.values())]  # fmt: skip
        empty = notice("Nothing to show", "None of these runs has this start.")
        main[:] = [choice.note, cards(shown, 460) if shown else empty]
        main.loading = False

    choice.runs.param.watch(read, "value")
    start.param.watch(draw, "value")
    read()
    return controls(choice.widgets[0], start), main


def curve(seasons, quantity):
    """One quantity through time: truth and climatology of the first run, and each forecast."""
    label, title = QUANTITIES[quantity]
    found = {name: season[quantity] for name, season in seasons.items() if quantity in season}
    first = next(iter(found.values()))
    series = {}
    for source, shade in (("truth", BLACK), ("climatology", GREY)):
        if source not in first.source:
            continue
        values = first.sel(source=source)
        if values.notnull().any():
            dashed = source == "climatology"
            series[source.capitalize()] = charts.Curve(
                first.valid_time.values, values.values, shade, dashed=dashed
            )
    for (name, values), shade in zip(found.items(), COLOURS[1:], strict=False):
        series[name] = charts.Curve(
            values.valid_time.values, values.sel(source="forecast").values, shade
        )
    return charts.curves(series, "Date", label, title, height=340)
