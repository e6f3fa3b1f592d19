"""The dashboard inside JupyterLab: an icon in its launcher, served by jupyter-server-proxy."""

import os
import sys
from pathlib import Path

from seaice_lab.runs import project_folder

RUNS = "SEAICE_LAB_RUNS"  # environment variable with the folder of runs; "runs" by default


def server():
    """Settings with which jupyter-server-proxy starts the dashboard (an entry point).

    Returns
    -------
    dict
        The proxy sends the requests of a browser that the hub has admitted, with an origin on this
        machine. So the dashboard can refuse all requests with another origin.
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
    """The command line that serves the dashboard at a port, as a list of str."""
    folder = Path(os.environ.get(RUNS) or project_folder() / "runs")
    folder.mkdir(parents=True, exist_ok=True)  # an empty page says how to make the first run
    program = [sys.executable, "-m", "seaice_lab.cli", "dashboard"]
    return [*program, "--runs", str(folder), "--port", str(port)]
