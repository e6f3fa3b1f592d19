"""Emissivity: daily maps of ice and its properties, its emissivity at a point, departures, cost."""

import numpy as np
import panel as pn

from dashboards import layout, readers, selection
from dashboards.downloads import as_netcdf
from dashboards.products import open_products
from dashboards.runs import loss_figure
from dashboards.selectable_maps import SelectableMaps, position_text
from seaice_lab.emissivity.ice_types import ICE_TYPE_LABELS, ice_types
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, linked_maps, maps, rasters
from seaice_lab.figures.curves import COLOURS
from seaice_lab.figures.plane import hemispheres_with_points
from seaice_lab.names import ICE_EDGE_CONCENTRATION

FREQUENCIES = (10, 20, 40, 90, 180)  # labelled, GHz
DIFFERENCE_LIMIT = 0.5  # half-width of the colours of differences at first
CONCENTRATION, FIRST_GUESS = "sea_ice_concentration", "sea_ice_first_guess"
VARIABLES = (CONCENTRATION, FIRST_GUESS, "properties", "sea_ice_emissivity")
DIFFERENCE_TITLE = "Estimate \N{MINUS SIGN} first guess"
HOW_TO_BEGIN = "Execute `notebooks/10_emissivity_train.ipynb`, or `seaice-lab emissivity train`."


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
    usable = [name for name in library.names(kind="emissivity") if library.tags(name)]
    if not usable:
        return layout.empty_page("No emissivity model yet", HOW_TO_BEGIN)
    view = EmissivityView(library, state, usable)
    return view.controls, view.main


class EmissivityView:
    """The page of one session: its widgets, its maps and the answers to changes.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState
    usable : list of str
        Names of runs with products.
    """

    def __init__(self, library, state, usable):
        self.library, self.state = library, state
        self.run = selection.run_list(state, "emissivity_run", usable)
        self.tag = state.connect(pn.widgets.Select(name="Tag"), "tag")
        self.day = state.connect(pn.widgets.DiscreteSlider(name="Day", options=[""]), "day")
        self.sensor = state.connect(pn.widgets.Select(name="Sensor of the departures"), "sensor")
        switch = pn.widgets.RadioButtonGroup(name="Hemisphere", options=[""])
        self.hemisphere = state.connect(switch, "hemisphere")
        if state.difference is not None and not state.difference > 0:
            state.correct(difference=None)
        limit = state.difference or DIFFERENCE_LIMIT
        limit = pn.widgets.FloatInput(name="Difference ±", step=0.1, start=1e-6, value=limit)
        state.connect(limit, "difference")
        label = "Maps of the day (NetCDF)"
        self.netcdf = layout.download_button(label, "emissivity.nc", self.write_netcdf)
        self.message = layout.message_pane()
        self.main = layout.stretched()
        widgets = (self.run, self.tag, self.hemisphere, self.day, self.sensor, limit, self.netcdf)
        self.controls = layout.controls(*widgets)
        state.on_change = self.show_change
        self.show_change({"emissivity_run"})

    def show_change(self, changed):
        """Show changes of the state; ``changed`` is the set of its changed parameters."""
        if changed & {"emissivity_run", "tag", "hemisphere"}:
            try:
                self.open_run()
                self.draw()
            except InputError as error:
                self.main[:] = [layout.empty_state("This run cannot be shown", str(error))]
        elif "day" in changed:
            self.show_day()
        elif "sensor" in changed:
            self.draw_departures()
        elif "point" in changed:
            self.draw_emissivity()
        elif self.state.difference and self.state.difference > 0:
            limit = self.state.difference
            self.difference_scale.update(low=-limit, high=limit)

    def draw(self):
        """Draw all maps and figures again."""
        limit = self.state.difference or DIFFERENCE_LIMIT
        concentration = linked_maps.colour_scale("cmo.ice", (0, 1))
        self.difference_scale = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-limit, limit))
        properties = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-2, 2))
        scales = {"Estimate": concentration}
        bars = {"Sea-ice concentration (1)": concentration}
        if FIRST_GUESS in self.products.dataset:
            scales |= {"First guess": concentration, DIFFERENCE_TITLE: self.difference_scale}
            bars["Difference of concentration (1)"] = self.difference_scale
        count = self.products.dataset.sizes["prop"]
        scales |= {f"Property {k}": properties for k in range(1, count + 1)}
        bars["Empirical property (1)"] = properties
        figures = [self.maps.add(title, title, "", scale) for title, scale in scales.items()]
        self.at_point = layout.stretched(min_height=300)
        self.departures = layout.stretched(min_height=300)
        history = readers.history_of(self.library, self.state.emissivity_run)
        cost = [] if history is None else [layout.bokeh_pane(loss_figure(history))]
        self.main[:] = [
            self.message,
            layout.colour_bars(bars),
            layout.cards(map(layout.bokeh_pane, figures), 200),
            pn.Spacer(height=12),
            layout.cards([layout.stretched(self.at_point, *cost), self.departures], 400),
        ]
        self.show_day()
        self.draw_departures()

    def open_run(self):
        """Open the products of the selected run, and offer its tags, days and sensors."""
        run, state = self.state.emissivity_run, self.state
        tags = self.library.tags(run)
        state.offer(self.tag, "tag", tags)
        path = self.library.path(run, f"emissivity_grid_{state.tag}.nc")
        self.products = open_products(readers.current_file(path))
        path = self.library.path(run, f"departures_{state.tag}.nc")
        self.table = readers.load_table(readers.current_file(path)) if path.exists() else None
        latitude, longitude = self.products.latitude, self.products.longitude
        hemispheres = {name.capitalize(): name for name in hemispheres_with_points(latitude)}
        state.offer(self.hemisphere, "hemisphere", hemispheres)
        self.hemisphere.visible = len(hemispheres) > 1
        raster = rasters.raster_of_points(latitude, longitude, state.hemisphere)
        self.maps = SelectableMaps(raster, state, "point")
        sensors = [] if self.table is None else [str(name) for name in self.table.sensor.values]
        state.offer(self.day, "day", self.products.days)
        state.offer(self.sensor, "sensor", sensors)
        self.sensor.visible = bool(sensors)

    def show_day(self):
        """Show the selected day on the maps."""
        layout.show_message(self.message, "")
        try:
            self.fields = self.products.read(self.products.days.index(self.state.day), VARIABLES)
        except InputError as error:
            layout.show_message(self.message, str(error))
            return
        concentration = self.fields[CONCENTRATION].values
        values = {"Estimate": concentration}
        if FIRST_GUESS in self.products.dataset:
            values["First guess"] = self.fields[FIRST_GUESS].values
            values[DIFFERENCE_TITLE] = concentration - values["First guess"]
        # Properties of the ice have no meaning where there is little ice.
        has_ice = concentration > ICE_EDGE_CONCENTRATION
        for k, field in enumerate(self.fields.properties.values.T, start=1):
            values[f"Property {k}"] = np.where(has_ice, field, np.nan)
        stem = f"{self.state.emissivity_run}_{self.state.tag}_{self.state.day}"
        with pn.io.hold():
            for title in self.maps.sources:
                self.maps.show(title, values[title])
            self.draw_emissivity()
            self.netcdf.filename = stem.replace("/", "-") + ".nc"

    def draw_emissivity(self):
        """Draw the emissivity at the selected point, and of published types of ice."""
        point = self.maps.mark()
        if point is None:
            text = "Click a point on any map."
            self.at_point[:] = [layout.empty_state("Emissivity at a point", text)]
            return
        position = position_text(self.products.latitude[point], self.products.longitude[point])
        ice = float(self.fields[CONCENTRATION][point])
        emissivity = self.fields.sea_ice_emissivity.values[point]
        figure = spectrum(self.products, emissivity, f"{position}, concentration {ice:.2f}")
        self.at_point[:] = [layout.bokeh_pane(figure)]

    def draw_departures(self):
        """Draw the departures of the selected sensor."""
        if self.table is None:
            text = "This run has no departures file; train it again to have one."
            self.departures[:] = [layout.empty_state("Departures by channel", text)]
            return
        figures = departure_figures(self.table, self.state.sensor)
        self.departures[:] = [layout.bokeh_pane(figure) for figure in figures]

    def write_netcdf(self):
        """The maps of the day as CF NetCDF."""
        return as_netcdf(self.products.read(self.products.days.index(self.state.day)))


