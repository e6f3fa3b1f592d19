"""Runs: what each run is, how far it is, what to do next, and its executed notebooks."""

from html import escape
from urllib.parse import urlencode

import panel as pn
import yaml

from dashboards import layout, run_files, selection
from seaice_lab.diagnostics import comparison
from seaice_lab.errors import InputError
from seaice_lab.figures import curves, emissivity
from seaice_lab.parameters import UNITS, flatten
from seaice_lab.runs import open_run

REFRESH_MS = 2000
# Copies the text before the button; where a browser forbids this, the text is selected.
COPY_BUTTON = (
    "<button onclick='const code = this.previousElementSibling; "
    "getSelection().selectAllChildren(code); "
    "navigator.clipboard?.writeText(code.textContent)'>Copy</button>"
)
NEXT_STEP = {
    "created": "not trained yet: `seaice-lab train RUN`",
    "training": "in training: the loss below grows by itself",
    "assimilating": "windows are being analysed",
    "stopped": "stopped before its end: the same command continues it",
    "failed": "failed: the table says why, and the same command continues it",
    "trained": "no forecast yet: `seaice-lab forecast RUN`",
    "forecast": "no scores yet: `seaice-lab evaluate RUN`",
    "evaluated": "complete",
    "analysed": "complete: windows without forecasts",
}
# Labels of groups and settings that differ from their names in the file.
GROUPS = {
    "fit": "Training",
    "solve": "Solver",
    "model": "Emissivity model",
    "versions": "Software versions",
}
NAMES = {
    "kind": "System",
    "format": "Format of the run",
    "std": "Standard deviation",
    "max_gradient_norm": "Largest norm of the gradient",
}
OF_PROVENANCE = NAMES | {"data": "Checksum of the data"}
# Labels of values that differ from those in the file.
VALUES = {
    "self_consistent": "self-consistent",
    "quarter_turns": "quarter turns",
    "gauss_newton": "Gauss\N{EN DASH}Newton",
    "shifted_edge": "shifted edge",
    "low_closed_ice": "low in closed ice",
    "new_type": "new type",
    "ocean_mean": "mean over the ocean",
    "lbfgs": "L-BFGS",
    "adam": "Adam",
    "crps": "CRPS",
}
EMISSIVITY_NEXT_STEP = {
    "created": "not trained yet: `seaice-lab emissivity train`",
    "training": "in training: the loss below grows by itself",
    "inferring": "new days are in work",
    "stopped": "stopped before its end: run the same command again",
    "failed": "failed: the table says why; then run the same command again",
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
        f"`{library.own.name}` holds none. Make one with `make demo`, or "
        "`seaice-lab train RUN`; it appears here by itself. Until then you see the network that "
        "comes with the project: `seaice-lab forecast data/pretrained/sample`.",
    )
    headline = layout.text_block()
    table = layout.html_pane("", "table", "clickable", "stacked")
    card = layout.cards([table], 400)
    details = layout.stretched()
    described = None  # row and version of the history that the details show

    def refresh(_names=None):
        """Show the runs that are in the folder now."""
        nonlocal described
        rows = {row.name: row for row in library.runs()}
        no_runs.visible = not rows or library.folder != library.own
        card.visible = run.visible = bool(rows)
        headline.text = summary(rows.values())
        if list(rows) != run.options:
            run.options = list(rows)
        table.object = run_table(rows.values(), run.value)
        row = rows.get(run.value)
        history = row and run_files.current_file(library.folder / row.name / "history.csv")
        if described != (row, history):
            described = row, history
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
    return layout.controls(run), layout.stretched(headline, no_runs, card, details)


def summary(rows):
    """How many runs there are in each state, as HTML."""
    states = [row.state if row.kind != "?" else "unreadable" for row in rows]
    counts = [f"{states.count(state)} {escape(state)}" for state in dict.fromkeys(states)]
    number = "1 run" if len(states) == 1 else f"{len(states)} runs"
    return f"<b>{number}</b>: {', '.join(counts)}" if states else ""


def run_table(rows, selected):
    """All runs as an HTML table; the name of a run is a link that selects it.

    Parameters
    ----------
    rows : iterable of seaice_lab.runs.RunState
    selected : str or None

    Returns
    -------
    str
    """
    rows, body = list(rows), ""
    titles = ["Run", "System", "Created (UTC)", "State"]
    titles += ["Tags"] if any(row.tags for row in rows) else []
    for row in rows:
        link = f"?{urlencode({'page': 'runs', 'run': row.name})}"
        name = f"<a href='{escape(link)}'>{escape(row.name)}</a>"
        state, tags = row.detail or row.state, ", ".join(row.tags)
        texts = (row.kind, row.created[:16].replace("T", " "), state, tags)
        cells = (name, *map(escape, texts))[: len(titles)]
        cells = "".join(f"<td>{cell}</td>" for cell in cells)
        mark = " class='selected' aria-current='true'" if row.name == selected else ""
        body += f"<tr{mark}>{cells}</tr>"
    header = "".join(f"<th>{title}</th>" for title in titles)
    return f"<table><tr>{header}</tr>{body}</table>"


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
        history = run_files.history_of(library, row.name)
        run = open_run(library.path(row.name))
    except InputError as error:
        return [layout.empty_state("This run cannot be read", str(error))]
    about = page_links(library, row), escape(score_in_words(library, row.name))
    overview = [run_heading(row), layout.html_pane("<br>".join(filter(None, about)), "table")]
    if history is not None:
        overview.append(layout.chart(loss_panel(history)))
    links = notebook_links(row.name, library.notebooks(row.name))
    overview.append(layout.html_pane(links, "table"))
    facts = dict(run.provenance)
    command = command_block(str(facts.pop("command", "")))
    facts["created"] = str(facts["created"]).replace("T", " ").replace("+00:00", " UTC")
    where = command + settings_table("Origin", facts, OF_PROVENANCE)
    config = layout.html_pane(settings_table("Configuration", run.config), "table", "in-columns")
    overview = layout.stretched(*overview), layout.html_pane(where, "table")
    return [layout.cards(overview, 330), layout.cards([config], 330)]


