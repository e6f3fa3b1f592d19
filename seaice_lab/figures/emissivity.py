"""Pictures of the emissivity model: daily maps of points, spectra, departures, costs.

Every function returns the matplotlib Figure, as in :mod:`seaice_lab.figures.curves`.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection
from scipy.spatial import cKDTree

from seaice_lab.emissivity.ice_types import ICE_TYPE_LABELS, ice_types
from seaice_lab.figures.curves import COLOURS, STYLE
from seaice_lab.figures.maps import COAST, FONT, LAND, OUTSIDE, styled
from seaice_lab.grid import land_polygons, project

PANEL_INCHES = 3.1


@styled(FONT)
def plot_points(panels, latitude, longitude, label, colour_map="cmo.ice", colour_range=(0, 1)):
    """Maps of values at grid points, side by side, in the EPSG:3413 plane.

    Parameters
    ----------
    panels : dict of str to ndarray (grid,)
        By title.
    latitude, longitude : ndarray (grid,)
        Degrees.
    label : str
        Quantity and unit, beside the colour bar.
    colour_map : str
    colour_range : (float, float)

    Returns
    -------
    Figure
    """
    x, y = (part / 1e3 for part in project(latitude, longitude))
    spacing = np.median(cKDTree(np.stack([x, y], 1)).query(np.stack([x, y], 1), 2)[0][:, 1])
    middle = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    half = max(np.ptp(x), np.ptp(y)) / 2 + 2 * spacing
    extent = (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
    n = len(panels)
    fig, axes = plt.subplots(1, n, figsize=(PANEL_INCHES * n + 0.9, PANEL_INCHES + 0.25),
                             squeeze=False, layout="constrained")  # fmt: skip
    side = 72 * PANEL_INCHES / (2 * half) * spacing
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        ax.set_facecolor(OUTSIDE)
        rings = [ring / 1e3 for ring in land_polygons()]
        ax.add_collection(PolyCollection(rings, facecolors=LAND, edgecolors=COAST, linewidths=0.3))
        shown = ax.scatter(x, y, c=values, s=side**2, marker="s", linewidths=0, cmap=colour_map,
                           vmin=colour_range[0], vmax=colour_range[1], zorder=2)  # fmt: skip
        ax.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal", title=title)
    fig.colorbar(shown, ax=axes[0], label=label, shrink=0.85, extend=_ends(panels, colour_range))
    return fig


def _ends(panels, colour_range):
    low = any(np.nanmin(values) < colour_range[0] - 1e-3 for values in panels.values())
    high = any(np.nanmax(values) > colour_range[1] + 1e-3 for values in panels.values())
    return {(False, False): "neither", (True, False): "min", (False, True): "max",
            (True, True): "both"}[low, high]  # fmt: skip


@styled(STYLE)
def plot_emissivity(learnt, frequency_ghz):
    """Emissivity by frequency and polarisation beside published types of ice.

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
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.7), sharey=True, layout="constrained")
    published = ice_types()
    kinds = zip(axes, ("V", "H"), ("Vertical", "Horizontal"), strict=True)
    for which, (ax, letter, title) in enumerate(kinds):
        for colour, (label, pair) in zip(COLOURS[1:], learnt.items(), strict=False):
            low, middle, high = np.nanquantile(pair[which], (0.1, 0.5, 0.9), axis=0)
            ax.fill_between(frequency_ghz, low, high, color=colour, alpha=0.2, lw=0)
            ax.plot(frequency_ghz, middle, color=colour, label=label)
        for style, (kind, name) in zip((":", "--", "-."), ICE_TYPE_LABELS.items(), strict=True):
            emissivity = published.sel(type=kind, polarisation=letter)
            ax.plot(emissivity.frequency, emissivity, color="0.25", ls=style, lw=1.3, label=name)
        ax.set(title=f"{title} polarisation", xlabel="Frequency [GHz]", xscale="log",
               xlim=(min(frequency_ghz), max(frequency_ghz)))  # fmt: skip
        ticks = [tick for tick in (10, 20, 40, 90, 160) if tick <= max(frequency_ghz)]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
    axes[0].set_ylabel("Emissivity of the ice")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig


@styled(STYLE)
def plot_departures(before, after, sensor):
    """Mean and standard deviation of observation minus simulation, by channel.

    Parameters
    ----------
    before, after : Dataset
        From :func:`seaice_lab.emissivity.evaluation.departures`.
    sensor : str

    Returns
    -------
    Figure
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.2), layout="constrained")
    for ax, score, title in zip(axes, ("bias", "std"), ("Mean", "Standard deviation"), strict=True):
        for offset, (label, table) in zip((-0.2, 0.2), (("before", before), ("after", after)),
                                          strict=True):  # fmt: skip
            rows = table.sel(sensor=sensor).dropna("channel", subset=["bias"])
            place = np.arange(rows.sizes["channel"]) + offset
            ax.bar(place, rows[score], 0.38, label=f"{label} training",
                   color=COLOURS[2 if offset < 0 else 1])  # fmt: skip
        ax.set_xticks(np.arange(rows.sizes["channel"]), rows.channel.values)
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
    """Terms of the cost by epoch, or the cost by step of the solver.

    Parameters
    ----------
    history : DataFrame
        From :func:`seaice_lab.emissivity.train.train`.

    Returns
    -------
    Figure
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.3), layout="constrained")
    if "stage" in history:
        titles = {"start": "random networks", "network": "best network", "state": "state"}
        colour = dict(zip(titles, COLOURS[1:], strict=False))
        piece = (history.stage != history.stage.shift()).cumsum()
        for _, rows in history.groupby(piece):
            kind = rows.stage.iloc[0].split()[0]
            ax.plot(rows.index + 1, rows.cost, "o-", ms=3, color=colour[kind],
                    label=titles.pop(kind, None))  # fmt: skip
        ax.set(xlabel="Step of the solver", ylabel="Cost an observation")
    else:
        titles = {"train_observation": "observations", "train_emissivity": "emissivity",
                  "sea_ice": "concentration", "train_bias": "bias"}  # fmt: skip
        for colour, (name, title) in zip(COLOURS[1:], titles.items(), strict=False):
            values = history[name].where(history[name] > 0)
            if values.notna().any():
                ax.plot(history.epoch, values, "o-", ms=3, color=colour, label=title)
        ax.set(xlabel="Epoch", ylabel="Term of the cost")
    ax.set_yscale("log")
    ax.legend()
    return fig
