"""Curves of the surrogate: scores, seasons, training histories.

Each function returns one panel (`holoviews.Overlay`) or several (`holoviews.Layout`). See
`seaice_lab.figures.charts` for how they are shown in a notebook, in a browser or as a picture.
"""

from textwrap import fill

import numpy as np

from seaice_lab.errors import InputError
from seaice_lab.figures.axes import LEAD_LABEL, axis_label, lead_days, log_axis, season_limits
from seaice_lab.figures.charts import (
    COLOURS,
    DASHED,
    GREY,
    MARKERS,
    Curve,
    layout,
    line_style,
    overlay,
)
from seaice_lab.names import in_days, typeset

FEW_EPOCHS = 20  # up to here, each of them has a marker and a number
CATEGORY_CHARACTERS = 20  # in a row of the name of a category
LEGEND_WIDTH = 21  # in characters, beside the names of categories
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
# Scores that cannot be negative: their axis begins at zero.
POSITIVE = """
    rmse mean_absolute_error crps spread edge_error edge_error_over edge_error_under
""".split()
SEASONS = {
    "volume": ("Ice volume", "Volume (10³ km³)"),
    "extent": ("Ice extent: area of the cells with ice", "Extent (10⁶ km²)"),
    "volume_error": ("Error of the ice volume: forecast minus truth", "Error (km³)"),
    "rmse": ("Root-mean-square error of the thickness", "RMSE (m)"),
}
SEASON_STYLES = {
    "Truth": {"colour": COLOURS[0], "width": 4},
    "Climatology": {"colour": GREY, "dash": DASHED},
}


def score_styles(tables):
    """How the curves of scores look: forecasts are wide, references narrow; no two are alike.

    Parameters
    ----------
    tables : dict of str to Dataset
        Scores of one source each, by label.

    Returns
    -------
    dict of str to dict
        ``colour``, ``dash`` and ``width`` of a `Curve`, by label.
    """
    return {
        label: line_style(position) | {"width": 2.6 if is_forecast(table) else 1.6}
        for position, (label, table) in enumerate(tables.items())
    }


def is_forecast(table):
    """Whether a table of one source is that of a run; so is a table without sources."""
    return str(table["source"].values) == "forecast" if "source" in table.coords else True


def plot_score(tables, name="rmse", label=None, title=""):
    """One score against lead time, with its interval over the starts as a band.

    Parameters
    ----------
    tables : dict of str to Dataset
        Scores of one source each (lead_time), by label; ``<name>_low`` and ``<name>_high`` are the
        interval. The axis shows the forecasts and the first reference forecast completely: a much
        worse one does not hide them.
    name : str
    label : str, optional
        Name and unit of the score at the axis.
    title : str

    Returns
    -------
    holoviews.Overlay
    """
    attrs = next(iter(tables.values()))[name].attrs
    label = label or axis_label(attrs.get("long_name", name), attrs.get("units", "1"))
    low, high = _score_limits(tables, name)
    series, styles = {}, score_styles(tables)
    for title_of_table, table in tables.items():
        values, band = table[name].values, ()
        if f"{name}_low" in table:
            band = (table[f"{name}_low"].values, table[f"{name}_high"].values)
        is_visible = ((values >= low) & (values <= high)).any()
        key = title_of_table if is_visible else f"{title_of_table} (off scale)"
        series[key] = Curve(lead_days(table), values, band=band, **styles[title_of_table])
    margin = 0.04 * (high - low)
    limits = (low if name in POSITIVE else low - margin, high + margin)
    return overlay(series, LEAD_LABEL, label, title, () if name in POSITIVE else (0,), ylim=limits)


def _score_limits(tables, name):
    """Ends of the axis of a score: those of the forecasts and of the first reference, and more."""
    ends = {}
    for label, table in tables.items():
        values = [
            table[key].values for key in (name, f"{name}_low", f"{name}_high") if key in table
        ]
        ends[label] = np.nanmin(values), np.nanmax(values)
    references = [label for label, table in tables.items() if not is_forecast(table)]
    compared = [label for label in tables if label not in references[1:]]
    low, high = np.array([ends[label] for label in compared]).T
    low, high = low.min(), high.max()
    more = 0.6 * (high - low)
    low = max(low - more, min(end[0] for end in ends.values()))
    high = min(high + more, max(end[1] for end in ends.values()))
    low, high = (0, high) if name in POSITIVE else (min(low, 0), max(high, 0))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def plot_scores(table, against="persistence", label="Forecast"):
    """RMSE and bias of a forecast and reference forecasts, and the ratio of RMSEs, by lead time.

    Parameters
    ----------
    table : Dataset
        From `seaice_lab.surrogate.evaluation.evaluate`: scores by ``source`` and lead time.
    against : str
        Source whose RMSE divides the others in the third panel.
    label : str
        Name of the source "forecast" in the legend.

    Returns
    -------
    holoviews.Layout

    Raises
    ------
    InputError
        If the table lacks the source ``against``.
    """
    sources = [str(name) for name in table.source.values]
    if against not in sources:
        raise InputError(
            f"the scores have the sources {', '.join(sources)}, not {against!r}; choose one of "
            "them, or evaluate the run with this reference"
        )
    others = [name for name in sources if name not in ("forecast", against)]
    labels = {name: name.replace("_", " ").capitalize() for name in (against, *others)}
    labels = {"forecast": label} | labels
    tables = {labels[name]: table.sel(source=name) for name in labels}
    styles, reference = score_styles(tables), tables[labels[against]]
    ratios = {
        label: Curve(lead_days(row), (row.rmse / reference.rmse).values, **styles[label])
        for label, row in tables.items()
    }
    title = f"RMSE over that of {against.replace('_', ' ')}"
    ratio = overlay(ratios, LEAD_LABEL, "Ratio", title, ylim=(0, 1.6))
    units = typeset(table.rmse.attrs["units"])
    rmse = plot_score(tables, "rmse", f"RMSE ({units})", "Root-mean-square error")
    return layout(rmse, plot_score(tables, "bias", f"Bias ({units})", "Mean error"), ratio)


