"""The dashboard inside JupyterLab: an icon in its launcher, served by jupyter-server-proxy."""

import os
import sys
from pathlib import Path

RUNS = "SEAICE_LAB_RUNS"  # environment variable that names the folder of runs; "runs" without it


def server():
    """What jupyter-server-proxy must know to start the dashboard (an entry point of the package).

    Returns
    -------
    dict
        The proxy answers for the browser, which the hub has let in already; so the dashboard sees
        requests of its own machine alone and keeps refusing others.
    """
    return {
        "command": command,
        "timeout": 120,
        "request_headers_override": {"Origin": "http://localhost:{port}"},
        "launcher_entry": {
            "title": "Sea-Ice dashboard",
            "icon_path": str(Path(__file__).with_name("icon.svg")),
        },
    }


def command(port):
    """The command line that serves the dashboard at a port."""
    folder = Path(os.environ.get(RUNS, "runs"))
    folder.mkdir(parents=True, exist_ok=True)  # an empty page says how to make the first run
    return [sys.executable, "-m", "seaice_lab.cli", "dashboard",
            "--runs", str(folder), "--port", str(port)]  # fmt: skip
