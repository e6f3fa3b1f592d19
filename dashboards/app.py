"""The dashboard: header, choice of page, and the server.

The server writes no files and fetches nothing from other machines. By default only browsers on the
same machine can reach it.
"""

import errno
import logging
import traceback
from importlib import import_module

import panel as pn
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler
from tornado.websocket import WebSocketClosedError

from dashboards import layout
from dashboards.components import Header
from dashboards.library import Library
from dashboards.state import PageState, one_of
from seaice_lab.errors import InputError
from seaice_lab.figures import charts

# The browser shows the text and pictures of an executed notebook, but refuses its scripts, forms
# and requests.
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
PAGES = ("forecasts", "scores", "spectra", "scaling", "season", "analyses", "emissivity", "runs")


def session(library):
    """All that one tab of a browser shows, as a panel.Column."""
    state = PageState(pn.state.session_args)
    main = pn.Row(sizing_mode="stretch_width", margin=(8, 8), **layout.styled("page"))
    header = Header(pages=list(PAGES), sizing_mode="stretch_width", margin=0)

    def show_page():
        """Show the page of the state."""
        name = one_of(state.page, PAGES)
        state.correct(page=name)
        state.on_change = lambda names: None
        with main.param.update(loading=True):
            try:
                main[:] = import_module(f"dashboards.{name}").page(library, state)
            except InputError as error:
                main[:] = [layout.empty_state("This page cannot be shown", str(error))]
            except Exception:
                traceback.print_exc()
                text = "Something went wrong; the terminal of the server shows the error."
                main[:] = [layout.empty_state("This page cannot be shown", text)]
        header.page = name

    header.param.watch(lambda event: state.param.update(page=event.new), "page")
    state.show_page = show_page

    def begin():
        """Show the first page."""
        show_page()
        state.write()

    if pn.state.curdoc is None:  # a notebook
        begin()
    else:
        pn.state.curdoc.template = layout.PAGE_TEMPLATE
        pn.state.onload(begin)  # the browser already shows where the page will be
    return layout.stretched(header, state.bar, main, margin=0)


class Notebook(RequestHandler):
    """An executed notebook of a run, as a page that cannot run scripts or fetch anything."""

    def initialize(self, library):
        """Take the library of the server."""
        self.library = library

    def get(self):
        """Answer with the file, or with status 404."""
        run, name = self.get_argument("run", ""), self.get_argument("name", "")
        try:
            text = self.library.notebook(run, name)
        except (InputError, OSError, ValueError) as error:
            self.set_status(404)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"{error}\n")
            return
        self.set_header("Content-Security-Policy", SANDBOX)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(text)


def load_pages():
    """Import the pages and draw a figure, so that the first visitor does not wait for imports."""
    for name in PAGES:
        import_module(f"dashboards.{name}")
    charts.bokeh_figure(charts.overlay({"": charts.Curve([0, 1], [0, 1])}, "", ""))


def is_fault(record):
    """Whether a message of the log is about more than a browser that has gone."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, WebSocketClosedError | StreamClosedError)


def serve(
    folder,
    port=5006,
    address="localhost",
    websocket_origin=None,
    prefix="",
    show=False,
    listing_s=2.0,
):
    """Serve the runs of a folder until interrupted.

    Parameters
    ----------
    folder : str or Path
        Folder of runs; nothing outside it is served.
    port : int
    address : str
        Address of the network interface; with "localhost" only this machine can connect.
    websocket_origin : sequence of str, optional
        Hosts under which browsers reach the dashboard (behind a proxy).
    prefix : str
        Start of the path, such as "/user/name/proxy/5006", behind a proxy that keeps the path.
    show : bool
        Whether to open a browser.
    listing_s : float
        The folder is listed again after this number of seconds.

    Raises
    ------
    InputError
        If the folder cannot be read or the port is in use.
    """
    library = Library(folder, listing_s)
    prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
    pn.extension(raw_css=[layout.PAGE_STYLE], notifications=False)
    for name in ("asyncio", "tornado.application"):
        logging.getLogger(name).addFilter(is_fault)
    try:
        server = pn.serve(
            {"/": lambda: session(library)},
            title="Sea-Ice Lab",
            port=port,
            address=address,
            prefix=prefix,
            websocket_origin=list(websocket_origin or ()) or None,
            location=False,  # `dashboards.state` keeps the address
            extra_patterns=[("/notebook", Notebook, {"library": library})],
            unused_session_lifetime=60_000,
            check_unused_sessions=30_000,
            show=show,
            start=False,
            verbose=False,
        )
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        reason = f"port {port} of {address} cannot be used ({error.strerror})"
        raise InputError(f"{reason}; choose another with --port") from None
    print(f"{folder} at http://{address}:{server.port}{prefix}/ (Ctrl-C ends it)", flush=True)
    server.start()
    load_pages()
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        print("ended")
