"""Emissivity: daily maps of ice and its properties, its emissivity at a point, departures, cost."""

import numpy as np
import panel as pn
from bokeh.events import Tap

from dashboards.layout import bare, cards, controls, notice, remark, tell
from dashboards.products import as_netcdf
from dashboards.runs import losses
from seaice_lab.emissivity.ice_types import ICE_TYPE_LABELS, ice_types
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, linked_maps, maps, rasters
from seaice_lab.figures.curves import COLOURS
from seaice_lab.names import ICE_EDGE_CONCENTRATION

MOST_PROPERTIES = 4
FREQUENCIES = (10, 20, 40, 90, 180)


def page(library, address):
    """Controls and main area of the page."""
    usable = [name for name in library.names(kind="emissivity") if library.tags(name)]
    if not usable:
        return controls(), notice(
            "No emissivity model yet",
            "Execute `notebooks/10_emissivity_train.ipynb`, or `seaice-lab emissivity train`.",
        )
    view = EmissivityView(library, address, usable)
    return view.controls, view.main


class EmissivityView:
    """The page of one session: its widgets, its maps, and what changes when."""

    def __init__(self, library, address, usable):
        self.library, self.address = library, address
        preferred = (address.some("runs", usable) or usable)[0]
        self.run = pn.widgets.Select(
            name="Run", options=usable, value=address.one("emissivity_run", usable, preferred)
        )
        self.tag = pn.widgets.Select(name="Tag")
        self.day = pn.widgets.DiscreteSlider(name="Day", options={"": 0})
        self.sensor = pn.widgets.Select(name="Sensor of the departures")
        wide = address.number("difference", 0)
        self.wide = pn.widgets.FloatInput(
            name="Difference ±", step=0.1, start=1e-6, value=wide if wide > 0 else 0.5
        )
        self.netcdf = pn.widgets.FileDownload(
            label="Maps of the day (NetCDF)", callback=self.write_netcdf, filename="emissivity.nc",
            embed=False, button_type="default",
        )  # fmt: skip
        self.note = remark()
        self.main = pn.Column(sizing_mode="stretch_width")
        self.controls = controls(self.run, self.tag, self.day, self.sensor, self.wide, self.netcdf)
        self.settling, self.point = False, None
        self.choose()
        self.run.param.watch(lambda _: self.choose(), "value")
        self.tag.param.watch(lambda _: self.draw(), "value")
        self.day.param.watch(lambda _: self.change(), "value")
        self.sensor.param.watch(lambda _: self.draw_departures(), "value")
        self.wide.param.watch(lambda _: self.recolour(), "value")

    def choose(self):
        """Offer what the run holds, then draw."""
        self.settling = True
        try:
            tags = self.library.tags(self.run.value)
            first = tags[0] if tags else None
            self.tag.param.update(options=tags, value=self.address.one("tag", tags, first))
        except InputError as error:
            self.main[:] = [notice("This run cannot be shown", str(error))]
            return
        finally:
            self.settling = False
        self.draw()

    def draw(self):
        """Make all maps and figures anew."""
        if self.settling:
            return
        try:
            self.data = self.library.products(self.run.value, self.tag.value)
            self.table = self.library.departures(self.run.value, self.tag.value)
            days = self.data.days
            self.raster = rasters.raster_of_points(self.data.latitude, self.data.longitude)
        except InputError as error:
            self.main[:] = [notice("This run cannot be shown", str(error))]
            return
        self.settling = True
        given = self.address.one("day", days, days[min(self.day.value, len(days) - 1)])
        self.day.param.update(options={day: k for k, day in enumerate(days)},
                              value=days.index(given))  # fmt: skip
        sensors = [] if self.table is None else [str(name) for name in self.table.sensor.values]
        self.sensor.param.update(options=sensors, visible=bool(sensors))
        if sensors:
            self.sensor.value = self.address.one("sensor", sensors, sensors[0])
        self.settling = False
        self.scene = linked_maps.scene(self.raster)
        ice, wide = linked_maps.colour_scale("cmo.ice", (0, 1)), self.wide.value or 0.5
        self.contrast = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-wide, wide))
        scales = {"Estimate": ice}
        if self.data.has_first_guess:
            scales |= {"First guess": ice, "Estimate \N{MINUS SIGN} first guess": self.contrast}
        index = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-2, 2))
        scales |= {f"Property {k + 1}": index for k in range(self.data.properties)}
        self.sources, drawn = {}, []
        for title, scale in scales.items():
            figure, self.sources[title] = linked_maps.polar_map(self.scene, scale, title, "")
            figure.on_event(Tap, self.tap)
            drawn.append(bare(figure))
        bars = [(ice, "Sea-ice concentration (1)"), (index, "Empirical property (1)")]
        if self.data.has_first_guess:
            bars.insert(1, (self.contrast, "Difference of concentration (1)"))
        self.at_point = pn.Column(sizing_mode="stretch_width", min_height=300)
        self.departures = pn.Column(sizing_mode="stretch_width", min_height=300)
        history = self.library.history(self.run.value)
        cost = [] if history is None or not len(history) else [bare(losses(history))]
        self.main[:] = [
            self.note,
            pn.Row(
                *(bare(linked_maps.colour_bar(*bar)) for bar in bars), sizing_mode="stretch_width"
            ),
            cards(drawn, 200),
            pn.Spacer(height=12),
            cards(
                [pn.Column(self.at_point, *cost, sizing_mode="stretch_width"), self.departures], 400
            ),
        ]
        self.change()
        self.draw_departures()

    def change(self):
        """Put the values of the chosen day on the maps."""
        if self.settling:
            return
        try:
            fields = self.data.read(self.day.value)
        except InputError as error:
            tell(self.note, str(error))
            return
        tell(self.note, "")
        ice, guess = fields["concentration"], fields.get("first_guess")
        shown = {"Estimate": ice, "First guess": guess}
        if guess is not None:
            shown["Estimate \N{MINUS SIGN} first guess"] = ice - guess
        for k in range(self.data.properties):
            shown[f"Property {k + 1}"] = np.where(
                ice > ICE_EDGE_CONCENTRATION, fields["properties"][:, k], np.nan
            )
        self.fields = fields
        with pn.io.hold():
            for title, source in self.sources.items():
                source.data = rasters.picture(self.raster, shown[title])
            self.draw_point()
            self.remember()

    def tap(self, event):
        """Choose the grid point under the pointer."""
        column = np.abs(self.raster.x - event.x).argmin()
        row = np.abs(self.raster.y - event.y).argmin()
        if self.raster.source[row, column] >= 0:
            self.point = int(self.raster.source[row, column])
            self.draw_point()
            self.remember()

    def draw_point(self):
        """Emissivity by frequency and polarisation at the chosen point, with types of ice."""
        if self.point is None:
            given = self.address.number("point", -1)
            if not 0 <= given < len(self.data.latitude):
                self.at_point[:] = [notice("Emissivity at a point", "Click a point on any map.")]
                return
            self.point = int(given)
        spot = np.argwhere(self.raster.source == self.point)
        if len(spot):
            x, y = self.raster.x[spot[0, 1]], self.raster.y[spot[0, 0]]
            self.scene.selected.data = {"x": [x], "y": [y]}
        latitude, longitude = self.data.latitude[self.point], self.data.longitude[self.point]
        title = f"{latitude:.2f}°N {abs(longitude):.2f}°{'W' if longitude < 0 else 'E'}"
        ice = float(self.fields["concentration"][self.point])
        self.at_point[:] = [bare(self.spectrum(f"{title}, concentration {ice:.2f}"))]

    def spectrum(self, title):
        """Emissivity against frequency; published types of ice beside it."""
        values = self.fields["emissivity"][self.point]
        series = {}
        pairs = (("vertical", "v", COLOURS[1]), ("horizontal", "h", COLOURS[2]))
        for name, letter, shade in pairs:
            here = np.array([channel.endswith(letter) for channel in self.data.channels])
            order = np.argsort(self.data.frequency_ghz[here])
            series[name] = charts.Curve(
                self.data.frequency_ghz[here][order], values[here][order], shade, points=True
            )
        published = ice_types().sel(frequency=slice(max(self.data.frequency_ghz)))
        for (kind, label), grey in zip(ICE_TYPE_LABELS.items(), ("#333333", "#777777", "#aaaaaa"),
                                       strict=True):  # fmt: skip
            for letter in "VH":
                key = label if letter == "V" else f"{label}, horizontal"
                emissivity = published.sel(type=kind, polarisation=letter)
                series[key] = charts.Curve(
                    emissivity.frequency.values, emissivity.values, grey,
                    dashed=True, points=True, listed=letter == "V",
                )  # fmt: skip
        drawn = charts.curves(
            {name: curve for name, curve in series.items() if len(curve.x)},
            "Frequency (GHz)", "Emissivity (1)", title, logarithmic="x", columns=3,
        )  # fmt: skip
        charts.label_ticks(drawn, FREQUENCIES, [str(value) for value in FREQUENCIES])
        return drawn

    def draw_departures(self):
        """Observed minus simulated brightness temperature by channel, before and after."""
        if self.settling:
            return
        if self.table is None:
            self.departures[:] = [notice(
                "Departures by channel",
                "This run has no departures file; train it again to have one.",
            )]  # fmt: skip
            return
        self.departures[:] = list(map(bare, departures(self.table, self.sensor.value)))
        self.remember()

    def recolour(self):
        """Take the colour range of differences from its field."""
        if self.wide.value and self.wide.value > 0:
            self.contrast.update(low=-self.wide.value, high=self.wide.value)
            self.address.put(difference=self.wide.value)

    def write_netcdf(self):
        """The maps of the day as CF NetCDF."""
        return as_netcdf(self.data.day(self.day.value))

    def remember(self):
        """Write the state into the address."""
        self.address.put(
            emissivity_run=self.run.value, tag=self.tag.value,
            day=self.data.days[self.day.value], sensor=self.sensor.value, point=self.point,
        )  # fmt: skip
        stem = f"{self.run.value}_{self.tag.value}_{self.data.days[self.day.value]}"
        self.netcdf.filename = stem.replace("/", "-") + ".nc"


def departures(table, sensor):
    """Mean and standard deviation of the departures of one sensor, by channel, as two figures."""
    rows = table.sel(sensor=sensor).dropna("channel", how="all", subset=["bias"])
    channels = [str(name) for name in rows.channel.values]
    colour = {"Before training": COLOURS[2], "After training": COLOURS[1]}
    drawn = []
    for score, title in (("bias", "Mean"), ("std", "Standard deviation")):
        series = {f"{str(stage).capitalize()} training": rows[score].sel(stage=stage).values
                  for stage in rows.stage.values}  # fmt: skip
        drawn.append(charts.category_points(series, channels, "Observed minus simulated (K)",
                                 f"{title} of the departures, {sensor}", colour))  # fmt: skip
    return drawn
