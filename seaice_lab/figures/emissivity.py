"""Figures of the emissivity model: daily maps of points, spectra, departures, costs.

Maps are matplotlib figures; the other functions return panels as in `seaice_lab.figures.curves`.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from scipy.spatial import cKDTree

from seaice_lab.emissivity.ice_types import ICE_TYPE_LABELS, ice_types
from seaice_lab.figures.axes import log_axis
from seaice_lab.figures.charts import COLOURS, DASHES, MARKERS, Curve, layout, line_style, overlay
from seaice_lab.figures.colours import palette_of
from seaice_lab.figures.curves import plot_categories
from seaice_lab.figures.geoaxes import draw_graticule, draw_land, projection
from seaice_lab.figures.maps import FONT, exceeded_ends, styled
from seaice_lab.figures.plane import COAST, OUTSIDE, hemispheres_with_points, points_of
from seaice_lab.figures.rasters import SINGLE_POINT_KM
from seaice_lab.grid import project
from seaice_lab.names import variable

PANEL_INCHES = 3.1
POINTS_PER_INCH = 72
STAGES = {"start": "first network", "network": "best network", "state": "all cells"}  # solver
TERMS = {"train_observation": "observations", "train_emissivity": "emissivity",
         "sea_ice": "concentration", "train_bias": "bias"}  # fmt: skip


@styled(FONT)
def plot_points(
    panels, latitude, longitude, label, colour_map=None, colour_range=(0, 1), hemisphere=None
):
    """Draw maps of values at grid points in a row.

    Parameters
    ----------
    panels : dict of str to ndarray (grid,)
        Values by title.
    latitude, longitude : ndarray (grid,)
        Degrees.
    label : str
        Quantity and unit, at the colour bar.
    colour_map : str, optional
        By default that of the concentration.
    colour_range : (float, float)
    hemisphere : "north" or "south", optional
        By default one row of maps for each hemisphere with points.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If there are no points in the hemisphere.
    """
    latitude, longitude = np.asarray(latitude), np.asarray(longitude)
    hemispheres = [hemisphere] if hemisphere else hemispheres_with_points(latitude)
    inches = PANEL_INCHES * len(panels) + 0.9, (PANEL_INCHES + 0.25) * len(hemispheres)
    fig = plt.figure(figsize=inches, layout="compressed")
    low, high = colour_range
    colour_map = colour_map or ListedColormap(palette_of(variable("sic"), colour_range))
    colours = {"cmap": colour_map, "vmin": low, "vmax": high}
    for row, name in enumerate(hemispheres):
        points = points_of(latitude, name)
        x, y = project(latitude[points], longitude[points], name)
        for column, (title, values) in enumerate(panels.items()):
            subplot = (len(hemispheres), len(panels), row * len(panels) + column + 1)
            ax = fig.add_subplot(*subplot, projection=projection(name), title=title)
            markers = _draw_points(ax, x, y, name, c=np.asarray(values)[points], **colours)
    extend = exceeded_ends(panels.values(), (low - 1e-3, high + 1e-3))
    fig.colorbar(markers, ax=fig.axes, label=label, shrink=0.85, extend=extend)
    return fig


def _draw_points(ax, x, y, hemisphere, **colours):
    """Draw grid points as squares that touch each other."""
    points = np.stack([x, y], 1)
    distance, _ = cKDTree(points).query(points, 2)  # to the point itself and to the nearest other
    spacing = np.median(distance[:, 1]) if len(points) > 1 else 1000 * SINGLE_POINT_KM
    half = np.ptp(points, axis=0).max() / 2 + 2 * spacing
    middle = (points.min(0) + points.max(0)) / 2
    west, south, east, north = *(middle - half), *(middle + half)
    ax.set(xlim=(west, east), ylim=(south, north), facecolor=OUTSIDE)
    draw_land(ax, hemisphere, edgecolor=COAST, linewidth=0.3)
    draw_graticule(ax, np.divide((west, east, south, north), 1000))
    size = (POINTS_PER_INCH * PANEL_INCHES / (2 * half) * spacing) ** 2
    return ax.scatter(x, y, size, marker="s", linewidths=0, zorder=2, **colours)


def plot_emissivity(learnt, frequency_ghz):
    """Emissivity by frequency and polarisation, with those of published types of ice.

    Parameters
    ----------
    learnt : dict of str to (ndarray, ndarray)
        By label, emissivity at vertical and at horizontal polarisation, (state, frequency): the
        median and the range from the 10th to the 90th percentile of the states are drawn.
    frequency_ghz : ndarray (frequency,) or (ndarray, ndarray)
        Of both polarisations, or of each.

    Returns
    -------
    holoviews.Layout
        One panel for each polarisation.
    """
    published, panels = ice_types(), []
    is_pair = isinstance(frequency_ghz, tuple)
    highest = np.max(np.concatenate(frequency_ghz) if is_pair else frequency_ghz)
    ticks = [(tick, str(tick)) for tick in (6, 10, 20, 40, 90, 180) if tick <= 1.2 * highest]
    for index, polarisation in enumerate(("Vertical", "Horizontal")):
        frequency, series = np.asarray(frequency_ghz[index] if is_pair else frequency_ghz), {}
        for position, (label, emissivity) in enumerate(learnt.items()):
            low, median, high = np.nanquantile(emissivity[index], (0.1, 0.5, 0.9), axis=0)
            style = {"colour": COLOURS[1 + position], "width": 2.6}
            style |= {"marker": "circle"} if len(frequency) < 15 else {}
            band = (low, high) if len(emissivity[index]) > 1 else ()
            series[label] = Curve(frequency, median, band=band, **style)
        shown = published.sel(polarisation=polarisation[0], frequency=slice(1.1 * highest))
        for position, (name, label) in enumerate(ICE_TYPE_LABELS.items(), 1):
            values = shown.sel(type=name)
            style = {"colour": ("#333333", "#777777", "#999999")[position - 1], "width": 1.6}
            style |= {"dash": DASHES[position], "marker": tuple(MARKERS)[position]}
            series[label] = Curve(values.frequency.values, values.values, **style)
        values = np.concatenate([curve.y for curve in series.values()])
        limits = (min(0.5, np.nanmin(values)) - 0.02, 1.02)
        options = {"logx": True, "xticks": ticks, "ylim": limits}
        text = f"{polarisation} polarisation; grey: published types of ice"
        panels.append(overlay(series, "Frequency (GHz)", "Emissivity", text, **options))
    return layout(*panels)


def plot_departures(table, sensor):
    """Mean and standard deviation of observed minus simulated, by channel, before and after.

    Parameters
    ----------
    table : Dataset (stage, sensor, channel)
        From a file ``departures_<tag>.nc``.
    sensor : str

    Returns
    -------
    holoviews.Layout
        One panel for each score and stage, with a scale of its own, because values before and
        after the training differ by orders of magnitude.
    """
    rows = table.sel(sensor=sensor).dropna("channel", how="all", subset=["bias"])
    channels, panels = [str(name) for name in rows.channel.values], []
    for score, name in (("bias", "Mean departure"), ("std", "Standard deviation")):
        for stage in rows.stage.values:
            title = f"{name} {stage} training"
            colours = {title: COLOURS[1 if stage == "after" else 2]}
            values = {title: rows[score].sel(stage=stage).values}
            label = f"{name}, {sensor} (K)"
            panels.append(plot_categories(values, channels, label, title, colours))
    return layout(*panels)


def plot_cost(history):
    """The terms of the cost by epoch, or the cost by step of the solver.

    Parameters
    ----------
    history : DataFrame
        From :func:`seaice_lab.emissivity.train.train`.

    Returns
    -------
    holoviews.Overlay
        The solver begins again for each first network, for the best ones on a larger sample of the
        cells and for the state of all cells: a curve each. With
        ``integrate_properties``, the cost includes the term of the integral, except in the starts
        of a bilinear problem.
    """
    series = {}
    if "stage" in history:
        stages = history.groupby("stage", sort=False)
        for (stage, rows), marker in zip(stages, cycle(MARKERS)):
            kind, _, number = stage.partition(" ")
            label = f"{STAGES[kind]} {number}".strip()
            series[label] = Curve(rows.index.values + 1, rows.cost.values, marker=marker)
        title = "Cost, with every start of the solver"
        labels = "Step of the solver", "Cost per observation", title
    else:
        for position, (name, label) in enumerate(TERMS.items()):
            values, style = history[name].where(history[name] > 0), line_style(position)
            if values.notna().any():
                epoch = history.epoch.values
                series[label] = Curve(epoch, values.values, marker="circle", **style)
        labels = "Epoch", "Term of the cost", "Cost"
    values = np.concatenate([curve.y for curve in series.values()])
    return overlay(series, *labels, first=1, **log_axis(values))


def plot_unconstrained_direction(tables):
    """Changes of closed ice whose effects on the brightness temperatures cancel, by channel.

    Parameters
    ----------
    tables : dict of str to Dataset
        By label, from :func:`seaice_lab.emissivity.information.unconstrained_direction`.

    Returns
    -------
    holoviews.Layout
        One panel for each table.
    """
    labels = {"concentration": "less ice", "emissivity": "other emissivity", "bias": "other bias"}
    colours = dict(zip((*labels.values(), "sum"), (*COLOURS[1:4], COLOURS[0]), strict=True))
    panels = []
    for label, table in tables.items():
        effects = {labels[term]: table.effect.sel(term=term).values for term in labels}
        effects["sum"] = table.effect.sum("term").values
        channels = [str(name) for name in table.channel.values]
        axis = "Change of the brightness temperature (K)"
        panels.append(plot_categories(effects, channels, axis, label, colours))
    return layout(*panels)


def plot_information(tables):
    """Eigenvalues of the Fisher information about the weights, in units of their backgrounds.

    Parameters
    ----------
    tables : dict of str to Dataset
        As in :func:`plot_unconstrained_direction`.

    Returns
    -------
    holoviews.Overlay
    """
    series = {
        label: Curve(np.arange(1, 1 + len(table.information)), table.information.values)
        for label, table in tables.items()
    }
    values = np.concatenate([curve.y for curve in series.values()])
    labels = "Combination of weights, the best observed first", "Information / background"
    title = "Below 1: determined by the background"
    return overlay(series, *labels, title, [1], 1, **log_axis(values.clip(1e-4, 1e6)))
