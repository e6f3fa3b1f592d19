"""The server: who may reach it, how it refuses to start, what it imports; and inside JupyterLab."""

import ast
import http.client
import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest
from browser import bar, go, images, settled, state, until

import dashboards
import seaice_lab

FOLDER = Path(dashboards.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "c2VhIGljZSBzZWEgaWNlIQ=="}  # fmt: skip


def imported(path):
    """Names of everything a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_pages_never_import_torch_or_the_command_line(module):
    names = imported(FOLDER / f"{module}.py")
    assert not {name for name in names if name.split(".")[0] == "torch"}
    assert "seaice_lab.cli" not in names


def test_only_the_command_line_knows_the_dashboard():
    root = Path(seaice_lab.__file__).parent
    knowing = {path.relative_to(root).as_posix() for path in root.rglob("*.py")
               if any(name.split(".")[0] == "dashboards" for name in imported(path))}  # fmt: skip
    assert knowing == {"cli.py"}


def started(*words):
    """What the command says when it cannot serve."""
    return subprocess.run(
        [sys.executable, "-m", "seaice_lab.cli", "dashboard", *map(str, words)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_missing_folder_is_one_sentence_and_status_two(tmp_path):
    done = started("--runs", tmp_path / "none", "--port", 0)
    assert done.returncode == 2
    assert done.stderr == (
        f"seaice-lab: {tmp_path}/none: no such folder of runs; make a run with `make demo`, or "
        "name the folder that holds yours with --runs\n"
    )


def test_a_port_in_use_is_one_sentence_and_its_server_stays_up(served, home):
    port = served.url.rstrip("/").rpartition(":")[2]
    done = started("--runs", home / "runs", "--port", port)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"seaice-lab: port {port} of localhost cannot be used")
    with urllib.request.urlopen(served.url, timeout=20) as answer:
        assert answer.status == 200


def test_only_this_machine_is_listened_to(served):
    listening = {one.laddr.ip for one in psutil.Process(served.process.pid).net_connections()
                 if one.status == psutil.CONN_LISTEN}  # fmt: skip
    assert listening and listening <= {"127.0.0.1", "::1"}


def test_pages_of_other_hosts_may_not_connect(served):
    host = served.url.split("/")[2]
    answers = []
    for origin in ("http://elsewhere.example", f"http://{host}"):
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", "/ws", headers=UPGRADE | {"Origin": origin})
        answers.append(connection.getresponse().status)
        connection.close()
    assert answers == [403, 101]


@pytest.fixture
def lab(home, tmp_path):
    """JupyterLab under the address that a hub gives it: (address, token)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {"SEAICE_LAB_RUNS": str(home / "runs"), "HOME": str(tmp_path),
                        "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}  # fmt: skip
    log = (tmp_path / "lab.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}",
         "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/anna/",
         "--IdentityProvider.token=secret", f"--ServerApp.root_dir={tmp_path}"],
        cwd=tmp_path, env=env, stdout=log, stderr=log,
    )  # fmt: skip
    url = f"http://localhost:{port}/user/anna/"

    def up():
        try:
            with urllib.request.urlopen(f"{url}api?token=secret", timeout=5) as answer:
                return json.load(answer)["version"]
        except OSError as error:
            raise AssertionError(f"{error}; {(tmp_path / 'lab.log').read_text()}") from None

    try:
        until(up, 120)
        yield url, "secret"
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(20)
        for child in psutil.wait_procs(children, 5)[1]:
            child.kill()
        log.close()


def test_jupyterlab_has_an_icon_that_opens_the_dashboard(chromium, lab):
    url, token = lab
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(f"{url}lab?token={token}")
    icon = page.locator(".jp-LauncherCard", has_text="Sea-Ice dashboard")
    icon.wait_for()
    assert until(lambda: icon.locator("img").evaluate("(image) => image.naturalWidth")) > 0
    with context.expect_page() as opened:
        icon.click()
    page = opened.value
    assert page.url.startswith(f"{url}seaice_lab/")
    settled(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    go(page, f"{url}seaice_lab/", page="forecasts", runs="a", lead=12)
    until(lambda: page.locator("canvas").count() >= 3)
    assert all(address.startswith((url, "data:", "blob:")) for address in asked)
    before = images(page)["a"]
    bar(page, "Lead time").press("ArrowRight")
    until(lambda: not (images(page)["a"][20:30] == before[20:30]).all())
    until(lambda: state(page)["lead"] == "24")
    assert page.evaluate("location.href").startswith(url)
    page.goto(f"{url}seaice_lab/?page=runs&run=a")
    settled(page)
    with context.expect_page() as opened:
        page.get_by_role("link", name="07_season.html").click()
    opened.value.get_by_role("heading", name="Season").wait_for()
    context.close()
    with urllib.request.urlopen(f"{url}seaice_lab/", timeout=20) as answer:  # of a stranger
        assert answer.url.startswith(f"{url}login")
