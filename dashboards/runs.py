"""Runs: what each is, how far it has come, what it lacks, and its executed notebooks."""

from html import escape
from urllib.parse import urlencode

import panel as pn
import yaml

from dashboards.layout import bare, cards, controls, notice
from seaice_lab.errors import InputError
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

REFRESH_MS = 2000
LOG_FROM = 20.0  # a loss that falls by more than this factor is drawn on a logarithmic axis
LACKS = {
    "created": "not trained yet: `seaice-lab train`",
    "training": "training, or was stopped: the same `seaice-lab train` goes on",
    "trained": "no forecast yet: `seaice-lab forecast`",
    "forecast": "no scores yet: `seaice-lab evaluate`",
    "evaluated": "complete",
}
EMISSIVITY_LACKS = {
    "created": "not trained yet: `seaice-lab emissivity train`",
    "training": "training, or was stopped: the same `seaice-lab emissivity train` goes on",
    "trained": "complete",
    "inferred": "complete: new days with the network of another run",
}


def page(library, address):
    """Controls and main area of the page."""
    names = [row.name for row in library.runs()]
    first = (address.some("runs", names) or names or [None])[0]
    chosen = pn.widgets.Select(name="Run", options=names, value=address.one("run", names, first))
    none = notice(
        "No runs yet",
        f"`{library.folder.name}` holds none. Make one with `make demo`, or "
        "`seaice-lab train RUN`; it appears here by itself.",
    )
    listing = pn.pane.HTML(sizing_mode="stretch_width")
    listed = cards([listing], 400)
    detail = pn.Column(sizing_mode="stretch_width")
    shown = {}

    def refresh():
        if "callback" in shown and address.values.get("page") != "runs":
            shown["callback"].stop()  # another page is shown
            return
        rows = {row.name: row for row in library.runs()}
        none.visible, listed.visible, chosen.visible = not rows, bool(rows), bool(rows)
        listing.object = table(rows.values())
        if list(rows) != chosen.options:
            chosen.options = list(rows)
        row = rows.get(chosen.value)
        epochs = length(library, row)
        if shown.get("of") != (row, epochs):
            shown["of"] = row, epochs
            detail[:] = describe(library, row) if row else []

    def choose(_):
        address.put(run=chosen.value)
        refresh()

    chosen.param.watch(choose, "value")
    refresh()
    shown["callback"] = pn.state.add_periodic_callback(refresh, REFRESH_MS)
    return controls(chosen), pn.Column(none, listed, detail, sizing_mode="stretch_width")


def length(library, row):
    """Epochs of a run so far."""
    try:
        history = library.history(row.name) if row and row.kind != "?" else None
    except InputError:
        return None
    return 0 if history is None else len(history)


def table(rows):
    """All runs as an HTML table."""
    body = "".join(
        f"<tr><td>{escape(row.name)}</td><td>{escape(row.kind)}</td><td>{escape(row.created[:16])}"
        f"</td><td>{escape(row.state)}</td></tr>"
        for row in rows
    )
    return (
        "<style>table{border-collapse:collapse;font-size:13px;width:100%}"
        "td,th{text-align:left;padding:4px 12px;border-bottom:1px solid #e3e8ec;vertical-align:top}"
        "td:first-child,td:last-child{overflow-wrap:anywhere}</style>"
        f"<table><tr><th>Run</th><th>System</th><th>Created (UTC)</th><th>State</th></tr>{body}"
        "</table>"
    )


def describe(library, row):
    """Everything that is known of a run."""
    if row.kind == "?":
        return [notice("This run cannot be used", "The table above says why; the others work.")]
    parts = [notice_of(row)]
    try:
        history = library.history(row.name)
        if history is not None and len(history):
            parts.append(bare(losses(history)))
        run = library.run(row.name)
    except InputError as error:
        return [notice("This run cannot be read", str(error))]
    links = [
        f"<li><a href='notebook?{urlencode({'run': row.name, 'name': name})}' target='_blank' "
        f"rel='noopener'>{escape(name)}</a></li>"
        for name in library.notebooks(row.name)
    ]
    parts.append(pn.pane.HTML(
        f"<b>Executed notebooks</b><ul>{''.join(links)}</ul>" if links
        else "<b>Executed notebooks</b><br>none kept with this run"
    ))  # fmt: skip
    style = {"overflow": "auto", "font-size": "12px"}
    texts = [
        pn.Column(
            pn.pane.HTML(f"<b>{title}</b>"),
            pn.pane.Str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
                        styles=style, sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
        )
        for title, values in (("Where from", run.provenance), ("Configuration", run.config))
    ]  # fmt: skip
    return [cards([pn.Column(*parts, sizing_mode="stretch_width"), *texts], 330)]


def notice_of(row):
    """Name and state of a run, and what it lacks."""
    lacks = EMISSIVITY_LACKS if row.kind == "emissivity" else LACKS
    lack = lacks.get(row.state, row.state).replace("`", "")
    return pn.pane.HTML(
        f"<b style='font-size:15px;overflow-wrap:anywhere'>{escape(row.name)}</b><br>"
        f"{escape(row.kind)}, {escape(lack)}",
        sizing_mode="stretch_width",
    )


def losses(history):
    """Training and validation loss by epoch, or the cost by stage of the solver."""
    if "cost" in history:
        values = {"Cost": (range(1, len(history) + 1), history["cost"])}
        x_label, y_label = "Step of the solver", "Cost (an observation)"
    else:
        values = {
            label: (history["epoch"], history[column])
            for label, column in (("Training", "train_loss"), ("Validation", "validation_loss"))
            if column in history and history[column].notna().any()
        }
        x_label, y_label = "Epoch", "Loss (normalised)"
    positive = [value for _, losses in values.values() for value in losses if value > 0]
    steep = bool(positive) and max(positive) > LOG_FROM * min(positive)
    series = {
        label: charts.Curve(*points, colour, points=len(history) < 20)
        for (label, points), colour in zip(values.items(), COLOURS[1:], strict=False)
    }
    return charts.curves(series, x_label, y_label, "Loss", logarithmic="y" if steep else "")
