"""The score card: scores of runs and references by lead time, coloured by their skill."""

from html import escape

import numpy as np
import xarray as xr

from dashboards import layout
from dashboards.selection import DAY
from seaice_lab.diagnostics import comparison
from seaice_lab.diagnostics.score_tables import table_leads

BETTER, WORSE = "0, 114, 178", "213, 94, 0"  # red, green, blue
SKILL = ("skill", "low", "high")  # variables of a skill with its interval
FULL_COLOUR = 0.5  # skill with the deepest colour


def score_card(view):
    """The score at some lead times, coloured by its skill against the measure.

    Parameters
    ----------
    view : dashboards.scores.View

    Returns
    -------
    panel.pane.HTML
    """
    longest = max(view.scores.values(), key=lambda table: table.sizes["lead_time"])
    leads = longest.lead_time.values[table_leads(longest.lead_time)]
    shown = {t: table[view.name].reindex(lead_time=leads) for t, table in view.scores.items()}
    # One number of decimals, that of the first run, so that numbers can be compared.
    digits = comparison.decimals(next(iter(shown.values())).values)
    head = "".join(f"<th>{lead / DAY:g} d</th>" for lead in leads)
    rows = f"<tr><th></th><th>Starts</th>{head}</tr>"
    for title, values in shown.items():
        count, skill = view.scores[title].sizes["init_time"], skill_of(view, title, leads)
        columns = zip(values.values, *(skill[name].values for name in SKILL), strict=True)
        cells = "".join(score_cell(value, digits, *column) for value, *column in columns)
        rows += f"<tr><th>{escape(title)}</th><td>{count}</td>{cells}</tr>"
    legend = f"Blue: better than {escape(view.measure)}, orange: worse. "
    legend += "Bold: significant at 95 % (paired bootstrap over starts). –: not forecast."
    few = dict.fromkeys(map(comparison.too_few_starts, view.scores.values()))
    legend += "".join(f" Nothing is bold: {reason}." for reason in few if reason)
    if view.name not in comparison.PERFECT:
        legend = "This score has no skill, so the card has no colours. –: not forecast."
    title = f"<b>{escape(view.label)} by lead time</b>"
    # Keys scroll the table where it is wider than the screen.
    table = f"<div tabindex='0'><table>{rows}</table></div>"
    html = f"{title}{table}<small>{legend}</small>"
    return layout.html_pane(html, "score-card")


def skill_of(view, title, leads):
    """Skill of a run or reference with its interval.

    Parameters
    ----------
    view : dashboards.scores.View
    title : str
    leads : array of timedelta64 (lead_time,)

    Returns
    -------
    xarray.Dataset
        ``skill``, ``low`` and ``high`` (lead_time), NaN where there is none.
    """
    measure = view.measures[title]
    has_skill = view.name in comparison.PERFECT and measure is not None
    if has_skill and f"{view.name}_by_start" in measure:
        result = comparison.skill_with_interval(view.scores[title], measure, view.name)
        return result.reindex(lead_time=leads)
    missing = xr.DataArray(np.full(len(leads), np.nan), {"lead_time": leads}, ("lead_time",))
    return xr.Dataset(dict.fromkeys(SKILL, missing))


def score_cell(value, digits, gain, low, high):
    """A cell of the score card as HTML.

    Parameters
    ----------
    value : float
    digits : int
        Number of decimals.
    gain, low, high : float
        Skill with its interval, NaN where there is none.

    Returns
    -------
    str
    """
    if np.isnan(value):
        return "<td>–</td>"
    text = f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
    if np.isnan(gain) or gain == 0:
        return f"<td>{text}</td>"
    opacity = min(abs(gain) / FULL_COLOUR, 1) * 0.65
    style = f"background:rgba({BETTER if gain > 0 else WORSE}, {opacity:.2f})"
    hint = f"skill {gain:+.1%}"
    if not np.isnan(low):
        hint += f", 95 % interval {low:+.1%} to {high:+.1%}"
    if low > 0 or high < 0:
        style += ";font-weight:700"
    return f"<td style='{style}' title='{hint}'>{text}</td>"
