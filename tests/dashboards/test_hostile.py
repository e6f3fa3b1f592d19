"""Addresses, names and notebooks made to do harm do none."""

import csv
import io
import urllib.error
import urllib.request
from urllib.parse import quote

import numpy as np
import pytest
import xarray as xr
from browser import bar, go, settled, state, until, visit
from conftest import ENTRY

from dashboards.app import PAGES

HOSTILE = "<img src=x onerror=alert(1)>"

SCRIPT = quote("<script>alert(1)</script>")
HTML = f"variable={SCRIPT}&start={SCRIPT}&references={SCRIPT},%22%3E{SCRIPT}&other={SCRIPT}"
NUMBERS = "lead=nan&cell=inf&view=nan,inf,1,2&low=1e400&high=-inf&wide=nan"
QUERIES = {
    "numbers and html": f"{NUMBERS}&{HTML}",
    "order and paths": "lead=-5&cell=-1&view=5,5,5,5&low=3&high=1&wide=-1"
    "&runs=..%2f..%2fetc,/etc/passwd,a%2f..%2fb,%2e%2e&variable=__class__&start=..%2f",
    "size and bytes": "lead=1e8&cell=1e8&view=-1e8,1e8,-1e8,1e8&low=1e8&high=2e8&wide=1e-30"
    "&runs=%00,%ff%fe,a%00&page=%00&start=%00&%00=%00&=x&&&==&a[]=1&runs",
    "far and length": "view=5e8,6e8,5e8,6e8&cell=1.5&lead=12.7&wide=0"
    "&runs=" + "a," * 9000 + "&start=" + "x" * 9000,
    "unknown": "page=..%2fapp&runs=none",
}


@pytest.mark.parametrize("case", QUERIES)
def test_a_hostile_address_shows_an_ordinary_page(case, page, served):
    page.goto(f"{served.url}?{QUERIES[case]}")
    settled(page)
    until(lambda: page.locator("canvas").count() >= 3)
    bar(page, "Lead time").press("ArrowRight")
    until(lambda: state(page).get("lead"))
    assert 12 <= float(state(page)["lead"]) <= 96
    assert page.locator("script:has-text('alert')").count() == 0


def test_every_page_bears_hostile_addresses_and_going_back_to_them(page, served):
    own = f"runs=%ff,..%2f&score={SCRIPT}&run={SCRIPT}&tag=../x&day={SCRIPT}&point=nan&sensor=%00"
    own += f"&cycle=../a&window={SCRIPT}"
    go(page, served, page="runs")
    for name in PAGES:
        query = f"?page={name}&{NUMBERS}&{HTML}&{own}"
        page.evaluate("(query) => history.replaceState(null, '', query)", query)
        page.evaluate("history.pushState(null, '', '?page=none')")
        page.evaluate("history.back()")
        until(lambda: "other" not in state(page))  # the server has written the address anew
        assert state(page)["page"] == name
        page.locator("header a[aria-current]", has_text=name.capitalize()).wait_for()
        settled(page)
        until(lambda: page.locator("canvas").count() >= 1)
        assert page.locator("script:has-text('alert')").count() == 0
    page.get_by_role("cell", name="coarse").wait_for()


def test_an_address_too_long_is_refused_and_the_server_stays_up(page, served):
    try:
        with urllib.request.urlopen(f"{served.url}?runs={'a' * 200_000}", timeout=20) as answer:
            assert answer.status == 200
    except (urllib.error.HTTPError, ConnectionError) as error:
        assert getattr(error, "code", 400) in (400, 414, 431)
    go(page, served, page="runs")
    assert page.get_by_role("cell", name="coarse").count() == 1


