"""Emissivity: daily maps of ice and its properties, its emissivity at a point, departures, cost."""

from itertools import combinations, compress

import numpy as np
import panel as pn

from dashboards import layout, run_files, selection
from dashboards.downloads import as_netcdf
from dashboards.legend import SharedLegend
from dashboards.products import open_products, truth_of
from dashboards.runs import loss_panel
from dashboards.selectable_maps import SelectableMaps, position_text
from dashboards.state import one_of
from seaice_lab.errors import InputError
from seaice_lab.figures import emissivity, linked_maps, maps, rasters
from seaice_lab.figures.plane import hemispheres_with_points
from seaice_lab.names import ICE_EDGE_CONCENTRATION

POLARISATIONS = "vh"  # last letters of the names of channels
DIFFERENCE_LIMIT = 0.5  # half-width of the colours of differences at first
CONCENTRATION, FIRST_GUESS = "sea_ice_concentration", "sea_ice_first_guess"
SOURCES = ("Estimate", "First guess", "Truth")  # titles of the maps of concentration
VARIABLES = (CONCENTRATION, FIRST_GUESS, "properties", "sea_ice_emissivity")
COLUMNS = 3  # of maps, or more
MAP_WIDTH = 240  # pixels, the smallest width of a map
HEIGHT = 400  # pixels of a figure of the emissivity, beside that of the cost
ABOUT_PROPERTIES = (
    "<b>What the properties are</b><p>Empirical properties are numbers without a name or a unit. "
    "The training estimates them in every cell, so that the emissivity network can explain the "
    "brightness temperatures: they stand for what makes the emissivity of one piece of ice differ "
    "from another, such as its age, its snow or its melting.</p><p>Neighbouring cells with the "
    "same colours have similar ice. The sign has no meaning, and another training may find other "
    "properties. They are shown where the concentration of the estimate is above 15 %.</p>"
)
HOW_TO_BEGIN = "Execute `notebooks/10_emissivity_train.ipynb`, or `seaice-lab emissivity train`."


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
    usable = [name for name in library.names(kinds=["emissivity"]) if library.tags(name)]
    if not usable:
        return [layout.empty_state("No emissivity model yet", HOW_TO_BEGIN)]
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
        self.tag = state.select("Tag", "tag")
        self.day = selection.time_bar(state, "day", "Day")
        self.sensor = state.select("Sensor of the departures", "sensor")
        switch = pn.widgets.RadioButtonGroup(name="Hemisphere", options=[""])
        self.hemisphere = state.connect(switch, "hemisphere")
        if state.difference is not None and not state.difference > 0:
            state.correct(difference=None)
        numbers = {"step": 0.1, "start": 1e-6, "value": state.difference or DIFFERENCE_LIMIT}
        limit = pn.widgets.FloatInput(name="Difference ±", **numbers)
        state.connect(limit, "difference")
        label = "Maps of the day (NetCDF)"
        self.netcdf = layout.download_button(label, "emissivity.nc", self.write_netcdf)
        self.message, self.main = layout.message_pane(), layout.stretched()
        self.position = layout.text_block()
        self.at_point = [layout.stretched(min_height=300) for _ in POLARISATIONS]
        self.legend = SharedLegend()  # of the figures at the point
        self.departures = layout.stretched()
        self.headline = layout.stretched()
        self.values = {}  # of the maps of concentration by title
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
            self.show_headline(self.values)
        elif "point" in changed:
            self.draw_emissivity()
        elif self.state.difference and self.state.difference > 0:
            limit = self.state.difference
            self.difference_scale.update(low=-limit, high=limit)

    def draw(self):
        """Draw all maps and figures again."""
        limit = self.state.difference or DIFFERENCE_LIMIT
        concentration = linked_maps.colour_scale("sea_ice", (0, 1), ICE_EDGE_CONCENTRATION)
        self.difference_scale = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-limit, limit))
        properties = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-2, 2))
        has_source = (True, FIRST_GUESS in self.products.dataset, self.truth is not None)
        sources = list(compress(SOURCES, has_source))
        count = self.products.dataset.sizes["prop"]
        scales = {"Sea-ice concentration": concentration}
        titles = dict.fromkeys(sources, concentration)
        if len(sources) > 1:
            scales["Difference of concentration"] = self.difference_scale
            titles |= dict.fromkeys(differences(sources), self.difference_scale)
        size = MAP_WIDTH, COLUMNS, -(-len(titles) // COLUMNS)
        sections = [layout.map_cards(self.panes(titles), *size, layout.colour_bars(scales))]
        if count:
            titles = {f"Property {k}": properties for k in range(1, count + 1)}
            items = [*self.panes(titles), layout.html_pane(ABOUT_PROPERTIES)]
            bars = layout.colour_bars({"Empirical property": properties})
            sections.append(layout.map_cards(items, *size, bars))
        history = run_files.history_of(self.library, self.state.emissivity_run)
        cost = [] if history is None else [layout.chart(loss_panel(history))]
        self.main[:] = [
            self.headline,
            self.message,
            *sections,
            self.position,
            self.legend,
            layout.cards([*self.at_point, *cost], 330),
            self.departures,
        ]
        self.show_day()
        self.draw_departures()

    def panes(self, titles):
        """Empty maps.

        Parameters
        ----------
        titles : dict of str to bokeh.models.LinearColorMapper
            The scale of each map by its title.

        Returns
        -------
        list of panel.pane.Bokeh
        """
        figures = [self.maps.add(title, title, "", scale) for title, scale in titles.items()]
        return [layout.bokeh_pane(figure) for figure in figures]

    def open_run(self):
        """Open the products of the selected run, and offer its tags, days and sensors."""
        run, state = self.state.emissivity_run, self.state
        tags = self.library.tags(run)
        state.offer(self.tag, "tag", tags)
        path = self.library.path(run, f"emissivity_grid_{state.tag}.nc")
        self.products = open_products(run_files.current_file(path))
        path, self.table = self.library.path(run, f"departures_{state.tag}.nc"), None
        if path.exists():
            self.table = run_files.load_table(run_files.current_file(path))
        self.truth = truth_of(self.library, run, self.products)
        latitude, longitude = self.products.latitude, self.products.longitude
        hemispheres = {name.capitalize(): name for name in hemispheres_with_points(latitude)}
        state.offer(self.hemisphere, "hemisphere", hemispheres)
        self.hemisphere.visible = len(hemispheres) > 1
        raster = rasters.raster_of_points(latitude, longitude, state.hemisphere)
        self.maps = SelectableMaps(raster, state, "point")
        sensors = [] if self.table is None else [str(name) for name in self.table.sensor.values]
        days = self.products.days
        state.correct(day=one_of(state.day, days))
        self.day.offer(days, days, state.day)
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
        if self.truth is not None:
            values["Truth"] = self.truth[self.products.days.index(self.state.day)]
        for title, (field, other) in differences(values).items():
            values[title] = values[field] - values[other]
        # Properties of the ice have no meaning where there is little ice.
        has_ice = concentration > ICE_EDGE_CONCENTRATION
        for k, field in enumerate(self.fields.properties.values.T, start=1):
            values[f"Property {k}"] = np.where(has_ice, field, np.nan)
        stem = f"{self.state.emissivity_run}_{self.state.tag}_{self.state.day}"
        with pn.io.hold():
            for title in self.maps.sources:
                self.maps.show(title, values[title])
            self.draw_emissivity()
            self.values = values
            self.show_headline(values)
            self.netcdf.filename = stem.replace("/", "-") + ".nc"

    def draw_emissivity(self):
        """Draw the emissivity at the selected point, and of published types of ice."""
        point = self.maps.mark(self.maps.central_cell())
        position = position_text(self.products.latitude[point], self.products.longitude[point])
        ice = float(self.fields[CONCENTRATION][point])
        values, frequency = {}, {}
        for letter in POLARISATIONS:
            channels = [k for k, name in enumerate(self.products.channels) if name.endswith(letter)]
            channels = sorted(channels, key=lambda k: self.products.frequency_ghz[k])
            frequency[letter] = self.products.frequency_ghz[channels]
            values[letter] = self.fields.sea_ice_emissivity.values[point][None, channels]
        learnt = {"estimate at this point": tuple(values.values())}
        panels = emissivity.plot_emissivity(learnt, tuple(frequency.values()))
        for letter, column, panel in zip(POLARISATIONS, self.at_point, panels, strict=True):
            column[:] = [self.legend.take(letter, panel, HEIGHT)]
        self.position.text = f"<b>Emissivity at {position}</b>, concentration {ice:.2f}"

    def show_headline(self, values):
        """Say in words how good the estimate of the day and the simulation are."""
        sentences = {}
        if "Truth" in values:
            errors = [
                float(np.sqrt(np.nanmean((values[name] - values["Truth"]) ** 2)))
                for name in SOURCES[:2]
                if name in values
            ]
            first_guess = f", first guess {errors[1]:.3f}" if len(errors) > 1 else ""
            text = f"RMSE {errors[0]:.3f} against the truth{first_guess}"
            sentences[f"Concentration of {self.state.day}:"] = text
        if self.table is not None:
            spread = self.table.rms.sel(sensor=self.state.sensor).mean("channel")
            stages = zip(spread.stage.values, spread.values, strict=True)
            text = ", ".join(f"{value:.3g} K {stage} training" for stage, value in stages)
            sentences[f"Departures of {self.state.sensor}:"] = f"root-mean-square {text}"
        self.headline[:] = [layout.in_words(sentences)] if sentences else []

    def draw_departures(self):
        """Draw the departures of the selected sensor."""
        self.departures[:] = []
        if self.table is not None:
            panels = emissivity.plot_departures(self.table, self.state.sensor)
            charts = map(layout.chart, panels)
            items = [layout.stretched(chart, css_classes=["half"]) for chart in charts]
            self.departures[:] = [layout.cards(items, 265)]

    def write_netcdf(self):
        """The maps of the day as CF NetCDF."""
        return as_netcdf(self.products.read(self.products.days.index(self.state.day)))


def differences(sources):
    """Titles of the maps of differences, with the two maps that they subtract.

    Parameters
    ----------
    sources : collection of str
        Titles of the maps of concentration.

    Returns
    -------
    dict of str to (str, str)
    """
    return {
        f"{field} \N{MINUS SIGN} {other.lower()}": (field, other)
        for field, other in combinations(SOURCES, 2)
        if field in sources and other in sources
    }
