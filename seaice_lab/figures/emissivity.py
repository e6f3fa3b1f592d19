"""Figures of the emissivity model: daily maps of points, spectra, departures, costs.

Every function returns the matplotlib Figure, as in :mod:`seaice_lab.figures.curves`.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial import cKDTree

from seaice_lab.emissivity.ice_types import ICE_TYPE_LABELS, ice_types
from seaice_lab.figures.curves import COLOURS, STYLE
from seaice_lab.figures.geoaxes import draw_graticule, draw_land, projection
from seaice_lab.figures.maps import FONT, styled
from seaice_lab.figures.plane import COAST, OUTSIDE, hemispheres_with_points, points_of
from seaice_lab.grid import project

PANEL_INCHES = 3.1
POINTS_PER_INCH = 72


@styled(FONT)
def plot_points(
    panels, latitude, longitude, label, colour_map="cmo.ice", colour_range=(0, 1), hemisphere=None
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
    colour_map : str
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
    fig = plt.figure(figsize=inches, layout="constrained")
    low, high = colour_range
    colours = {"cmap": colour_map, "vmin": low, "vmax": high}
    for row, name in enumerate(hemispheres):
        points = points_of(latitude, name)
        x, y = project(latitude[points], longitude[points], name)
        for column, (title, values) in enumerate(panels.items()):
            place = (len(hemispheres), len(panels), row * len(panels) + column + 1)
            ax = fig.add_subplot(*place, projection=projection(name), title=title)
            markers = _draw_points(ax, x, y, name, c=np.asarray(values)[points], **colours)
    below = any(np.nanmin(values) < low - 1e-3 for values in panels.values())
    above = any(np.nanmax(values) > high + 1e-3 for values in panels.values())
    extend = [["neither", "max"], ["min", "both"]][below][above]
    fig.colorbar(markers, ax=fig.axes, label=label, shrink=0.85, extend=extend)
    return fig


def _draw_points(ax, x, y, hemisphere, **colours):
    """Draw grid points as squares that touch each other."""
    points = np.stack([x, y], 1)
    distance, _ = cKDTree(points).query(points, 2)  # to the point itself and to the nearest other
    spacing = np.median(distance[:, 1])
    half = np.ptp(points, axis=0).max() / 2 + 2 * spacing
    middle = (points.min(0) + points.max(0)) / 2
    west, south, east, north = *(middle - half), *(middle + half)
    ax.set(xlim=(west, east), ylim=(south, north), facecolor=OUTSIDE)
    draw_land(ax, hemisphere, edgecolor=COAST, linewidth=0.3)
    draw_graticule(ax, np.divide((west, east, south, north), 1000))
    size = (POINTS_PER_INCH * PANEL_INCHES / (2 * half) * spacing) ** 2
    return ax.scatter(x, y, size, marker="s", linewidths=0, zorder=2, **colours)


@styled(STYLE)
def plot_emissivity(learnt, frequency_ghz):
    """Draw emissivity by frequency and polarisation, with those of published types of ice.

    Parameters
    ----------
    learnt : dict of str to (ndarray, ndarray)
        By label, emissivity at vertical and at horizontal polarisation, (state, frequency): the
        median and the range from the 10th to the 90th percentile of the states are drawn.
    frequency_ghz : ndarray (frequency,)

    Returns
    -------
    Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.7), sharey=True)
    published = ice_types()
    ticks = [tick for tick in (10, 20, 40, 90, 160) if tick <= max(frequency_ghz)]
    for index, (ax, polarisation) in enumerate(zip(axes, ("Vertical", "Horizontal"), strict=True)):
        for colour, (label, emissivities) in zip(COLOURS[1:], learnt.items(), strict=False):
            low, median, high = np.nanquantile(emissivities[index], (0.1, 0.5, 0.9), axis=0)
            ax.fill_between(frequency_ghz, low, high, color=colour, alpha=0.2, lw=0)
            ax.plot(frequency_ghz, median, color=colour, label=label)
        for style, (name, label) in zip((":", "--", "-."), ICE_TYPE_LABELS.items(), strict=True):
            emissivity = published.sel(type=name, polarisation=polarisation[0])
            ax.plot(emissivity.frequency, emissivity, color="0.25", ls=style, lw=1.3, label=label)
        ax.set(title=f"{polarisation} polarisation", xlabel="Frequency [GHz]", xscale="log")
        ax.set_xlim(min(frequency_ghz), max(frequency_ghz))
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
    axes[0].set_ylabel("Emissivity of the ice")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig


@styled(STYLE)
def plot_departures(before, after, sensor):
    """Draw mean and standard deviation of observed minus simulated, by channel.

    Parameters
    ----------
    before, after : Dataset
        From :func:`seaice_lab.emissivity.evaluation.departures`.
    sensor : str

    Returns
    -------
    Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.2))
    stages = (("before", before, -0.2, COLOURS[2]), ("after", after, 0.2, COLOURS[1]))
    for ax, score, title in zip(axes, ("bias", "std"), ("Mean", "Standard deviation"), strict=True):
        for stage, table, offset, colour in stages:
            rows = table.sel(sensor=sensor).dropna("channel", subset=["bias"])
            position = np.arange(rows.sizes["channel"])
            ax.bar(position + offset, rows[score], 0.38, label=f"{stage} training", color=colour)
        ax.set_xticks(position, rows.channel.values)
        ax.tick_params(axis="x", rotation=60)
        ax.axhline(0, color="0.3", lw=0.8)
        ax.set_axisbelow(True)
        ax.set_yscale("symlog", linthresh=1)  # before and after differ by orders of magnitude
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set(title=f"{title}, {sensor}", ylabel="Observed minus simulated [K]")
        ax.grid(axis="x", visible=False)
    fig.legend(*axes[1].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return fig


@styled(STYLE)
def plot_cost(history):
    """Draw the terms of the cost by epoch, or the cost by step of the solver.

    Parameters
    ----------
    history : DataFrame
        From :func:`seaice_lab.emissivity.train.train`.

    Returns
    -------
    Figure
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.3))
    if "stage" in history:
        labels = {"start": "random networks", "network": "best network", "state": "state"}
        colours = dict(zip(labels, COLOURS[1:], strict=False))
        # one line for each uninterrupted sequence of steps in one stage
        sequence = (history.stage != history.stage.shift()).cumsum()
        for _, rows in history.groupby(sequence):
            stage = rows.stage.iloc[0].split()[0]
            style = {"color": colours[stage], "label": labels.pop(stage, None)}
            ax.plot(rows.index + 1, rows.cost, "o-", ms=3, **style)
        ax.set(xlabel="Step of the solver", ylabel="Cost per observation")
    else:
        labels = {
            "train_observation": "observations",
            "train_emissivity": "emissivity",
            "sea_ice": "concentration",
            "train_bias": "bias",
        }
        for colour, (name, label) in zip(COLOURS[1:], labels.items(), strict=False):
            values = history[name].where(history[name] > 0)
            if values.notna().any():
                ax.plot(history.epoch, values, "o-", ms=3, color=colour, label=label)
        ax.set(xlabel="Epoch", ylabel="Term of the cost")
    ax.set_yscale("log")
    ax.legend()
    return fig
