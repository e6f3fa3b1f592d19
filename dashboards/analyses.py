"""Analyses: background, analysis and increment of assimilation windows, and their departures."""

from functools import lru_cache
from html import escape

import numpy as np
import panel as pn
import xarray as xr
from bokeh.models import ColumnDataSource, Scatter

from dashboards import layout, run_files, selection
from dashboards.colours import upper_end
from dashboards.departures import DEFINITION, departure_table, figures_of, headline
from dashboards.library import is_inside
from dashboards.run_files import current_file, reading
from dashboards.selectable_maps import SelectableMaps
from dashboards.state import one_of
from seaice_lab import grid, names
from seaice_lab.assimilation.observations import KINDS
from seaice_lab.errors import InputError
from seaice_lab.figures import linked_maps, maps, rasters

HEIGHT = 300  # pixels of a figure
MAP_WIDTH = 240  # pixels, the smallest width of a map
MOST_WINDOWS = 12  # from which the limits of the colours are computed
MOST_POINTS = 3000  # observations on a map; a browser draws more of them slowly
HOW_TO_BEGIN = "Execute `notebooks/16_assimilation.ipynb`, or `seaice-lab assimilate run`."
IN_WORK = "`diagnostics.nc` is written when all windows are analysed."
INCREMENT = "Analysis \N{MINUS SIGN} background"
TITLES = {"background": "Background", "analysis": "Analysis"}
QUANTILE = 0.99  # of absolute increments, for the limits of colours
NOTE = (
    "Points: observations of this time, coloured by their value, and on the map of the increment "
    "by their departure from the background."
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
    runs = [name for name in library.names(kinds=["assimilation"]) if windows_of(library, name)]
    if not runs:
        return [layout.empty_state("No analyses yet", HOW_TO_BEGIN)]
    view = AnalysesView(library, state, runs)
    return view.controls, view.main


def windows_of(library, run):
    """Paths of the windows that are analysed, in the order of time.

    Parameters
    ----------
    library : dashboards.library.Library
    run : str
        Name of a cycle.

    Returns
    -------
    list of Path
    """
    paths = sorted(library.path(run).glob("window_*.nc"))
    return [path for path in paths if is_inside(path, library.folder)]


class AnalysesView:
    """The page of one session: its widgets, its maps and the answers to changes.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState
    runs : list of str
        Names of cycles with windows.
    """

    def __init__(self, library, state, runs):
        self.library, self.state = library, state
        run = selection.run_list(state, "cycle", runs)
        self.window_bar = selection.time_bar(state, "window", "Window", calendar=True)
        self.lead_bar = selection.time_bar(state, "lead", "Time in the window")
        self.variable = state.select("Variable", "variable")
        self.main, self.headline = layout.stretched(), layout.stretched()
        self.words = layout.html_pane("", "faint")
        self.is_drawn = False
        self.controls = layout.controls(run, self.window_bar, self.lead_bar, self.variable)
        state.on_change = self.show_change
        self.show_change({"cycle"})

    def show_change(self, changed):
        """Show changes of the state; ``changed`` is the set of its changed parameters."""
        # After a file that could not be read, everything is drawn again.
        changed = changed if self.is_drawn else {"cycle"}
        self.is_drawn = False
        try:
            # A file that can be read may lack something that the page shows.
            with reading(current_file(self.library.path(self.state.cycle))):
                if "cycle" in changed:
                    self.open_cycle()
                if changed & {"cycle", "window"}:
                    self.open_window()
                if changed & {"cycle", "variable"}:
                    self.draw()
                self.show()
            self.is_drawn = True
        except InputError as error:
            self.main[:] = [layout.empty_state("This run cannot be shown", str(error))]

    def open_cycle(self):
        """Open the windows of the selected run, and offer them."""
        paths = windows_of(self.library, self.state.cycle)
        self.paths = {time_of_window(current_file(path)): path for path in paths}
        self.state.correct(window=one_of(self.state.window, self.paths))
        self.window_bar.offer(self.paths, list(self.paths), self.state.window)
        path = self.library.path(self.state.cycle, "diagnostics.nc")
        self.diagnostics = None
        if path.exists():
            self.diagnostics = run_files.load_table(current_file(path))

    def open_window(self):
        """Open the selected window, and offer its times and variables."""
        path = self.paths[self.state.window]
        self.file, self.table = current_file(path), None
        self.window = open_window(self.file)
        name = path.name.replace("window", "departures")
        departures = self.library.path(self.state.cycle, name)
        if departures.exists():
            self.table = used(run_files.load_table(current_file(departures)))
        self.leads = self.window.valid_time.values - self.window.analysis_time.values
        variables = [n for n, v in self.window.data_vars.items() if v.dims[-2:] == ("y", "x")]
        variables = [name for name in variables if "state" in self.window[name].dims]
        self.state.offer(
            self.variable, "variable", {selection.long_name(name): name for name in variables}
        )
        self.variable.visible = len(variables) > 1

    def draw(self):
        """Draw empty maps, and the figures of the departures."""
        variable, state = names.variable(self.state.variable), self.state.variable
        limits, wide = self.limits(variable)
        water = names.ICE_THRESHOLDS.get(variable.standard_name)
        self.value = linked_maps.colour_scale(variable.colour_map, limits, water)
        self.difference = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-wide, wide))
        self.maps = SelectableMaps(raster_of(self.file), self.state, "cell")
        self.points, panes = {}, []
        for key, title in {**TITLES, "increment": INCREMENT}.items():
            scale = self.difference if key == "increment" else self.value
            figure = self.maps.add(key, title, variable.units, scale)
            self.points[key] = add_points(figure, scale)
            panes.append(layout.bokeh_pane(figure))
        bars = {
            f"{selection.long_name(state)} ({variable.units})": self.value,
            f"Increment, departure ({variable.units})": self.difference,
        }
        self.main[:] = [
            self.headline,
            layout.colour_bars(bars),
            layout.map_cards(panes, MAP_WIDTH, len(panes), rows=1),
            self.words,
            *self.statistics(),
        ]

    def limits(self, variable):
        """Ends of the colours of the states and half-width of those of increments, of all windows.

        Parameters
        ----------
        variable : seaice_lab.names.Variable
            The selected variable.

        Returns
        -------
        (float, float), float
        """
        tops, increments = [], []
        paths = list(self.paths.values())
        for path in paths[:: -(-len(paths) // MOST_WINDOWS)]:
            try:
                background, analysis = ends_of(current_file(path), self.state.variable)
            except InputError:
                continue  # the page says why if the window is selected
            tops.append(np.nanquantile(np.abs([background, analysis]), QUANTILE))
            increments.append(np.nanquantile(np.abs(analysis - background), QUANTILE))
        wide, top = (upper_end(max(sizes, default=0.0)) for sizes in (increments, tops))
        limits = variable.colour_range or (0.0, 1.0)
        if variable.maximum is None:
            limits = (0.0 if limits[0] >= 0 else -top, top)
        return limits, wide

    def show(self):
        """Show the selected time of the selected window."""
        lead = selection.offer_leads(self.lead_bar, self.state, self.leads)
        fields = {at: self.frame(at, lead) for at in TITLES}
        fields["increment"] = fields["analysis"] - fields["background"]
        sample = observed_at(self.table, self.window, self.state.variable, lead)
        shown = sample if sample is None else sample.isel(observation=some(sample))
        for key, values in fields.items():
            self.maps.show(key, values)
            self.points[key].data = points_of(shown, key, self.maps.raster.hemisphere)
        self.maps.mark()
        self.headline[:] = [layout.in_words(headline(self.window, self.table, self.diagnostics))]
        note = ""
        if shown is not None and shown.sizes["observation"]:
            count, total = shown.sizes["observation"], sample.sizes["observation"]
            note = NOTE if count == total else f"{NOTE} {count} of {total} are shown."
        self.words.object = escape(note)

    def frame(self, at, lead):
        """A state of the selected window.

        Parameters
        ----------
        at : str
            "background" or "analysis".
        lead : numpy.timedelta64
            Since the start of the window.

        Returns
        -------
        ndarray (y, x)
        """
        number = int(np.abs(self.leads - lead).argmin())
        with reading(self.file):
            field = self.window[self.state.variable].sel(state=at).isel(valid_time=number)
            return field.transpose("y", "x").values

    def statistics(self):
        """Figures and table of the departures of all windows."""
        if self.diagnostics is None:
            return [layout.empty_state("Departures of all windows", IN_WORK)]
        if not self.diagnostics.sizes.get("group"):
            return [layout.empty_state("No departures", "No observations were used.")]
        figures = [layout.chart(figure, HEIGHT) for figure in figures_of(self.diagnostics)]
        table = layout.html_pane(departure_table(self.diagnostics), "table", "numbers", "dense")
        note = layout.html_pane(escape(DEFINITION), "faint")
        return [layout.cards(figures, 330), pn.Spacer(height=12), layout.cards([table], 300), note]


@lru_cache(maxsize=8)
def open_window(file):
    """A window, whose states are read frame by frame; ``file`` is a `File`."""
    with reading(file):
        return xr.open_dataset(file.path, cache=False)


def ends_of(file, variable):
    """Background and analysis at the first and at the last time of a window.

    Parameters
    ----------
    file : dashboards.run_files.File
    variable : str

    Returns
    -------
    list of ndarray (valid_time, y, x)
    """
    # With errors of the surrogate, increments may be larger at the end than at the start.
    with reading(file):
        fields = open_window(file)[variable].isel(valid_time=[0, -1])
        return [fields.sel(state=state).values for state in TITLES]


@lru_cache(maxsize=4)
def raster_of(file):
    """How the fields of a window are shown as pictures; ``file`` is a `File`."""
    window = open_window(file)
    with reading(file):
        ocean = window.ocean.astype(bool)
        return rasters.raster_of(ocean, ocean)


def time_of_window(file):
    """Start of a window as text; ``file`` is a `File`."""
    return selection.time_text(open_window(file).analysis_time.values)


def used(table):
    """The observations of a table that were used."""
    return table.isel(observation=(table.quality == 0).values)


def observed_at(table, window, variable, lead):
    """The observations of a variable at a time of a window, or whose mean has this time.

    Parameters
    ----------
    table : xarray.Dataset or None
        Departures of the window.
    window : xarray.Dataset
    variable : str
    lead : numpy.timedelta64
        Since the start of the window.

    Returns
    -------
    xarray.Dataset or None
        Without a table None. Instantaneous observations are those within half a step.
    """
    if table is None:
        return None
    times = window.valid_time.values
    half, time = (times[1] - times[0]) / 2, window.analysis_time.values + lead
    is_kind = [KINDS[kind].variable == variable for kind in table.kind.values]
    is_near = (table.time_start.values - half < time) & (time <= table.time_end.values + half)
    return table.isel(observation=np.array(is_kind, bool) & is_near)


def some(table):
    """Positions of the observations that are shown: all, or every n-th one."""
    count = table.sizes["observation"]
    return np.arange(0, count, -(-count // MOST_POINTS) or 1)


def add_points(figure, scale):
    """Add observations to a map.

    Parameters
    ----------
    figure : bokeh.plotting.figure
    scale : bokeh.models.LinearColorMapper

    Returns
    -------
    ColumnDataSource
        Takes the columns of :func:`points_of`; empty at first.
    """
    source = ColumnDataSource({"x": [], "y": [], "value": []})
    colour = {"field": "value", "transform": scale}
    style = {"size": 6, "line_color": "black", "line_alpha": 0.4, "line_width": 0.4}
    figure.add_glyph(source, Scatter(x="x", y="y", fill_color=colour, **style))
    return source


def points_of(table, key, hemisphere):
    """The columns of a map's source of :func:`add_points`.

    Parameters
    ----------
    table : xarray.Dataset or None
    key : str
        "background", "analysis" or "increment", on which the departures are shown.
    hemisphere : str

    Returns
    -------
    dict of str to ndarray
    """
    if table is None:
        return {"x": [], "y": [], "value": []}
    x, y = np.divide(grid.project(table.latitude.values, table.longitude.values, hemisphere), 1e3)
    value = table["value"]
    if key == "increment":
        value = value - table.equivalent.sel(state="background")
    return {"x": x, "y": y, "value": value.values.astype("float32")}