def plot_runs(results, against="persistence"):
    """Error, bias and loss of detail of several runs, by lead time.

    Parameters
    ----------
    results : dict of str to (Dataset, Dataset)
        Scores and spectra of each run, from `seaice_lab.surrogate.evaluation.read_evaluation`.
    against : str
        Source whose RMSE divides that of the forecasts.

    Returns
    -------
    holoviews.Layout
        Skill against the reference, bias, and the exponent of the forecast's spectrum minus that of
        the truth (negative for a forecast that smooths).
    """
    scores = {}
    for name, (table, _) in results.items():
        value = 1 - table.rmse / table.rmse.sel(source=against, drop=True)
        scores[name] = table.assign(skill=value).sel(source="forecast")
    styles, lost = score_styles(scores), {}
    for name, (_, spectrum) in results.items():
        exponent = spectrum.slope
        values = exponent.sel(source="forecast") - exponent.sel(source="truth")
        lost[name] = Curve(lead_days(spectrum), values.values, **styles[name])
    units = typeset(next(iter(scores.values())).rmse.attrs["units"])
    title = f"Skill against {against.replace('_', ' ')}"
    labels = LEAD_LABEL, "Difference", "Exponent minus the truth's"
    return layout(
        plot_score(scores, "skill", "Skill", title),
        plot_score(scores, "bias", f"Bias ({units})", "Mean error"),
        overlay(lost, *labels, levels=(0,)),
    )


def plot_starts(values, label, title, styles):
    """A score of each start.

    Parameters
    ----------
    values : dict of str to DataArray (init_time)
        By label.
    label, title, styles
        As of :func:`plot_months`.

    Returns
    -------
    holoviews.Overlay
    """
    series = {
        name: Curve(starts.init_time.values, starts.values, **styles[name])
        for name, starts in values.items()
    }
    return overlay(series, "Start", label, title)


def plot_months(values, label, title, styles):
    """A score by month of the start.

    Parameters
    ----------
    values : dict of str to DataArray (month)
        Months from 1 to 12, by label.
    label, title : str
        Name and unit of the score at the axis, and title of the figure.
    styles : dict of str to dict
        From :func:`score_styles`.

    Returns
    -------
    holoviews.Overlay
    """
    series = {
        name: Curve(months.month.values, months.values, marker=marker, **styles[name])
        for (name, months), marker in zip(values.items(), MARKERS, strict=False)
    }
    ticks = [*enumerate(MONTHS, 1)]
    return overlay(series, "Month of the start", label, title, xticks=ticks, xlim=(0.5, 12.5))


def plot_categories(values, categories, label, title, colours, compared=()):
    """Values by category: one row for each category, one marker and colour for each label.

    Parameters
    ----------
    values : dict of str to array (category,)
        By label.
    categories : sequence of str
        Names of the rows, from top to bottom.
    label, title : str
        Quantity and unit at the axis, and title of the figure.
    colours : dict of str to str
        By label.
    compared : collection of str
        Labels whose values are all visible; all by default. Others may be beyond the axis.

    Returns
    -------
    holoviews.Overlay
    """
    rows, inside = np.arange(len(categories)), [values[name] for name in compared or values]
    low, high = np.nanmin(inside), np.nanmax(inside)
    margin = 0.06 * ((high - low) or abs(high) or 1)
    low, high, series = low - margin, high + margin, {}
    for (name, row), marker in zip(values.items(), MARKERS, strict=False):
        name_shown = f"{name} (partly off scale)" if ((row < low) | (row > high)).any() else name
        series[name_shown] = Curve(row, rows, colours[name], dash=None, marker=marker)
    ticks = [*enumerate(fill(name, CATEGORY_CHARACTERS) for name in categories)]
    # Few numbers, because such figures are narrow.
    options = {"xticks": 4, "yticks": ticks, "ylim": (len(categories) - 0.5, -0.5)}
    return overlay(series, label, "", title, xlim=(low, high), legend_width=LEGEND_WIDTH, **options)


