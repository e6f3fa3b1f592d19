"""The time bars of the forecasts page: start and lead time, with their dates."""

import numpy as np

from dashboards import layout, selection
from dashboards.components import time_bar
from dashboards.selection import HOUR, time_text
from seaice_lab.names import in_days
from seaice_lab.torch_private import set_change_delay

LEAD_DELAY_MS = 5  # between a move of the time bar and new pictures
MARKS = 5  # dates below a time bar


class Times:
    """The starts and lead times of a run, and the bars that select one of each.

    Parameters
    ----------
    state : dashboards.state.PageState
    """

    def __init__(self, state):
        self.state = state
        self.starts, self.leads = {}, {}  # times by text, and lead times by hours
        self.start_bar = time_bar(state, "start", "Start", calendar=True)
        self.lead_bar = time_bar(state, "lead", "Lead time", playable=True)
        set_change_delay(self.lead_bar, LEAD_DELAY_MS)
        bars, style = (self.start_bar, self.lead_bar), layout.styled("panel", "times")
        self.column = layout.stretched(*bars, **style)

    def offer(self, run, dataset):
        """Offer the times of a forecast, and select those of the state or the nearest ones.

        Parameters
        ----------
        run : str
            Name of the run.
        dataset : xarray.Dataset

        Returns
        -------
        list of str
            What is shown in place of times that the run does not have, in sentences.
        """
        state, notes = self.state, []
        self.starts = {time_text(time): time for time in dataset.init_time.values}
        self.leads = {float(lead / HOUR): lead for lead in dataset.lead_time.values}
        starts, leads = list(self.starts), list(self.leads)
        if state.start not in starts:
            if state.start is not None:
                notes.append(f"{run} has no forecast from {state.start}; the first is shown.")
            state.correct(start=starts[0])
        lead = selection.nearest(leads, state.lead or 0)
        if state.lead is not None and state.lead != lead:
            days = f"{in_days(state.lead / 24)} ahead; shown: {in_days(lead / 24)}"
            notes.append(f"{run} has no forecast {days}.")
        state.correct(lead=lead)
        self.start_bar.marks = marks(starts)
        self.start_bar.offer(starts, [f"{text} UTC" for text in starts], state.start)
        self.lead_bar.offer(leads, [f"+{in_days(lead / 24)}" for lead in leads], lead)
        return notes

    def selected(self):
        """The selected start and lead time."""
        return self.starts[self.state.start], self.leads[self.state.lead]

    def show_valid_times(self):
        """Show the valid times of the selected start on the bar of the lead times."""
        start, _ = self.selected()
        valid = [time_text(start + lead) for lead in self.leads.values()]
        steps = zip(self.leads, valid, strict=True)
        texts = [f"+{in_days(hours / 24)}, valid {time} UTC" for hours, time in steps]
        self.lead_bar.param.update(texts=texts, marks=marks(valid))


def marks(times):
    """A few dates below a time bar.

    Parameters
    ----------
    times : list of str
        Times such as "2020-01-31 12:00".

    Returns
    -------
    list of [int, str]
        Positions and dates.
    """
    count = min(MARKS, len(times) // 2 + 1)  # so that the dates do not touch each other
    positions = np.linspace(0, len(times) - 1, count)
    dates = [time[:10] for time in times]
    # Between the ends, a date stands at its first time.
    firsts = np.array([k for k in range(1, len(dates)) if dates[k] != dates[k - 1]] or [0])
    nearest = [firsts[abs(firsts - position).argmin()] for position in positions[1:-1]]
    ends = (0, len(times) - 1)
    return [[k, dates[k]] for k in sorted({int(k) for k in (*nearest, *ends)})]
