"""The linked maps of a page, and the cell that is selected on them."""

import numpy as np
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, Line

from seaice_lab.diagnostics.regions import REGIONS
from seaice_lab.figures import linked_maps, rasters

EDGE_LINE = {"line_color": "#e8590c", "line_width": 1.2}


class SelectableMaps:
    """Maps of one grid that zoom and pan together; a click on one selects a cell on all.

    Parameters
    ----------
    raster : seaice_lab.figures.rasters.Raster
    state : dashboards.state.PageState
    name : str
        Name of the parameter that holds the number of the selected cell.
    window : (float, float, float, float), optional
        Part of the plane that is shown first: west, east, south, north in km.
    """

    def __init__(self, raster, state, name, window=None):
        self.raster, self.state, self.name = raster, state, name
        self.scene = linked_maps.scene(raster, window)
        self.sources, self.edges = {}, {}

    def add(self, key, title, units, scale, edge=None):
        """Add an empty map.

        Parameters
        ----------
        key : hashable
            For :meth:`show`.
        title, units : str
        scale : bokeh.models.LinearColorMapper
        edge : float, optional
            Value along which a line is drawn: the ice edge.

        Returns
        -------
        bokeh.plotting.figure
        """
        arguments = (self.scene, scale, title, units)
        figure, self.sources[key] = linked_maps.polar_map(*arguments, REGIONS)
        self.edges.pop(key, None)
        if edge is not None:
            source = ColumnDataSource({"x": [], "y": []})
            figure.add_glyph(source, Line(x="x", y="y", **EDGE_LINE))
            self.edges[key] = (edge, source)
        figure.on_event(Tap, self._select_cell)
        return figure

    def show(self, key, values, window=None):
        """Show values on a map.

        Parameters
        ----------
        key : hashable
        values : ndarray or None
            One value for each cell of the grid; None empties the map.
        window : (float, float, float, float), optional
            Part of the plane that is sent.
        """
        if values is None:
            values = np.full(self.raster.source.max() + 1, np.nan, "float32")
        picture = rasters.picture(self.raster, values, window)
        self.sources[key].data = picture
        if key in self.edges:
            edge, source = self.edges[key]
            source.data = rasters.contour(picture, edge)

    def mark(self, default=None):
        """Draw a cross at the selected cell. Returns its number, or None if the grid lacks it.

        Parameters
        ----------
        default : int, optional
            Number of the cell that is marked as long as none is selected.

        Returns
        -------
        int or None
        """
        source, cell = self.raster.source, getattr(self.state, self.name)
        positions = np.argwhere((source == cell) & (source >= 0))  # not land or outside
        if not len(positions):
            self.state.correct(**{self.name: None})
            cell = default
            positions = np.argwhere(source == cell) if cell is not None else ()
        if not len(positions):
            return None
        row, column = positions[0]
        self.scene.selected.data = {"x": [self.raster.x[column]], "y": [self.raster.y[row]]}
        return int(cell)

    def central_cell(self):
        """Number of the cell that is nearest to the middle of all cells of the grid."""
        rows, columns = np.nonzero(self.raster.source >= 0)
        middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        return int(self.raster.source[rows[middle], columns[middle]])

    def _select_cell(self, event):
        column = np.abs(self.raster.x - event.x).argmin()
        row = np.abs(self.raster.y - event.y).argmin()
        cell = self.raster.source[row, column]
        if cell >= 0:  # land and the rest of the plane have no cell
            self.state.param.update(**{self.name: int(cell)})


def position_text(latitude, longitude):
    """A position such as "85.00°N 12.50°W".

    Parameters
    ----------
    latitude, longitude : float
        Degrees.

    Returns
    -------
    str
    """
    north, east = "NS"[int(latitude < 0)], "EW"[int(longitude < 0)]
    return f"{abs(latitude):.2f}°{north} {abs(longitude):.2f}°{east}"
