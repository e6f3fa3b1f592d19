"""Runs: what each run is, how far it is, what to do next, and its executed notebooks."""

from html import escape
from urllib.parse import urlencode

import panel as pn
import yaml

from dashboards import layout, readers, selection
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, curves, emissivity
from seaice_lab.runs import open_run

REFRESH_MS = 2000
NEXT_STEP = {
    "created": "not trained yet: `seaice-lab train`",
    "training": "in training: the loss below grows by itself",
    "stopped": "stopped before its end: the same `seaice-lab train` continues it",
    "failed": "failed: the table says why, and the same `seaice-lab train` continues it",
    "trained": "no forecast yet: `seaice-lab forecast`",
    "forecast": "no scores yet: `seaice-lab evaluate`",
    "evaluated": "complete",
}
EMISSIVITY_NEXT_STEP = {
    "created": "not trained yet: `seaice-lab emissivity train`",
    "training": "in training: the loss below grows by itself",
    "stopped": "stopped before its end: the same `seaice-lab emissivity train` continues it",
    "failed": "failed: the table says why, and the same `seaice-lab emissivity train` continues it",
    "trained": "complete",
    "inferred": "complete: new days with the network of another run",
}


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
    run = selection.run_list(state, "run", [row.name for row in library.runs()])
    no_runs = layout.empty_state(
        "No runs yet",
        f"`{library.folder.name}` holds none. Make one with `make demo`, or "
        "`seaice-lab train RUN`; it appears here by itself.",
    )
    table = pn.pane.HTML(sizing_mode="stretch_width", **layout.styled("run-table"))
    card = layout.cards([table], 400)
    details = layout.stretched()
    described = None  # row and version of the history that the details show

    def refresh(_names=None):
        """Show the runs that are in the folder now."""
        nonlocal described
        rows = {row.name: row for row in library.runs()}
        no_runs.visible = not rows
        card.visible = run.visible = bool(rows)
        table.object = run_table(rows.values())
        if list(rows) != run.options:
            run.options = list(rows)
        row = rows.get(run.value)
        history = row and readers.current_file(library.folder / row.name / "history.csv")
        now = row and row._replace(detail=""), history  # a heartbeat changes no details
        if described != now:
            described = now
            details[:] = describe(library, row) if row else []

    def follow_folder():
        """Refresh the page, until another page is shown."""
        if state.on_change == refresh:
            refresh()
        else:
            timer.stop()

    state.on_change = refresh
    refresh()
    timer = pn.state.add_periodic_callback(follow_folder, REFRESH_MS)
    return layout.controls(run), layout.stretched(no_runs, card, details)


def run_table(rows):
    """All runs as an HTML table."""
    lines = [(row.name, row.kind, row.created[:16], row.detail or row.state) for row in rows]
    cells = ["".join(f"<td>{escape(text)}</td>" for text in line) for line in lines]
    body = "".join(f"<tr>{line}</tr>" for line in cells)
    header = "<tr><th>Run</th><th>System</th><th>Created (UTC)</th><th>State</th></tr>"
    return f"<table>{header}{body}</table>"


def describe(library, row):
    """Name, state, loss, notebooks, provenance and configuration of a run.

    Parameters
    ----------
    library : dashboards.library.Library
    row : seaice_lab.runs.RunState

    Returns
    -------
    list of Panel objects
    """
    if row.kind == "?":
        text = "The table above says why. The other runs can be used."
        return [layout.empty_state("This run cannot be used", text)]
    try:
        history = readers.history_of(library, row.name)
        run = open_run(library.path(row.name))
    except InputError as error:
        return [layout.empty_state("This run cannot be read", str(error))]
    overview = [run_heading(row)]
    if history is not None:
        overview.append(layout.bokeh_pane(loss_figure(history)))
    overview.append(pn.pane.HTML(notebook_links(row.name, library.notebooks(row.name))))
    texts = [text_block("Where from", run.provenance), text_block("Configuration", run.config)]
    return [layout.cards([layout.stretched(*overview), *texts], 330)]


def run_heading(row):
    """Name and state of a run, and its next step."""
    steps = EMISSIVITY_NEXT_STEP if row.kind == "emissivity" else NEXT_STEP
    step = steps.get(row.state, row.state).replace("`", "")
    name = f"<b style='font-size:15px;overflow-wrap:anywhere'>{escape(row.name)}</b>"
    html = f"{name}<br>{escape(row.kind)}, {escape(step)}"
    return pn.pane.HTML(html, sizing_mode="stretch_width")


def notebook_links(run, names):
    """HTML list of links to the executed notebooks of a run.

    Parameters
    ----------
    run : str
    names : list of str
        Names of HTML files.

    Returns
    -------
    str
    """
    links = [
        f"<li><a href='notebook?{urlencode({'run': run, 'name': name})}' target='_blank' "
        f"rel='noopener'>{escape(name)}</a></li>"
        for name in names
    ]
    content = f"<ul>{''.join(links)}</ul>" if links else "<br>none kept with this run"
    return f"<b>Executed notebooks</b>{content}"


def text_block(title, values):
    """Values as YAML below a title.

    Parameters
    ----------
    title : str
    values : dict

    Returns
    -------
    panel.Column
    """
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    style = {"overflow": "auto", "font-size": "12px"}
    pane = pn.pane.Str(text, styles=style, sizing_mode="stretch_width")
    return layout.stretched(pn.pane.HTML(f"<b>{title}</b>"), pane)


def loss_figure(history):
    """Figure of the training and validation loss by epoch, or of the cost of an emissivity run."""
    is_surrogate = "validation_loss" in history
    panel = curves.plot_loss(history) if is_surrogate else emissivity.plot_cost(history)
    return charts.bokeh_figure(panel)