def test_a_name_with_html_is_shown_as_text(page, served):
    # images are asked for where HTML is taken as such, which the listener of the page reports
    page.on("request", lambda r: r.url.endswith("/x") and page.context.faults.append(r.url))
    go(page, served, runs=f"a,{HOSTILE}", run=HOSTILE, references="persistence")
    for name in ("forecasts", "scores", "spectra", "runs"):
        visit(page, name)
        until(lambda: page.locator("canvas").count() >= 1)
        assert page.get_by_text(HOSTILE).count() >= 1
        assert page.locator("img[src=x]").count() == 0


def get(server, path):
    """Status, headers and text of an answer."""
    try:
        with urllib.request.urlopen(f"{server.url}{path}", timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_an_executed_notebook_is_shown_but_runs_and_fetches_nothing(page, served):
    status, headers, _ = get(served, "notebook?run=a&name=07_season.html")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"].split("; ")
    assert "sandbox" in policy and "default-src 'none'" in policy
    go(page, served, page="runs", run="a")
    refused = []
    page.context.on("requestfailed", lambda request: refused.append(request.failure))
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="07_season.html").click()
    notebook = opened.value
    notebook.get_by_role("heading", name="Season").wait_for()
    assert notebook.title() != "it ran"
    widths = notebook.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert widths == [0, 1]  # nothing from outside; what it holds itself is shown
    assert refused == ["csp"]
    # of which the browser speaks in its console, and no more
    said = page.context.faults
    said[:] = [text for text in said if not ("192.0.2.1" in text or "sandboxed" in text)]


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("a", "../config.yaml"), ("a", "..%2fconfig.yaml"), ("a", "%2e%2e/config.yaml"),
        ("a", "..%252fconfig.yaml"), ("a", "notes.txt"), ("a", "linked.html"), ("a", ""),
        ("a", "/etc/passwd"), ("a", "./07_season.html"),
        ("a", "../notebooks/07_season.html"), ("a", "07_season"), ("a", "x" * 5000),
        ("", "07_season.html"), ("..", "07_season.html"), ("b/../a", "07_season.html"),
        ("./a", "07_season.html"), ("a/notebooks/..", "07_season.html"), ("b", "07_season.html"),
        ("linked", "07_season.html"), ("broken", "07_season.html"), ("%00", "07_season.html"),
        ("%2e%2e%2fruns%2fa", "07_season.html"),
    ],
)  # fmt: skip
def test_nothing_but_notebooks_of_runs_is_handed_out(run, name, served):
    status, _, text = get(served, f"notebook?run={run}&name={name}")
    assert status in (400, 404)
    assert ENTRY["title"] not in text and "private" not in text and "store:" not in text


@pytest.mark.parametrize(
    "path",
    ["runs/a/config.yaml", "a/config.yaml", "static/../../../etc/passwd", "notebook/a",
     "static/%2e%2e/%2e%2e/app.py", "notebook/../a/notebooks/notes.txt"],
)  # fmt: skip
def test_no_other_file_is_served(path, served):
    status, _, text = get(served, path)
    assert status in (400, 403, 404) and "private" not in text and "root:" not in text


def test_the_table_of_scores_is_the_scores_in_the_file(page, served, home):
    go(page, served, page="scores", runs="a,b", references="persistence,climatology")
    with page.expect_download() as download:
        page.get_by_text("Table (CSV)").click()
    assert download.value.suggested_filename == "scores.csv"
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    checked = 0
    for run in ("a", "b"):
        table = xr.load_dataset(home / "runs" / run / "scores.nc", decode_timedelta=True)
        hours = table.lead_time.values / np.timedelta64(1, "h")
        for row in (row for row in rows if row["run"] == run):
            found = table.sel(source=row["source"]).isel(
                lead_time=int(np.flatnonzero(hours == float(row["lead_time_h"]))[0])
            )
            for score in ("rmse", "bias", "skill", "edge_error"):
                value = float(row[score]) if row[score] else np.nan
                np.testing.assert_allclose(value, float(found[score]), rtol=1e-6)
            checked += 1
    assert checked == len(rows) == 2 * 3 * 8