def run_heading(row):
    """Name, state and last note of a run, and its next step."""
    steps = EMISSIVITY_NEXT_STEP if row.kind == "emissivity" else NEXT_STEP
    step = escape(steps.get(row.state, row.state)).replace("`", "")
    name = f"<b style='font-size:15px;overflow-wrap:anywhere'>{escape(row.name)}</b>"
    detail = "".join(f"<br>{escape(text)}" for text in (row.detail, row.note) if text)
    return layout.html_pane(f"{name}<br>{escape(row.kind)}, {step}{detail}", "table")


def page_links(library, row):
    """Links to the pages that show a run, as HTML.

    Parameters
    ----------
    library : dashboards.library.Library
    row : seaice_lab.runs.RunState

    Returns
    -------
    str
    """
    pages = {}
    if row.state in ("forecast", "evaluated"):
        pages = dict.fromkeys(("forecasts", "season"), "runs")
    for page in ("scores", "spectra", "scaling"):
        if row.state == "evaluated" and library.path(row.name, f"{page}.nc").exists():
            pages[page] = "runs"
    if row.kind == "emissivity" and library.tags(row.name):
        pages["emissivity"] = "emissivity_run"
    if row.kind == "assimilation":
        pages["analyses"] = "cycle"
    links = [
        f"<a href='?{escape(urlencode({'page': page, name: row.name}))}'>{page.capitalize()}</a>"
        for page, name in pages.items()
    ]
    return f"Look at it: {', '.join(links)}" if links else ""


def score_in_words(library, run):
    """The error of a run in the middle of its lead times, and that of persistence.

    Parameters
    ----------
    library : dashboards.library.Library
    run : str

    Returns
    -------
    str
        Empty without scores; an error message if they cannot be read.
    """
    if not library.path(run, "scores.nc").exists():
        return ""
    try:
        table = run_files.table_of(library, run, "scores.nc")
    except InputError as error:
        return str(error)
    if "rmse" not in table or "source" not in table.dims:
        return ""
    lead = selection.middle_lead(table.lead_time.values)
    sources = {name: table.sel(source=name) for name in table.source.values}
    forecast, persistence = sources["forecast"], sources.get("persistence")
    return comparison.headline(forecast, persistence, "persistence", "rmse", lead)


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


def command_block(command):
    """The command that made a run, with a button that copies it, as HTML."""
    return f"<b>Command</b><p><code>{escape(command)}</code> {COPY_BUTTON}</p>"


def settings_table(title, values, names=NAMES):
    """HTML table of settings in words; tooltips show their names and values in the file.

    Parameters
    ----------
    title : str
    values : dict
    names : dict of str to str
        Labels that differ from the names in the file.

    Returns
    -------
    str
    """
    rows, last = "", ""
    # Settings without a group have no heading, so they are the first; groups in a group are last.
    for name, value in sorted(flatten(values).items(), key=lambda item: item[0].count(".")):
        group, _, setting = name.rpartition(".")
        if group != last:
            heading = GROUPS.get(group) or name_in_words(group.replace(".", ", "))
            rows += f"<tr class='group'><th colspan='2'>{escape(heading)}</th></tr>"
        last, words = group, setting if group == "versions" else name_in_words(setting, names)
        row = f"<th scope='row'>{escape(words)}</th><td>{escape(value_in_words(value))}</td>"
        rows += f"<tr title='{escape(f'{name}: {value}')}'>{row}</tr>"
    return f"<b>{escape(title)}</b><table>{rows}</table>"


def name_in_words(name, names=NAMES):
    """The name of a setting in words, such as "Length (km)" for "length_km".

    Parameters
    ----------
    name : str
    names : dict of str to str
        Labels that differ from the names in the file.

    Returns
    -------
    str
    """
    if name in names:
        return names[name]
    words, _, last = name.rpartition("_")
    if words and last in UNITS:
        return f"{name_in_words(words, names)} ({UNITS[last]})"
    words = name.removeprefix("n_").replace("_", " ")
    words = f"number of {words}" if name.startswith("n_") else words
    return words[:1].upper() + words[1:]


def value_in_words(value):
    """The value of a setting as a text."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and not any(isinstance(v, (list, dict)) for v in value):
        return ", ".join(map(value_in_words, value)) or "none"
    dump = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True)
    text = value if isinstance(value, str) else dump.removesuffix("\n").removesuffix("\n...")
    return "none" if text == "{}" else VALUES.get(text, text)


def loss_panel(history):
    """Curves of the training and validation loss by epoch, or of the cost of an emissivity run."""
    is_surrogate = "validation_loss" in history
    return curves.plot_loss(history) if is_surrogate else emissivity.plot_cost(history)