def plot_ensemble(table, label, lead):
    """Spread of an ensemble with the spread of a reliable one, and ranks of the truth.

    Parameters
    ----------
    table : Dataset
        Scores of an ensemble (lead_time), with ``spread`` and ``rank_histogram``.
    label : str
        Name of the ensemble.
    lead : timedelta64
        Of the rank histogram.

    Returns
    -------
    holoviews.Layout
        A reliable ensemble has a spread of sqrt(m / (m + 1)) times the error of the mean of its m
        members (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1), which the left panel shows.
    """
    days, members = lead_days(table), table.sizes["rank"] - 1
    needed = (members / (members + 1)) ** 0.5 * table.rmse.values
    series = {
        "Spread": Curve(days, table.spread.values),
        "Spread of a reliable ensemble": Curve(days, needed),
    }
    axis = f"Spread ({typeset(table.rmse.attrs['units'])})"
    title = f"{label}: spread of {members} members"
    spread = overlay(series, LEAD_LABEL, axis, title, first=1, ylim=(0, None))
    ranks = table.rank_histogram.sel(lead_time=lead, method="nearest")
    days_ahead = ranks.lead_time.values / np.timedelta64(1, "D")
    # A step of the histogram for each rank.
    x, y = np.repeat(np.arange(members + 2) - 0.5, 2), [0, *np.repeat(ranks.values, 2), 0]
    title = f"{label}: ranks, {in_days(days_ahead)} ahead; dashed: reliable"
    even = {1 / (members + 1): DASHED}
    options = {"ylim": (0, None), "xticks": [(rank, str(rank)) for rank in range(members + 1)]}
    labels = "Members below the truth", "Share of the ocean", title
    return layout(spread, overlay({label: Curve(x, y, COLOURS[1])}, *labels, even, **options))


def plot_season(seasons, quantity):
    """Volume, extent or error of the ice through the year.

    Parameters
    ----------
    seasons : dict of str to DataArray (lead_time or valid_time)
        In the unit of `SEASONS`, with the coordinate ``valid_time``, by label. "Truth" is black,
        "Climatology" grey.
    quantity : str
        A key of `SEASONS`.

    Returns
    -------
    holoviews.Overlay
    """
    series = {
        label: Curve(season.valid_time.values, season.values, **SEASON_STYLES.get(label, {}))
        for label, season in seasons.items()
    }
    # A forecast that equals the truth is drawn over it, as a narrower line.
    series = dict(sorted(series.items(), key=lambda item: item[0] in SEASON_STYLES))
    title, label = SEASONS[quantity]
    levels = (0,) if label.startswith(("Error", "RMSE")) else ()
    shown = {name: curve.y for name, curve in series.items()}
    # The climatology may be so far away that the other curves would be flat.
    climatology = shown.pop("Climatology", ()) if len(shown) > 1 else ()
    low, high = season_limits(np.concatenate([*shown.values(), levels]), climatology)
    if len(climatology) and not ((climatology >= low) & (climatology <= high)).any():
        title += "; climatology off scale"
    return overlay(series, "Date", label, title, levels, first=1, ylim=(low, high))


def plot_loss(history):
    """Training and validation loss against the epoch, and the epoch whose weights are kept.

    Parameters
    ----------
    history : pandas.DataFrame
        With columns ``epoch``, ``train_loss`` and ``validation_loss``, as in ``history.csv`` of a
        run.

    Returns
    -------
    holoviews.Overlay
    """
    epoch = history["epoch"].values
    columns = {"Training": "train_loss", "Validation": "validation_loss"}
    losses = {name: history[column].values for name, column in columns.items()}
    losses = {name: values for name, values in losses.items() if np.isfinite(values).any()}
    is_short = len(epoch) < FEW_EPOCHS
    marker = "circle" if is_short else None
    series = {name: Curve(epoch, values, marker=marker) for name, values in losses.items()}
    if "Validation" in losses:
        best = int(np.nanargmin(losses["Validation"]))
        label = f"Lowest: {losses['Validation'][best]:.3g} in epoch {epoch[best]}"
        lowest = epoch[[best]], losses["Validation"][[best]], COLOURS[2]
        series = {label: Curve(*lowest, dash=None, marker="diamond")} | series
    options = log_axis(np.concatenate([*losses.values()]), log=None)
    options |= {"xticks": epoch.tolist()} if is_short else {}
    return overlay(series, "Epoch", "Loss (normalised units)", "Loss", first=1, **options)


def plot_history(history):
    """Training and validation loss, and the learning rate, against the epoch.

    Parameters
    ----------
    history : pandas.DataFrame
        As of :func:`plot_loss`, with a column ``learning_rate``.

    Returns
    -------
    holoviews.Layout
    """
    epoch, rate = history["epoch"].values, history["learning_rate"].values
    options = log_axis(rate) | ({"xticks": epoch.tolist()} if len(epoch) < FEW_EPOCHS else {})
    series = {"Learning rate": Curve(epoch, rate)}
    panel = overlay(series, "Epoch", "Learning rate", "Learning rate", **options)
    return layout(plot_loss(history), panel)
