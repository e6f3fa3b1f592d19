"""The dashboard as a whole: header, pages, and the server.

`serve` binds to this machine alone unless told otherwise; nothing is written, and nothing is
fetched from elsewhere.
"""

import errno
import traceback
from importlib import import_module

import panel as pn
from tornado.web import RequestHandler

from dashboards.address import Address
from dashboards.layout import HEADER, STYLE, TABS, notice
from dashboards.library import Library
from seaice_lab.errors import InputError

# A notebook shows its pictures and text; scripts, forms and requests are refused by the browser.
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
PAGES = ("forecasts", "scores", "spectra", "season", "emissivity", "runs")


def session(library):
    """All that one browser tab shows."""
    address = Address()
    chosen = address.one("page", PAGES, PAGES[0])
    place = pn.Row(sizing_mode="stretch_width", margin=(8, 8))
    tabs = pn.widgets.RadioButtonGroup(
        name="Page", options={name.capitalize(): name for name in PAGES}, value=chosen,
        stylesheets=[TABS], margin=0,
    )  # fmt: skip

    def show(name):
        place.loading = True
        address.put(page=name)
        try:
            place[:] = import_module(f"dashboards.{name}").page(library, address)
        except InputError as error:
            place[:] = [notice("This page cannot be shown", str(error))]
        except Exception:
            traceback.print_exc()
            text = "Something went wrong that the terminal of the server tells more about."
            place[:] = [notice("This page cannot be shown", text)]
        finally:
            place.loading = False

    def show_again():
        name = address.one("page", PAGES, PAGES[0])
        if name == tabs.value:
            show(name)
        tabs.value = name

    tabs.param.watch(lambda event: show(event.new), "value")
    show(chosen)
    address.on_return(show_again)
    title = pn.pane.HTML(
        "<h1 style='margin:0;font-size:18px;color:white'>Sea-Ice Lab</h1>", width=130
    )
    header = pn.Row(
        title, tabs, address.bar, stylesheets=[HEADER], sizing_mode="stretch_width", margin=0
    )
    return pn.Column(header, place, sizing_mode="stretch_width", margin=0)


class Notebook(RequestHandler):
    """An executed notebook of a run, as a page that may run nothing and fetch nothing."""

    def initialize(self, library):
        self.library = library

    def get(self):
        """Answer with the file, or with 404."""
        run, name = self.get_argument("run", ""), self.get_argument("name", "")
        try:
            if name not in self.library.notebooks(run):
                raise InputError(f"run {run} has no notebook {name}")
            text = self.library.path(run, "notebooks", name).read_bytes()
        except (InputError, OSError, ValueError) as error:
            self.set_status(404)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"{error}\n")
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", SANDBOX)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(text)


def serve(folder, port=5006, address="localhost", websocket_origin=None, prefix="", show=False):
    """Serve the runs of a folder until interrupted.

    Parameters
    ----------
    folder : str or Path
        Folder of runs; nothing outside it is served.
    port : int
    address : str
        Of the network interface; "localhost" lets nobody else in.
    websocket_origin : sequence of str, optional
        Hosts under which browsers reach the dashboard (behind a proxy).
    prefix : str
        Base of the address, such as "/user/name/proxy/5006", when a proxy passes it on.
    show : bool
        Open a browser.

    Raises
    ------
    InputError
        If the folder cannot be read or the port is in use.
    """
    library = Library(folder)
    prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
    pn.extension(raw_css=[STYLE], notifications=False)
    try:
        server = pn.serve(
            {"/": lambda: session(library)}, port=port, address=address, title="Sea-Ice Lab",
            websocket_origin=list(websocket_origin or ()) or None, prefix=prefix, show=False,
            location=False,  # `dashboards.address` keeps it
            extra_patterns=[("/notebook", Notebook, {"library": library})],
            unused_session_lifetime=60_000, check_unused_sessions=30_000,
            start=False, verbose=False,
        )  # fmt: skip
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise InputError(
            f"port {port} of {address} cannot be used ({error.strerror}); choose another with "
            "--port"
        ) from None
    print(f"{folder} at http://{address}:{server.port}{prefix}/ (Ctrl-C ends it)", flush=True)
    server.start()
    if show:
        server.show("/")
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        print("ended")