def spectrum(products, emissivity, title):
    """Figure of emissivity against frequency, with published types of ice.

    Parameters
    ----------
    products : dashboards.products.Products
    emissivity : array (channel,)
    title : str

    Returns
    -------
    bokeh.plotting.figure
    """
    frequency, curves = products.frequency_ghz, {}
    for name, colour in (("vertical", COLOURS[1]), ("horizontal", COLOURS[2])):
        channels = np.array([channel.endswith(name[0]) for channel in products.channels])
        order = np.flatnonzero(channels)[np.argsort(frequency[channels])]
        curves[name] = charts.Curve(frequency[order], emissivity[order], colour, points=True)
    published = ice_types().sel(frequency=slice(max(frequency)))
    greys = ("#333333", "#777777", "#aaaaaa")
    for (kind, label), grey in zip(ICE_TYPE_LABELS.items(), greys, strict=True):
        for letter, ending in (("V", ""), ("H", ", horizontal")):
            values = published.sel(type=kind, polarisation=letter)
            curve = charts.Curve(values.frequency.values, values.values, grey, points=True)
            curves[label + ending] = curve._replace(dashed=True, listed=letter == "V")
    curves = {name: curve for name, curve in curves.items() if len(curve.x)}
    axes = ("Frequency (GHz)", "Emissivity (1)")
    figure = charts.curves(curves, *axes, title, logarithmic="x", columns=3)
    charts.label_ticks(figure, FREQUENCIES, map(str, FREQUENCIES))
    return figure


def departure_figures(table, sensor):
    """Figures of the mean and the standard deviation of departures by channel.

    Parameters
    ----------
    table : xarray.Dataset (sensor, stage, channel)
        From a file ``departures_<tag>.nc``.
    sensor : str

    Returns
    -------
    list of bokeh.plotting.figure
    """
    rows = table.sel(sensor=sensor).dropna("channel", how="all", subset=["bias"])
    channels = [str(name) for name in rows.channel.values]
    colours = {"Before training": COLOURS[2], "After training": COLOURS[1]}
    figures = []
    for score, name in (("bias", "Mean"), ("std", "Standard deviation")):
        series = {
            f"{str(stage).capitalize()} training": rows[score].sel(stage=stage).values
            for stage in rows.stage.values
        }
        title, x_label = f"{name} of the departures, {sensor}", "Observed minus simulated (K)"
        figures.append(charts.category_points(series, channels, x_label, title, colours))
    return figures
